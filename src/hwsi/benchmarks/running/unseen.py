"""The model without any slide: the same words before and behind, and no tissue between them.

- What it says depends on the words alone, so each wording is asked once, whatever the number of slides.
- A model with tissue in its prompt (``interleave``) reads the prompt of no slide; one that reads a slide through
  tokens before all words (``resample``) has none before them.
"""

from collections.abc import Sequence
from typing import Any

from transformers import Cache, DynamicCache

from hwsi.inference.streaming import Pieces, ReadSlide, speak
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.scoring import prefill


class _Nothing:
    """What a model remembers of no slide: no tokens."""

    def __len__(self) -> int:
        return 0

    def copy(self, rows: int) -> Cache:
        """An empty cache."""
        return DynamicCache()


class WithoutSlide:
    """A model that is asked about nothing.

    Args:
        model, processor: as :func:`hwsi.inference.loading.load_model` gives them.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        inside = isinstance(model, HwsiForConditionalGeneration)
        self._prefix: ReadSlide = prefill(model, processor, processor.prefix(None)) if inside else _Nothing()

    def say(self, question: str, choices: Sequence[str] | None = None, *, max_new_tokens: int) -> str:
        """Its greedy words. Raises: HwsiError (QUESTION_EMPTY, QUESTION_INVALID)."""
        pieces = Pieces(self._processor, None)
        ids = self._processor.question(question, choices)
        speak(self._model, self._prefix, ids, pieces, max_new_tokens=max_new_tokens)
        return pieces.text
