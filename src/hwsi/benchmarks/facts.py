"""Report facts: what a report of a phantom slide states, and how much of it is true.

- A fact is (place, attribute, value): the place is a region's label or empty for the slide. The truth knows every one.
- The phantom's own grammar is read by cues and values, sentence by sentence, so the order of sentences and of clauses
  does not matter, nor which paraphrase was taken; "no", "without", "absent", "free of" negate what they stand with.
- *found*: stated and true. *missed*: in the true report and not stated. *invented*: stated and false. What is true of
  the slide but is not in the true report (another region) is found, not invented; what lies too near a threshold to
  have a value is not judged.
- Each artefact and each tissue of a region is a fact of its own, and that a tissue is most of a region is another.
- Precision is found / (found + invented), recall is the share of the true report's facts that were found.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hwsi.phantom.measure import ARTEFACTS, CONTENTS, PATTERNS
from hwsi.phantom.report import ALSO, MIXED, TUMOROUS, region_clauses, slide_facts
from hwsi.phantom.spec import DIAGNOSES, ORGAN_OF, spec_of
from hwsi.phantom.truth import cited

Place = str
Key = tuple[Place, str]
Fact = tuple[Place, str, str]
LabelOf = Callable[[int, int], str | None]

_NEGATION = re.compile(r"\b(?:no|not|without|absent|free of|lacks?|neither|nor)\b")
_CLAUSES = re.compile(r"[;,]| but | while | whereas ")
_PARTS = re.compile(r" and | with (?!no\b)|(?<=\w) (?=without |with no )")
_SENTENCES = re.compile(r"(?<=\.)\s+")
_PLACE = re.compile(r"^(R\d+|\{R:\d+,\d+\})(?:\.P\d+)?:\s*")
_PRESENCE = {
    "nucleoli": r"\bnucleoli\b",
    "necrosis": r"\bnecro(?:sis|tic)\b",
    "germinal": r"\bgerminal cent(?:re|er)s?\b",
    "keratin": r"\bkeratin\w*",
    "mucin": r"\bmucin\b",
    "vascular_invasion": r"\b(?:vascular invasion|invasion of vessels)\b",
}
_TUBULES = ("more than 75 %", "10 to 75 %", "less than 10 %")
_EXTENTS = ("less than a third", "about half", "more than two thirds")
_AMOUNTS = ("few", "moderate", "many")
# attribute -> a cue that must stand in the clause, and the values, one of which stands there too
_VALUED: dict[str, tuple[str, tuple[str, ...]]] = {
    "grade": (r"\bgrade\b", ("1", "2", "3")),
    "tubule_score": (r"\btubule", _TUBULES),
    "pleomorphism_score": (r"\bpleomorphism\b", ("mild", "moderate", "marked")),
    "mitosis_score": (r"\bmitotic activity\b", ("low", "intermediate", "high")),
    "til": (r"\binflammatory cells\b", _AMOUNTS),
    "inflammatory": (
        r"\b(?:among them|of them|they are|predominate)\b",
        ("lymphocytes", "plasma cells"),
    ),
    "focality": (r"\b(?:focus|foci)\b", ("one focus", "several foci")),
    "extent": (r"\bof the tissue\b", _EXTENTS),
    "content": (r"\b(?:predominant tissue|most of the tissue|most of what)\b", CONTENTS),
    "goblet_cells": (r"\bgoblet cells\b", ("few", "many")),
    "pattern": (r"\b(?:growth|grows)\b", PATTERNS[1:]),
    "specimen": (
        r"\bfragments?\b",
        ("one tissue fragment", "two tissue fragments", "three tissue fragments"),
    ),
}
_OF_REGION: dict[str, tuple[str, tuple[str, ...]]] = {
    "pattern": (r"\bgrowth\b", PATTERNS[1:]),
    "pleomorphism_score": (r"\bnuclei\b", ("mild", "moderate", "marked")),
    "mitosis_score": (r"\bmitoses\b", ("many",)),
    "til": (r"\binflammatory cells\b", _AMOUNTS),
}
_OF_TUMOUR = ("pattern", "pleomorphism_score", "mitosis_score")
_MARGIN = 0.05  # of a region's tissue: not a patch of the sixteen that it has
_REGION_PRESENCE = ("germinal", "necrosis", "keratin", "mucin")


def _one_of(values: Iterable[str], text: str) -> str | None:
    """The value that stands in ``text`` as whole words; None if none or several do."""
    there = [v for v in values if re.search(rf"(?<!\w){re.escape(v)}(?!\w)", text)]
    return there[0] if len(there) == 1 else None


def parse(text: str) -> frozenset[Fact]:
    """The facts that a report or caption states.

    Args:
        text: sentences; those about a region begin with its label, ``R3:`` (or ``{R:row,col}:`` as the truth has it).
    """
    found: set[Fact] = set()
    for sentence in _SENTENCES.split(text.strip()):
        place = _PLACE.match(sentence)
        body = " ".join((sentence[place.end() :] if place else sentence).lower().rstrip(". ").split())
        found |= _of_region(place[1], body) if place else _of_slide(body)
    return frozenset(found)


def _present(clause: str, names: Iterable[str]) -> Iterable[tuple[str, str]]:
    negated = bool(_NEGATION.search(clause))
    for name in names:
        if re.search(_PRESENCE[name], clause):
            yield name, "absent" if negated else "present"


def _of_slide(body: str) -> set[Fact]:
    found: set[Fact] = set()
    if re.search(r"\bno tumour\b", body):
        return {("", "neoplastic", "no")}
    diagnosis = max((d for d in ORGAN_OF if d in body), key=len, default=None)
    rest = body
    if diagnosis:
        rest = body.replace(diagnosis, " ")
        if not _NEGATION.search(body.partition(diagnosis)[0]):
            found.add(("", "diagnosis", diagnosis))
    organ = _one_of(DIAGNOSES, rest)
    if organ and re.search(rf"\b{organ} (?:tissue|specimen)", rest):
        found.add(("", "organ", organ))
    if re.search(r"\bartefacts?\b|\bcovered by\b", rest):
        kinds = [a for a in ARTEFACTS if re.search(rf"\b{a}\b", rest)]
        return found | {("", "artefacts", kind) for kind in kinds or ("none",)}
    for clause in _CLAUSES.split(rest):
        found |= {("", *fact) for fact in _present(clause, _PRESENCE)}
        for name, (cue, values) in _VALUED.items():
            value = _one_of(values, clause) if re.search(cue, clause) else None
            if value and not _NEGATION.search(clause):
                found.add(("", name, value))
    return found


def _of_region(place: Place, body: str) -> set[Fact]:
    found: set[Fact] = set()
    parts = [
        p for c in _CLAUSES.split(body) for p in re.split(r" and | with (?!no\b)|(?<=\w) (?=without |with no )", c)
    ]
    named = {c for p in parts if not _NEGATION.search(p) for c in CONTENTS if re.search(rf"\b{c}\b", p)}
    found |= {(place, "content", c) for c in named}
    found |= {(place, "predominant", c) for c in named if f"mostly {c}" in body}
    for part in parts:
        found |= {(place, *fact) for fact in _present(part, _REGION_PRESENCE)}
        for name, (cue, values) in _OF_REGION.items():
            value = _one_of(values, part) if re.search(cue, part) else None
            if value and not _NEGATION.search(part):
                found.add((place, name, value))
    return found


@dataclass(frozen=True)
class TrueFacts:
    """What is true of a slide.

    Attributes:
        required: facts of the true report. true: every fact that would be true of the slide or one of its regions.
        unclear: facts, and (place, attribute), that have no clear value: a statement of them is not judged.
    """

    required: frozenset[Fact]
    true: frozenset[Fact]
    unclear: frozenset[Key | Fact]

    def only(self, *attributes: str) -> "TrueFacts":
        """The same with only these attributes of the slide required, as a caption states them."""
        kept = frozenset(f for f in self.required if not f[0] and f[1] in attributes)
        return TrueFacts(kept, self.true, self.unclear)


_UNCLEAR_OF = {
    "fragments": "specimen", **{n: n for n in (*_PRESENCE, *_VALUED) if n not in ("specimen", "content")},
}  # fmt: skip


def facts_of(record: dict[str, Any], label_of: LabelOf | None = None) -> TrueFacts:
    """The facts of a phantom slide.

    Args:
        record: its ``truth.json``.
        label_of: (row, column) of a region -> its label in a reader's tree; without it places are ``{R:row,col}``.
            A region without a label is left out.
    """

    def place_of(row: int, col: int) -> str | None:
        return f"{{R:{row},{col}}}" if label_of is None else label_of(row, col)

    spec = spec_of(record)
    slide = record["slide"]
    stated: set[Fact] = {("", "organ", spec.organ)}
    stated |= {("", "artefacts", kind) for kind in slide["artefacts"] or ("none",)}
    stated |= {("", name, value) for name, value in slide_facts(spec, slide) if name != "artefacts"}
    true, required = set(stated), set(stated)
    unclear: set[Key | Fact] = {("", fact) for name, fact in _UNCLEAR_OF.items() if slide.get(name) is None}
    parts = sorted(slide["contents"].values(), reverse=True)
    if parts[0] - parts[1] < _MARGIN:
        unclear.add(("", "content"))
    shown = set(cited(record["report"]))
    for region in record["regions"]:
        row, col = region["grid"]
        place = place_of(row, col)
        if place is None or not region["sentence"]:
            continue
        attrs = region["attrs"]
        ours = _of_region(place, _told(attrs, spec.organ))
        true |= ours | _tissues(place, attrs)
        # its growth and nuclei are true where there is too little tumour to tell of them, too
        true |= {f for f in _of_region(place, _told(attrs, spec.organ, tumorous=0)) if f[1] in _OF_TUMOUR}
        unclear |= _near(place, attrs)
        if (row, col) in shown:
            little = attrs["contents"]["tumour"] < TUMOROUS + _MARGIN
            required |= {f for f in ours if not (little and f[1] in _OF_TUMOUR)}
        for name in (*_REGION_PRESENCE, *_OF_REGION):
            value = attrs[name]
            if value is None:
                unclear.add((place, name))
            elif value is False:
                true.add((place, name, "absent"))
    required -= {f for f in required if f in unclear or f[:2] in unclear}
    return TrueFacts(frozenset(required), frozenset(true), frozenset(unclear))


def _told(attrs: dict[str, Any], organ: str, tumorous: float = TUMOROUS) -> str:
    return " ".join(words for _, words in region_clauses(attrs, organ, tumorous)).lower()


def _tissues(place: Place, attrs: dict[str, Any]) -> set[Fact]:
    """Tissues that clearly take a part of a region, whether its sentence has room for them or not."""
    return {(place, "content", name) for name, share in attrs["contents"].items() if share >= ALSO + _MARGIN}


def _near(place: Place, attrs: dict[str, Any]) -> set[Key | Fact]:
    """What a region's sentence says or not by less than the margin."""
    first, second = sorted(attrs["contents"].values(), reverse=True)[:2]
    near: set[Key | Fact] = {
        (place, "content", name)
        for name, share in attrs["contents"].items()
        if abs(share - ALSO) < _MARGIN and share < first
    }
    return near | ({(place, "predominant")} if abs(second - MIXED) < _MARGIN else set())


CAPTION = ("organ", "diagnosis", "grade")
"""What every caption states, where it has a value."""


@dataclass(frozen=True)
class Score:
    """Facts of one or several texts; add scores to pool them.

    Attributes:
        found: attribute -> stated and true. recalled: of these, those that the true report has.
        missed: in the true report, not stated. invented: stated and false.
    """

    found: Counter[str]
    recalled: Counter[str]
    missed: Counter[str]
    invented: Counter[str]

    @classmethod
    def none(cls) -> "Score":
        """Of no text."""
        return cls(Counter(), Counter(), Counter(), Counter())

    def __add__(self, other: "Score") -> "Score":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Score(*(a + b for a, b in pairs))

    def precision(self, attribute: str | None = None) -> float:
        """Share of what was stated that is true; nan if nothing was."""
        return _share(self._n("found", attribute), self._n("invented", attribute))

    def recall(self, attribute: str | None = None) -> float:
        """Share of the true report that was stated; nan if it is empty."""
        return _share(self._n("recalled", attribute), self._n("missed", attribute))

    def f1(self, attribute: str | None = None) -> float:
        """Harmonic mean of precision and recall; 0 where either is 0 or nothing was stated."""
        p, r = self.precision(attribute), self.recall(attribute)
        if r != r:  # nothing was to be said
            return float("nan") if p != p else p
        return 2 * p * r / (p + r) if p == p and p + r > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Counts and figures, overall and by attribute; JSON-ready (None for nan)."""

        def row(attribute: str | None) -> dict[str, Any]:
            counts = {name: self._n(name, attribute) for name in vars(self)}
            figures = {n: getattr(self, n)(attribute) for n in ("precision", "recall", "f1")}
            return counts | {n: None if v != v else round(v, 4) for n, v in figures.items()}

        names = sorted({*self.found, *self.missed, *self.invented})
        return {"all": row(None), "by_attribute": {name: row(name) for name in names}}

    def _n(self, name: str, attribute: str | None) -> int:
        counts: Counter[str] = getattr(self, name)
        return counts.total() if attribute is None else counts[attribute]


def _share(a: int, b: int) -> float:
    return a / (a + b) if a + b else float("nan")


def score(text: str, truth: TrueFacts) -> Score:
    """Compare what a text states with what is true."""
    return score_facts(parse(text), truth)


def score_facts(stated: Iterable[Fact], truth: TrueFacts) -> Score:
    """The same of facts."""
    said = {f for f in stated if f not in truth.unclear and f[:2] not in truth.unclear}
    found = said & truth.true

    def count(facts: Iterable[Fact]) -> Counter[str]:
        return Counter(f"region {name}" if place else name for place, name, _ in facts)

    return Score(
        count(found), count(found & truth.required), count(truth.required - said), count(said - truth.true)
    )  # fmt: skip
