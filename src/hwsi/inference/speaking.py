"""How a studied slide gets its words: from its model, or from a server that holds the same language model.

- What the words rest on is measured on the ids that come back, whoever said them.

Notation: P tokens of a slide, D width.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.inference.guard import LabelGuard, ReportGuard
from hwsi.inference.resting import Resting, Said
from hwsi.inference.streaming import Pieces, ReadSlide, speak_together
from hwsi.inference.tasks import REPORT_PROMPT
from hwsi.inference.vllm import Prompt, Vllm, embedded, end_tokens

Stream = Callable[[str], None]
Check = Callable[[], None]
Apart = Callable[[Stream | None, Check], Said]
"""Waits for words, in any thread: given where their pieces go, and what raises once they are no longer wanted."""
REPORT_REGIONS = 8
"""A report that ends with a sentence for each region has so many at most."""


class Speaking(Resting):
    """The part of a studied slide that says words.

    Attributes:
        speaker: who says the words of open questions, where it is not the model itself; all else stays its own.
        features: what the model reads.
    """

    speaker: Vllm | None = None
    features: SlideFeatures
    _model: Any
    _processor: Any

    @abstractmethod
    def _say_all(self, questions: Sequence[str], max_new_tokens: int, streams: Sequence[Stream | None]) -> list[Said]:
        """The model's greedy words to each question."""

    @property
    @abstractmethod
    def _slide_embeds(self) -> Tensor:
        """(P, D): what stands before every question, as the language model reads it."""

    def apart(self, question: str, max_new_tokens: int) -> Apart:
        """An open question made ready for the ``speaker``; then its words are waited for without this model.

        Errors: as of ``ask``; of what it gives, those of :mod:`hwsi.inference.vllm_client`.
        """
        assert self.speaker is not None
        speaker, guard, ids = self.speaker, self._guard(question), self._processor.question(question)
        self._check_room(len(self._slide_embeds) + len(ids) + max_new_tokens)
        embeds = torch.cat([self._slide_embeds, embedded(self._model, ids)])
        prompt = Prompt(embeds, partial(embedded, self._model))

        def wait(stream: Stream | None, check: Check) -> Said:
            pieces = Pieces(self._processor, stream)
            speaker.speak(prompt, pieces, max_new_tokens=max_new_tokens, guard=guard, check=check)
            return Said(ids, pieces.ids, pieces.text)

        return wait

    def _spoken(
        self, prefix: ReadSlide, questions: Sequence[str], most: int, streams: Sequence[Stream | None]
    ) -> list[Said]:
        """What is said behind a slide that was read, all questions in one batch."""
        if self.speaker is not None:
            waits = [self.apart(question, most) for question in questions]
            return [wait(stream, lambda: None) for wait, stream in zip(waits, streams, strict=True)]
        ids = [self._processor.question(question) for question in questions]
        self._check_room(len(prefix) + max(map(len, ids)) + most)
        pieces = [Pieces(self._processor, stream) for stream in streams]
        guards = [self._guard(question) for question in questions]
        speak_together(self._model, prefix, ids, pieces, max_new_tokens=most, guards=guards)
        return [Said(asked, p.ids, p.text) for asked, p in zip(ids, pieces, strict=True)]

    def _say(self, question: str, max_new_tokens: int, stream: Stream | None) -> Said:
        return self._say_all([question], max_new_tokens, [stream])[0]

    def _check_room(self, tokens: int) -> None:
        """Refuse what is longer, with the slide, than the model reads (HwsiError QUESTION_TOO_LONG)."""
        room = int(self._processor.tokenizer.model_max_length)
        if tokens > room:
            what = f"slide and question need {tokens} tokens, the model reads {room}"
            raise HwsiError(Reason.QUESTION_TOO_LONG, what, "ask in fewer words")

    def _guard(self, question: str) -> LabelGuard:
        known, ends = self._tissue.labels, end_tokens(self._model)
        if question == REPORT_PROMPT and getattr(self._processor, "region_reports", False):
            return ReportGuard(self._processor, known, ends, self._told_of())
        return LabelGuard(self._processor, known, ends)

    def _told_of(self) -> list[str]:
        """Labels of the regions that a report tells of: those with the most tissue, by number."""
        tissue = self.features.hierarchy.regions.tissue
        regions = [node for node in self._nodes if node.scale == "region"]
        most = sorted(regions, key=lambda node: (-float(tissue[node.index]), node.index))[:REPORT_REGIONS]
        return [node.label for node in sorted(most, key=lambda node: node.index)]
