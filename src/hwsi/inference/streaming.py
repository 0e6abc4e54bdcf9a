"""Words as they come: greedy decoding behind a slide that was read once, and tokens to pieces of text.

- One pass over the question, then one token a pass, on a copy of the slide's cache: the first word costs only the
  question. (``model.generate`` gives the same tokens, a test says, at a fixed price per call.)
- A piece is given out only when its characters are whole: a character may take several tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from transformers import Cache

_BROKEN = "\N{REPLACEMENT CHARACTER}"  # what half a character decodes to


class ReadSlide(Protocol):
    """A slide as the language model remembers it."""

    def __len__(self) -> int:
        """How many tokens it took."""
        ...

    def copy(self, rows: int) -> Cache:
        """Its keys and values, for so many rows."""
        ...


class Decodes(Protocol):
    """A processor, as far as words are made of tokens."""

    def decode(self, ids: Any) -> str:
        """Ids to words, without special tokens."""
        ...


class Pieces:
    """Receives tokens and hands out pieces of text that join to the whole.

    Attributes:
        ids: all tokens so far. text: all words given out so far.
    """

    def __init__(self, processor: Decodes, stream: Callable[[str], None] | None) -> None:
        self._processor, self._stream = processor, stream
        self.ids: list[int] = []
        self.text = ""

    def put(self, token: int) -> None:
        """Take a token."""
        self.ids.append(token)
        text = self._processor.decode(self.ids)
        if not text.endswith(_BROKEN):
            self._give(text)

    def end(self) -> None:
        """Nothing more comes: give what is left, whole or not."""
        self._give(self._processor.decode(self.ids))

    def _give(self, text: str) -> None:
        piece = text[len(self.text) :]
        self.text = text
        if piece and self._stream is not None:
            self._stream(piece)


@torch.inference_mode()
def speak(
    model: Any,
    prefix: ReadSlide,
    question: Sequence[int],
    pieces: Pieces,
    *,
    max_new_tokens: int,
) -> None:
    """Put the likeliest token after the likeliest token into ``pieces``, up to and with the end token.

    Args:
        model: of either kind. prefix: the slide that it has read.
        question: ids of the processor's ``question``.
        max_new_tokens: at most so many.
    """
    device = model.device
    end = model.generation_config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}
    past = prefix.copy(1)
    ids = torch.tensor([list(question)], device=device)
    start = len(prefix)
    for _ in range(max_new_tokens):
        positions = torch.arange(start, start + ids.shape[1], device=device)[None]
        # an explicit mask: with positions alone a gap would be read as the start of another sequence
        mask = torch.ones(1, start + ids.shape[1], dtype=torch.int64, device=device)
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        token = int(out.logits[0, -1].float().argmax())
        pieces.put(token)
        if token in ends:
            break
        start += ids.shape[1]
        ids = torch.tensor([[token]], device=device)
    pieces.end()


def token_ends(processor: Decodes, ids: Sequence[int]) -> list[int]:
    """For each token, where its words end in the decoded text (characters)."""
    return [len(processor.decode(list(ids[: t + 1]))) for t in range(len(ids))]
