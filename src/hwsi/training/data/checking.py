"""What records say, against the features they speak of and the model that is to read them: before the first step.

- A slide is there, whole, and encoded by what the model reads; files are opened for their attributes alone.
- Words spell none of this tokenizer's special tokens, and they fit behind their slide. Only where they might not is a
  slide read, to count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from hwsi.errors import HwsiError
from hwsi.inference.key_regions import key_regions
from hwsi.model.config import PLACEHOLDERS
from hwsi.model.prompt import question_text
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.rows import special_words
from hwsi.training.data.problems import Problem, settle
from hwsi.training.data.reading import read_records
from hwsi.training.data.records import ConversationRecord, PreferenceRecord, Record, ReportRecord, SlideRecord
from hwsi.training.data.rows import MARKS, Processor, prefix_tokens
from hwsi.training.data.store import Entry, FeatureStore

R = TypeVar("R", bound=Record)
Fault = tuple[str, str, str]  # kind, field, what


@dataclass(frozen=True)
class Loaded(Generic[R]):
    """Records to train on.

    Attributes:
        records: the sound ones.
        told: what the user must know: what was left out, which fields were not read; empty for nothing.
    """

    records: tuple[R, ...]
    told: tuple[str, ...]


def load_records(
    kind: type[R],
    paths: str | Path | Iterable[str | Path],
    *,
    store: FeatureStore | None = None,
    processor: Processor | None = None,
    needs: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    listing: str | Path | None = None,
) -> Loaded[R]:
    """Read records and check all of them.

    Args:
        kind: which records. paths: their files.
        store: of the features, for records about slides.
        processor: of the model that is to read them.
        needs: instead of a processor's, scale -> id of the encoder whose features are read.
        skip_bad: leave bad records out and tell so, instead of raising.
        listing: a CSV that gets the list of all problems, if there is one.

    Raises:
        HwsiError: DATA_INVALID (problems, or no sound record), DATA_MISSING, EXTRA_MISSING.
    """
    reading = read_records(kind, paths)
    problems = list(reading.problems)
    records: list[R] = []
    against = _Against(store, processor, needs)
    for record, place in zip(reading.records, reading.places, strict=True):
        faults = [Problem(fault, *place, field, what) for fault, field, what in against.faults(record)]
        problems += faults
        if not faults:
            records.append(record)
    left_out = settle(problems, reading.total, skip_bad=skip_bad, listing=listing)
    if not records:
        settle([Problem("no_records", str(paths), 0, "", "holds no record to train on")], 0)
    told = [left_out] if left_out else []
    told += [f"field '{name}' of {n} records is not read" for name, n in reading.ignored.items()]
    return Loaded(tuple(records), tuple(told))


class _Against:
    """Checks a record against features and model; what is known of a slide is kept."""

    def __init__(
        self, store: FeatureStore | None, processor: Processor | None, needs: Mapping[str, str] | None
    ) -> None:
        self._store, self._processor = store, processor
        self._needs = dict(needs or (processor.encoders if processor else {}))
        self._dims = processor.dims if processor else {}
        self._prefix_most = prefix_tokens(processor) if processor else None
        self._special = special_words(processor.tokenizer, PLACEHOLDERS.values()) if processor else []
        self._slides: dict[str, list[Fault]] = {}
        self._prefixes: dict[str, int] = {}

    def faults(self, record: Record) -> list[Fault]:
        """All that is wrong with it."""
        found: list[Fault] = []
        if isinstance(record, SlideRecord) and self._store is not None:
            if record.slide not in self._slides:
                self._slides[record.slide] = self._of_slide(record.slide, self._store)
            found += self._slides[record.slide]
        if self._processor is not None:
            found += self._of_words(record, self._processor, sound_slide=not found)
        return found

    def _of_slide(self, slide: str, store: FeatureStore) -> list[Fault]:
        try:
            entry = store.find(slide)
        except HwsiError as error:
            return [(error.reason.value, "slide", error.what)]
        if not entry.lengths.regions:
            return [("no_regions", "slide", f"'{slide}' has no region in {entry.path}")]
        return [("features_mismatch", "slide", what) for what in self._mismatches(entry)]

    def _mismatches(self, entry: Entry) -> Iterable[str]:
        for scale, encoder in self._needs.items():
            # what that fusion reads of cells is one vector a patch
            at = "patch" if scale == "cell" and isinstance(self._processor, HwsiResampleProcessor) else scale
            widths = entry.widths[at]
            if encoder not in widths:
                have = ", ".join(sorted(widths)) or "none"
                yield f"{entry.path} (preset '{entry.preset}') has no {scale} encoder '{encoder}' (it has: {have})"
            elif widths[encoder] != self._dims.get(scale, widths[encoder]):
                dim = self._dims[scale]
                yield f"{entry.path}: {scale} '{encoder}' is {widths[encoder]} wide, the model reads {dim}"

    def _of_words(self, record: Record, processor: Processor, *, sound_slide: bool) -> list[Fault]:
        found: list[Fault] = []
        for text in record.words():
            token = next((t for t in self._special if t in text), None)
            if token is not None:
                found.append(("special_token", "", f"spells the special token {token!r}"))
        if found or not isinstance(record, SlideRecord) or self._store is None or not sound_slide:
            return found
        words, room = _longest(record, processor), int(processor.tokenizer.model_max_length)
        assert self._prefix_most is not None
        if words + self._prefix_most(self._store.lengths(record.slide)) <= room:
            return found
        before = self._prefix(record.slide, processor, self._store)
        if words + before > room:
            what = f"needs about {words} tokens behind the {before} of its slide, the model reads {room}"
            found.append(("too_long", "", what))
        return found

    def _prefix(self, slide: str, processor: Processor, store: FeatureStore) -> int:
        """Tokens before the words, counted."""
        if isinstance(processor, HwsiResampleProcessor):
            return 0
        if slide not in self._prefixes:
            read = key_regions(store.get(slide), processor.encoders["region"])
            self._prefixes[slide] = len(processor.prefix(read))
        return self._prefixes[slide]


def _longest(record: SlideRecord, processor: Processor) -> int:
    """Tokens of the longest dialogue that is made of a record."""
    if isinstance(record, ReportRecord):
        dialogues = [[text] for text in record.words()]
    elif isinstance(record, PreferenceRecord):
        question = question_text(record.question, record.choices)
        dialogues = [[question, record.chosen], [question, record.rejected]]
    else:
        assert isinstance(record, ConversationRecord)
        dialogues = [list(record.words())]
    return max(
        sum(len(ids) + MARKS for ids in processor.tokenizer(texts, add_special_tokens=False)["input_ids"])
        for texts in dialogues
    )
