"""A vLLM server says the words; what they rest on is still measured here.

- What is sent are embeddings: the slide's tokens of the visual part, and the question's words. vLLM holds the language
  model alone.
- It attends causally and counts positions on from 0. So do ``fusion: resample`` (its tokens stand before all words) and
  ``visual_mixing: full``. With ``none`` and ``hier`` tissue does not see its neighbours: no vLLM can hold that.
- Greedy, with what a model's ``generation_config`` could bring along set against it.
- A label that the slide lacks is no option here either (``guard.py``): the request is given up at such a token, the
  likeliest ones are asked for, and another goes on behind the one that is taken.
- One short prompt at the start shows that the server has the same weights: its likeliest words and their probabilities.

Notation: T tokens of a prompt, D width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hwsi.errors import HwsiError, Reason
from hwsi.inference.guard import LabelGuard
from hwsi.inference.streaming import Pieces
from hwsi.inference.vllm_client import SERVE_THIS, VllmClient
from hwsi.model.modeling import HwsiForConditionalGeneration

_LIKELIEST = 20
"""Tokens that are asked for at once; vLLM gives no more unless it is told to (``--max-logprobs``)."""
_SAME_NATS = 0.3
"""Two servings of the same weights differ by about 0.1 in half precision, where logits have steps of 1/8."""
_GREEDY = {"temperature": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
_PROBE = "What is the diagnosis?"


@dataclass(frozen=True)
class Prompt:
    """A question behind a slide, and how what was said goes on behind it.

    Attributes:
        embeds: (T, D). words: ids (n,) to their embeddings (n, D).
    """

    embeds: Tensor
    words: Callable[[Sequence[int]], Tensor]

    def behind(self, ids: Sequence[int]) -> Tensor:
        """(T + n, D): the prompt with what was said."""
        return torch.cat([self.embeds, self.words(ids)]) if ids else self.embeds


class Vllm:
    """The language model of a session, held by a vLLM server; may be used from any thread.

    Args:
        client: the server. model: the name that it serves it under. ends: tokens that end an answer.
    """

    def __init__(self, client: VllmClient, model: str, ends: Sequence[int]) -> None:
        self._client, self._ends = client, list(ends)
        self._settings = {"model": model, "stop_token_ids": self._ends, **_GREEDY}

    def speak(
        self, prompt: Prompt, pieces: Pieces, *, max_new_tokens: int, guard: LabelGuard, check: Callable[[], None]
    ) -> None:
        """As :func:`hwsi.inference.streaming.speak`.

        Args:
            check: called before each token; raises if the words are no longer wanted.

        Errors: of :meth:`VllmClient.complete`.
        """
        while len(pieces.ids) < max_new_tokens and not self._ended(pieces.ids):
            said = len(pieces.ids)
            if self._until_refused(prompt, pieces, max_new_tokens - said, guard, check):
                break
            check()
            likeliest = list(self.likeliest(prompt.behind(pieces.ids)))
            pieces.put(guard.first(pieces.ids, likeliest))
        pieces.end()

    def likeliest(self, prompt: Tensor) -> dict[int, float]:
        """The likeliest tokens behind a prompt (T, D) and their log-probabilities, in nats, the likeliest first."""
        settings = {**self._settings, "max_tokens": 1, "logprobs": _LIKELIEST, "return_tokens_as_token_ids": True}
        found: dict[int, float] = {}
        with closing(self._client.complete(prompt, **settings)) as choices:
            for choice in choices:
                for step in (choice.get("logprobs") or {}).get("top_logprobs") or []:
                    found |= {int(name.removeprefix("token_id:")): float(value) for name, value in step.items()}
        if not found:
            raise HwsiError(Reason.VLLM_REFUSED, "the vLLM server gave no log-probabilities", "take a newer vLLM")
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _until_refused(
        self, prompt: Prompt, pieces: Pieces, most: int, guard: LabelGuard, check: Callable[[], None]
    ) -> bool:
        """Take tokens up to one that the guard refuses; whether the server came to an end by itself."""
        request = self._client.complete(prompt.behind(pieces.ids), max_tokens=most, **self._settings)
        with closing(request) as choices:
            for choice in choices:
                if choice.get("token_ids") is None:
                    raise HwsiError(Reason.VLLM_REFUSED, "the vLLM server gives no ids of tokens", "take a newer vLLM")
                for token in choice["token_ids"]:
                    check()
                    if not guard.allows(pieces.ids, token):
                        return False
                    pieces.put(token)
        return True

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self._ends


def connect(client: VllmClient, model: Any, processor: Any) -> Vllm:
    """The server as the speaker of a model, once it was seen to hold the same language model.

    Args:
        model, processor: of either kind, as loaded.

    Errors: option_invalid (a model that vLLM cannot hold; no embeddings taken), weights_mismatch (another model),
    vllm_unreachable, vllm_refused.
    """
    if isinstance(model, HwsiForConditionalGeneration) and model.config.visual_mixing != "full":
        what = f"vLLM attends causally and cannot hold a model with visual_mixing '{model.config.visual_mixing}'"
        raise HwsiError(
            Reason.OPTION_INVALID, what, "use one with fusion 'resample' or visual_mixing 'full', or leave out --vllm"
        )
    speaker = Vllm(client, client.served(), end_tokens(model))
    words = embedded(model, processor.question(_PROBE))
    theirs = speaker.likeliest(words)
    with torch.inference_mode():
        hidden = model.model.language_model(inputs_embeds=words[None], use_cache=False).last_hidden_state
        ours = model.lm_head(hidden[0, -1]).float().log_softmax(-1)
    if max(theirs) >= len(ours):
        apart = float("inf")
    else:
        apart = sum(abs(float(ours[token]) - value) for token, value in theirs.items()) / len(theirs)
    if not apart <= _SAME_NATS:
        what = f"the vLLM server at {client.url} holds another model: its likeliest words are {apart:.2g} nats off"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, SERVE_THIS)
    return speaker


def end_tokens(model: Any) -> list[int]:
    """Tokens that end an answer."""
    end = model.generation_config.eos_token_id
    return list(end) if isinstance(end, list) else [end]


@torch.inference_mode()
def embedded(model: Any, ids: Sequence[int]) -> Tensor:
    """Words (n,) as the language model reads them: (n, D)."""
    table = model.get_input_embeddings()
    out: Tensor = table(torch.tensor(list(ids), device=table.weight.device))
    return out
