"""Words that can only cite what is there: while an answer is decoded, a label that the slide lacks is no option.

- A token is refused if it would end a label that is not on this slide, or begin one that none on it continues; then the
  next likeliest is taken. All other words are free.
- It works on text, not on tokens: a label may be one token or several, with any tokenizer.
- A valid label is no true one: what a citation is worth is measured (``evidence/verdict.py``).
- A model that was taught to end a report with a sentence for each region (``R1: mostly stroma.``) is held to that: once
  it has begun, none is left out, told of twice or out of its order.
"""

import re
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from hwsi.hierarchy.labels import LABEL
from hwsi.inference.streaming import Decodes

_CANDIDATES = 64
"""So many of the likeliest tokens are tried; if none will do, the likeliest stands and the answer says so."""
_SENTENCES = re.compile(r"(?<=\.)\s+")
_TELLS = re.compile(r"(R[1-9]\d*)(?::|$)")


class LabelGuard:
    """Chooses tokens so that only known labels are written.

    Args:
        processor: makes words of tokens. known: labels of the slide. ends: tokens that end an answer.
    """

    def __init__(self, processor: Decodes, known: Collection[str], ends: Collection[int]) -> None:
        self._processor, self._known, self._ends = processor, frozenset(known), frozenset(ends)
        self._begun = frozenset(label[:n] for label in known for n in range(1, len(label) + 1))

    def choose(self, ids: Sequence[int], logits: Tensor) -> int:
        """The likeliest token (of logits (V,)) after ``ids`` that cites nothing unknown."""
        best = int(logits.argmax())
        if self.allows(ids, best):
            return best
        return self.first(ids, torch.topk(logits, min(_CANDIDATES, len(logits))).indices.tolist())

    def first(self, ids: Sequence[int], order: Sequence[int]) -> int:
        """The first token of ``order`` (likeliest first) that cites nothing unknown after ``ids``."""
        return next((token for token in order if self.allows(ids, token)), order[0])

    def allows(self, ids: Sequence[int], token: int) -> bool:
        """Whether what is written with ``token`` has only labels that are known, or may become so."""
        ended = token in self._ends
        text = self._processor.decode([*ids] if ended else [*ids, token])
        found = list(LABEL.finditer(text))
        for m in found:
            open_ended = m.end() == len(text) and not ended
            if m.group() not in (self._begun if open_ended else self._known):
                return False
        return True


class ReportGuard(LabelGuard):
    """Chooses the tokens of a report whose last sentences tell of one region each.

    Args:
        regions: their labels, in order. The others are those of :class:`LabelGuard`.
    """

    def __init__(
        self, processor: Decodes, known: Collection[str], ends: Collection[int], regions: Sequence[str]
    ) -> None:
        super().__init__(processor, known, ends)
        self._regions = list(regions)

    def allows(self, ids: Sequence[int], token: int) -> bool:
        """Whether it cites nothing unknown, and goes on with the region that is due."""
        if not super().allows(ids, token):
            return False
        ended = token in self._ends
        *whole, last = _SENTENCES.split(self._processor.decode([*ids] if ended else [*ids, token]))
        told = [m[1] for sentence in whole if (m := _TELLS.match(sentence))]
        if ended:
            last_told = _TELLS.match(last)
            told += [last_told[1]] if last_told else []
            return not told or set(told) >= set(self._regions)
        due = next((label for label in self._regions if label not in told), None)
        if not told and not _TELLS.match(last):
            return True  # of the slide, so far
        head = f"{due}:" if due else ""
        return head.startswith(last) or bool(due and last.startswith(head))
