"""What both processors do: words that may not be typed, and rows of different lengths in one batch."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from hwsi.errors import HwsiError, Reason

Row = dict[str, Tensor]
IGNORE = -100
"""Label of a token that is not to be learned."""


def special_words(tokenizer: Any, more: Iterable[str] = ()) -> list[str]:
    """All words that a tokenizer takes for something else than words."""
    added = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    return sorted(added | {*tokenizer.all_special_tokens, *more})


def plain(text: str, special: Iterable[str]) -> str:
    """The text itself. Errors: question_invalid, where it spells a special token."""
    found = next((token for token in special if token in text), None)
    if found is not None:
        raise HwsiError(Reason.QUESTION_INVALID, f"the text holds the special token {found!r}", "leave it out")
    return text


def not_empty(question: str) -> None:
    """Errors: question_empty."""
    if not question.strip():
        raise HwsiError(Reason.QUESTION_EMPTY, "the question is empty", "ask in words")


def stack(values: Sequence[Tensor]) -> Tensor:
    """Stack tensors whose axes differ in length, zeros (False) behind."""
    shape = [max(sizes) for sizes in zip(*(v.shape for v in values), strict=True)]
    out = values[0].new_zeros(len(values), *shape)
    for i, value in enumerate(values):
        out[i][tuple(slice(n) for n in value.shape)] = value
    return out
