"""Words as they come: greedy decoding behind a slide that was read once, and tokens to pieces of text.

- One pass over the question, then one token a pass, on a copy of the slide's cache: the first word costs only the
  question. (``model.generate`` gives the same tokens, a test says, at a fixed price per call.)
- Questions about the same slide share its cache and one pass per token (:func:`speak_together`).
- A piece is given out only when its characters are whole: a character may take several tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
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


class Guard(Protocol):
    """Decides which token is taken."""

    def choose(self, ids: Sequence[int], logits: Tensor) -> int:
        """The token after ``ids``, of logits (V,)."""
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
    speak_together(model, prefix, [question], [pieces], max_new_tokens=max_new_tokens)


@torch.inference_mode()
def speak_together(
    model: Any,
    prefix: ReadSlide,
    questions: Sequence[Sequence[int]],
    pieces: Sequence[Pieces],
    *,
    max_new_tokens: int,
    guards: Sequence[Guard] | None = None,
) -> None:
    """:func:`speak` for several questions about one slide at once; each is answered as alone.

    A row sees the slide and its own words at its own positions: the same sums as alone, in float32 up to their order
    (1e-5 of a logit). Rows that have ended leave the batch. ``guards``, one for each, may take other tokens than the
    likeliest.
    """
    device, size = model.device, len(prefix)
    end = model.generation_config.eos_token_id
    ends = set(end) if isinstance(end, list) else {end}
    rows, length = len(questions), max(map(len, questions))
    ids = torch.zeros(rows, length, dtype=torch.int64, device=device)
    there = torch.zeros_like(ids)
    for n, question in enumerate(questions):  # on the left, so that all answers begin at the same column
        ids[n, length - len(question) :] = torch.tensor(list(question), device=device)
        there[n, length - len(question) :] = 1
    positions = size + (there.cumsum(1) - 1).clamp(min=0)
    # an explicit mask: with positions alone a gap would be read as the start of another sequence
    mask = torch.cat([torch.ones(rows, size, dtype=torch.int64, device=device), there], 1)
    past = prefix.copy(rows)
    speaking, guarding = list(pieces), list(guards or ())
    for step in range(max_new_tokens):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        last = out.logits[:, -1].float()
        tokens = last.argmax(-1)
        if guarding:
            each = zip(guarding, speaking, last, strict=True)
            chosen = [guard.choose(row.ids, logits) for guard, row, logits in each]
            tokens = torch.tensor(chosen, device=device)
        for row, token in zip(speaking, tokens.tolist(), strict=True):
            row.put(token)
        stay = [n for n, token in enumerate(tokens.tolist()) if token not in ends]
        if not stay or step + 1 == max_new_tokens:
            break
        if len(stay) < len(speaking):
            kept = torch.tensor(stay, device=device)
            past.batch_select_indices(kept)
            tokens, mask, positions = tokens[kept], mask[kept], positions[kept]
            speaking, guarding = [speaking[n] for n in stay], [guarding[n] for n in stay if guarding]
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
    for row in pieces:
        row.end()


def token_ends(processor: Decodes, ids: Sequence[int]) -> list[int]:
    """For each token, where its words end in the decoded text (characters)."""
    return [len(processor.decode(list(ids[: t + 1]))) for t in range(len(ids))]
