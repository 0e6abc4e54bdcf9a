"""What the stages read: one item per row of a batch, made from a record and a feature file when it is asked for.

- ``ReportRows`` (project), ``ConversationRows`` (instruct), ``PreferenceRows`` (prefer) give rows of the model's
  processor, loss on the assistant's words alone; ``AlignRows`` gives features and report.
- An item is asked for by its index, or by (epoch, index) as ``buckets.py`` gives it: then views differ by epoch.
- A slide is cut to its key regions as at inference, and a row is made without knowing its batch mates.
- Several dialogues about one slide share a row where the model can tell them apart (``fusion: interleave``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import BatchFeature

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.inference.key_regions import MAX_REGIONS, key_regions
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.processor import HwsiProcessor
from hwsi.model.prompt import question_text
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.rows import Row
from hwsi.training.data.augment import PLAIN, Augmentation, draw_view, words_of
from hwsi.training.data.records import ConversationRecord, PreferenceRecord, ReportRecord, same_text
from hwsi.training.data.resample_rows import resample_row
from hwsi.training.data.store import FeatureStore, Lengths
from hwsi.training.nano.language import hidden

Processor = HwsiProcessor | HwsiResampleProcessor
Dialogue = list[dict[str, str]]
At = int | tuple[int, int]
"""Which item: its index, or (epoch, index)."""

MARKS = 8
"""At most so many tokens a chat template puts around one turn."""
STAYS = "stays"
"""(T,) bool of a row whose view hides something: False where a token is hidden from all words."""


@dataclass(frozen=True)
class Asked:
    """One slide and independent dialogues about it."""

    slide: str
    dialogues: tuple[Dialogue, ...]


class _Slides:
    """Makes rows of slides and dialogues, each visit as its place in the run says."""

    def __init__(self, store: FeatureStore, processor: Processor, augment: Augmentation, seed: int) -> None:
        if isinstance(processor, HwsiResampleProcessor) and augment != PLAIN:
            what = "a model with fusion 'resample' reads what the feature file kept, so views of it cannot differ"
            raise HwsiError(Reason.OPTION_INVALID, what, "leave out 'augment'")
        self.store, self.processor, self.augment, self.seed = store, processor, augment, seed

    def rows(self, at: At, count: int, slide: str, groups: Sequence[Sequence[Dialogue]]) -> list[Row]:
        """A row for each group of dialogues, all with the same view of the slide."""
        rng = _rng(at, count, self.seed)
        whole = self.store.get(slide)
        if isinstance(self.processor, HwsiResampleProcessor):
            return [resample_row(self.processor, whole, dialogue) for (dialogue,) in groups]
        read = key_regions(whole, self.processor.encoders["region"])
        view = draw_view(read, self.augment, rng)
        told = [
            [[{**turn, "content": words_of(turn["content"], read.hierarchy, view)} for turn in d] for d in group]
            for group in groups
        ]
        first = told[0][0][0]
        system = first["content"] if first["role"] == "system" else None
        prefix = self.processor.prefix(view.features, relevance=view.relevance, kept_patches=view.kept, system=system)
        rows = [self.processor.encode(prefix, group) for group in told]
        if self.augment.hide:
            seen = hidden(prefix, rng)
            for row in rows:
                row[STAYS] = torch.ones(len(row["input_ids"]), dtype=torch.bool)
                row[STAYS][: len(prefix)] = seen
        return rows


class SlideRows(Dataset[Any]):
    """Rows of slides and dialogues.

    Args:
        asked: what is said of which slide.
        store: of the features.
        processor: of the model, of either fusion.
        augment: how views of a slide differ by epoch.
        seed: of the views.

    An item is a row of ``processor.encode``: tensors without a batch axis, with ``labels``, and :data:`STAYS` where
    the view hides something. :class:`Collate` makes a batch of some.

    Raises:
        HwsiError: OPTION_INVALID (augmentation with ``fusion: resample``); an item raises as ``FeatureStore.get`` and
            ``processor.encode``.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        store: FeatureStore,
        processor: Processor,
        *,
        augment: Augmentation = PLAIN,
        seed: int = 0,
    ) -> None:
        self.asked = tuple(asked)
        self._slides = _Slides(store, processor, augment, seed)

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, at: At) -> Row:
        asked = self.asked[_index(at)]
        return self._slides.rows(at, len(self), asked.slide, [asked.dialogues])[0]

    @cached_property
    def costs(self) -> list[int]:
        """At most so many tokens each item has; no features are read for it."""
        store, processor = self._slides.store, self._slides.processor
        words, prefix = _words_tokens(processor, [asked.dialogues for asked in self.asked]), prefix_tokens(processor)
        return [n + prefix(store.lengths(a.slide)) for n, a in zip(words, self.asked, strict=True)]


class ReportRows(SlideRows):
    """Slides with their report and, if there is one, their caption, asked for as at inference (stage ``project``)."""

    def __init__(
        self, records: Iterable[ReportRecord], store: FeatureStore, processor: Processor, **options: Any
    ) -> None:
        asked = []
        for record in records:
            said = [(REPORT_PROMPT, record.report), (CAPTION_PROMPT, record.caption)]
            dialogues = [_turns(prompt, text) for prompt, text in said if text]
            together = [tuple(dialogues)] if isinstance(processor, HwsiProcessor) else [(d,) for d in dialogues]
            asked += [Asked(record.slide, group) for group in together]
        super().__init__(asked, store, processor, **options)


class ConversationRows(SlideRows):
    """Conversations, each learned whole (stage ``instruct``).

    Args:
        per_row: so many conversations about one slide stand in one row, which reads the slide once for all; more than
            one needs ``fusion: interleave``.
    """

    def __init__(
        self,
        records: Iterable[ConversationRecord],
        store: FeatureStore,
        processor: Processor,
        *,
        per_row: int = 1,
        **options: Any,
    ) -> None:
        if per_row > 1 and not isinstance(processor, HwsiProcessor):
            what = "a model with fusion 'resample' reads one conversation a row"
            raise HwsiError(Reason.OPTION_INVALID, what, "leave out 'per_row'")
        # dialogues of one row share the words before the slide
        groups: dict[tuple[str, str | None], list[Dialogue]] = {}
        for record in records:
            dialogue = record.messages()
            system = dialogue[0]["content"] if dialogue[0]["role"] == "system" else None
            groups.setdefault((record.slide, system), []).append(dialogue)
        asked = [
            Asked(slide, tuple(group[start : start + per_row]))
            for (slide, _), group in groups.items()
            for start in range(0, len(group), per_row)
        ]
        super().__init__(asked, store, processor, **options)


class PreferenceRows(Dataset[Any]):
    """Two rows of one slide and question: ``{"chosen": Row, "rejected": Row}``, with the same prefix and the same view
    (stage ``prefer``). Arguments as of :class:`SlideRows`.
    """

    def __init__(
        self,
        records: Sequence[PreferenceRecord],
        store: FeatureStore,
        processor: Processor,
        *,
        augment: Augmentation = PLAIN,
        seed: int = 0,
    ) -> None:
        self.records = tuple(records)
        self._slides = _Slides(store, processor, augment, seed)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, at: At) -> dict[str, Row]:
        record = self.records[_index(at)]
        chosen, rejected = self._slides.rows(at, len(self), record.slide, [[d] for d in _both(record)])
        return {"chosen": chosen, "rejected": rejected}

    @cached_property
    def costs(self) -> list[int]:
        """At most so many tokens both rows have together."""
        store, processor = self._slides.store, self._slides.processor
        words, prefix = _words_tokens(processor, [_both(record) for record in self.records]), prefix_tokens(processor)
        return [n + 2 * prefix(store.lengths(r.slide)) for n, r in zip(words, self.records, strict=True)]


@dataclass(frozen=True)
class AlignItem:
    """A slide and its report, for the contrastive stage; collation to tensors is that stage's.

    Attributes:
        index: of the record. slide, patient: names.
        features: of the slide, cut to its key regions and turned if asked for.
        relevance: (N,) float32 that chooses the patches that are kept, or None. kept: patches of a region, or None.
        report: the text, in the labels of ``features``.
        text_id: equal for reports with the same words, which share positives.
    """

    index: int
    slide: str
    patient: str
    features: SlideFeatures
    relevance: NDArray[np.float32] | None
    kept: int | None
    report: str
    text_id: int


class AlignRows(Dataset[Any]):
    """Slides and reports (stage ``align``).

    Args:
        region_encoder: id of the encoder whose vectors choose the key regions of a large slide. Others as of
            :class:`SlideRows`; nothing can be hidden here.
        max_regions: at most so many of a slide.
    """

    def __init__(
        self,
        records: Sequence[ReportRecord],
        store: FeatureStore,
        region_encoder: str,
        *,
        augment: Augmentation = PLAIN,
        seed: int = 0,
        max_regions: int = MAX_REGIONS,
    ) -> None:
        if augment.hide:
            raise HwsiError(Reason.OPTION_INVALID, "nothing is hidden from a contrast", "leave out 'hide'")
        self.records = tuple(records)
        self._store, self._encoder, self._augment, self._seed = store, region_encoder, augment, seed
        self._max_regions = max_regions
        known: dict[str, int] = {}
        self.text_ids = [known.setdefault(same_text(r.report), len(known)) for r in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, at: At) -> AlignItem:
        index = _index(at)
        record = self.records[index]
        rng = _rng(at, len(self), self._seed)
        read = key_regions(self._store.get(record.slide), self._encoder, self._max_regions)
        view = draw_view(read, self._augment, rng)
        report = words_of(record.report, read.hierarchy, view)
        return AlignItem(
            index, record.slide, record.patient, view.features, view.relevance, view.kept, report, self.text_ids[index]
        )

    @cached_property
    def costs(self) -> list[int]:
        """Patches of each slide that are read."""
        lengths = [self._store.lengths(r.slide) for r in self.records]
        return [max(1, n.patches * min(n.regions, self._max_regions) // max(n.regions, 1)) for n in lengths]


class Collate:
    """Rows to a batch of the model's inputs, padded on the right; of preferences all chosen rows, then the rejected.

    Args:
        processor: of the model.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, items: Sequence[Any]) -> BatchFeature:
        """The batch; what a view hides is zero in its ``attention_mask``."""
        if "chosen" in items[0]:
            items = [item[side] for side in ("chosen", "rejected") for item in items]
        batch = self.processor.pad([{k: v for k, v in row.items() if k != STAYS} for row in items], side="right")
        for mask, row in zip(batch["attention_mask"], items, strict=True):
            if STAYS in row:
                mask[: len(row[STAYS])] *= row[STAYS].long()
        return batch


def prefix_tokens(processor: Processor) -> Callable[[Lengths], int]:
    """At most how many tokens stand before the words about a slide of some size."""
    if isinstance(processor, HwsiResampleProcessor):
        return lambda lengths: 0  # its learned queries: the same for all slides
    head = len(processor.prefix(None)) + 1
    of_region, of_patch = (len(processor._tokenize(label)) for label in (f"R{MAX_REGIONS}", "P256"))

    def most(lengths: Lengths) -> int:
        regions = min(lengths.regions, MAX_REGIONS)
        patches = min(lengths.patches, regions * processor.kept_patches)
        return head + regions * (of_region + 1) + patches * (of_patch + 2)

    return most


def _both(record: PreferenceRecord) -> list[Dialogue]:
    question = question_text(record.question, record.choices)
    return [_turns(question, record.chosen), _turns(question, record.rejected)]


def _turns(question: str, answer: str) -> Dialogue:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _words_tokens(processor: Processor, asked: Sequence[Sequence[Dialogue]]) -> list[int]:
    """Tokens of all dialogues of each item, with a few for the marks of every turn."""
    texts = [turn["content"] for dialogues in asked for d in dialogues for turn in d]
    if not texts:
        return []
    ids = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    sizes = iter([len(i) + MARKS for i in ids])
    return [sum(next(sizes) for d in dialogues for _ in d) for dialogues in asked]


def _index(at: At) -> int:
    return at[1] if isinstance(at, tuple) else at


def _rng(at: At, count: int, seed: int) -> np.random.Generator:
    epoch, index = at if isinstance(at, tuple) else (0, at)
    return np.random.default_rng([seed, epoch, index % count])
