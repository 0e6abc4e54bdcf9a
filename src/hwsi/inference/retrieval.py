"""What is like what: slides like a slide, tissue like words, reports like slides.

- ``similar`` compares slides by the mean of their patches, or by the slide encoder's vector; ``search`` finds slides by
  the region that the words fit best, since a finding is somewhere, not everywhere; ``search_slide`` finds regions and
  patches inside one slide.
- ``match`` pairs slides and reports at two scales, as they were aligned (DESIGN, objectives): the slide with the whole
  report, and each region with the sentence that fits it best.
- Scores are cosines, or sums of them; they rank, they are no probabilities. Equal scores keep the order of the index.
- Where slides are pooled by patient (``cases.py``), a patient's own slides are never a result of his.

Notation: S slides, C cases, R regions, Q queries, E width of the space of words.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.hierarchy.labels import LABEL
from hwsi.inference.answer import _rounded
from hwsi.inference.cases import Cases, unit
from hwsi.inference.index import SlideIndex, patch_mean, slide_vector
from hwsi.inference.places import Box, Scale, place_box, place_label, seen
from hwsi.inference.report import sentences
from hwsi.inference.space import Space, check_weights

Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Likeness = Literal["patches", "slide"]

_CHUNK = 4096
# "R3: tumour" cites a region; the R1 of "R1 resection" is the residual tumour's
_CITED = re.compile(LABEL.pattern + r":\s*")


@dataclass(frozen=True)
class Hit:
    """One result among slides, cases or reports.

    Attributes:
        name: of the slide, the patient or the report. score: higher is more alike.
        slides: of the case (one without a manifest); empty for a report.
        label, box: the region that decided, and where it lies in level-0 pixels, if one did; ``slide`` it is on.
    """

    name: str
    score: float
    slides: tuple[str, ...] = ()
    slide: str = ""
    label: str = ""
    box: Box | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Place:
    """A region or patch of a slide that words fit: ``box`` in level-0 pixels, ``score`` its cosine with the words."""

    scale: Scale
    label: str
    box: Box
    score: float


@dataclass(frozen=True)
class Found:
    """Places of one slide, best first within each scale."""

    text: str
    slide: str
    slide_id: str
    places: tuple[Place, ...]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; floats rounded to 6 digits."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]

    def evidence(self) -> dict[str, Any]:
        """As ``features.write_evidence`` takes it, to write GeoJSON that QuPath opens."""
        places = [{**asdict(p), "contours": (), "supports": self.text} for p in self.places]
        return {"question": self.text, "text": "", "evidence": places, "provenance": {"slide_id": self.slide_id}}


def top(scores: Float32, k: int) -> Int:
    """Columns (Q, min(k, n)) of the highest scores of each row (Q, n), best first; ties in order of the columns.

    Columns at minus infinity are no candidates: they come last, and the caller drops them.
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def similar(
    index: SlideIndex,
    query: SlideFeatures,
    cases: Cases,
    *,
    k: int = 10,
    by: Likeness = "patches",
    more: Sequence[SlideFeatures] = (),
) -> tuple[Hit, ...]:
    """Cases whose tissue is most like a slide's.

    Args:
        index: to search. cases: of its slides. k: how many.
        query: the slide; if it is in the index, its own case is left out.
        by: what is compared: the mean of the patches (of what tissue), or the slide encoder's vector.
        more: further slides of the same patient: together they are one case.

    Raises:
        HwsiError: FEATURES_MISMATCH (the query was encoded by others).
    """
    table = index.patches if by == "patches" else index.slide
    scale, encoder = ("patch", index.patch_encoder) if by == "patches" else ("slide", index.slide_encoder)
    vector = patch_mean if by == "patches" else slide_vector
    total = np.zeros(table.shape[1])
    own: set[int] = set()
    for features in (query, *more):
        check_weights(features, scale, encoder, index.weights[encoder])
        total += vector(features, encoder)
        row = index.find(features)
        if row is not None:
            own.add(int(cases.of[row]))
    scores = unit(total)[None] @ cases.pool(table).T
    scores[0, sorted(own)] = -np.inf
    return case_hits(scores[0], cases, k)


def search(index: SlideIndex, space: Space, text: str, cases: Cases, *, k: int = 10) -> tuple[Hit, ...]:
    """Cases with the region that words fit best; the region is named.

    Raises:
        HwsiError: QUESTION_EMPTY; OPTION_INVALID, FEATURES_MISMATCH (an index without words, or of another tower).
    """
    index.check(space)
    cosine = index.words_region @ space.texts([_words(text)])[0]
    of_case = cases.of[index.region_of]
    scores = np.full(len(cases), -np.inf, np.float32)
    np.maximum.at(scores, of_case, cosine)
    found = []
    for hit, case in _chosen(scores, cases, k):
        rows = np.flatnonzero(of_case == case)
        row = int(rows[cosine[rows].argmax()])
        found.append(
            Hit(
                hit.name,
                hit.score,
                hit.slides,
                index.names[index.region_of[row]],
                index.region_name(row),
                _corners(index.region_box[row]),
            )
        )
    return tuple(found)


def search_slide(
    features: SlideFeatures,
    space: Space,
    text: str,
    *,
    k: int = 5,
    scales: Sequence[Scale] = ("region", "patch"),
) -> Found:
    """Regions and patches of a slide that words fit best: "show me nuclear pleomorphism".

    Args:
        features: of the slide. space: of words. k: how many at each scale.

    Raises:
        HwsiError: QUESTION_EMPTY, FEATURES_MISMATCH.
    """
    vector, places = space.texts([_words(text)])[0], space.tissue(features)
    found: list[Place] = []
    for scale in scales:
        cosine = np.where(seen(features, scale, space.meets["patch"]), getattr(places, scale) @ vector, -np.inf)
        for i in top(cosine[None], k)[0].tolist():
            if cosine[i] > -np.inf:
                label, box = place_label(features, scale, i), place_box(features, scale, i)
                found.append(Place(scale, label, box, float(cosine[i])))
    return Found(text, features.slide_name, features.slide_id, tuple(found), features.warnings)


def match(index: SlideIndex, space: Space, reports: Sequence[str], cases: Cases) -> Float32:
    """Scores (C, Q) of cases with reports: the sum of three cosines.

    The slide with the report; each region with the sentence that fits it best, in the mean; each sentence with the
    region that fits it best, in the mean. Where sentences begin with a citation (``R3:``), only these count as being
    about regions; the labels are taken out, since they count the regions of one slide. Of a case with several slides
    the slides' vectors are pooled, and its regions are those of all its slides.

    Raises:
        HwsiError: QUESTION_EMPTY (an empty report); OPTION_INVALID, FEATURES_MISMATCH.
    """
    index.check(space)
    whole = cases.pool(index.words_slide) @ space.texts([_plain(_words(text)) for text in reports]).T
    cut = [_about_regions(text) for text in reports]
    known = {text: i for i, text in enumerate(dict.fromkeys(s for part in cut for s in part))}
    columns = [[known[s] for s in part] for part in cut]
    vectors = space.texts(list(known))
    of_case = cases.of[index.region_of]
    of_regions = np.zeros(whole.shape, np.float32)
    best_region = np.full((len(cases), len(known)), -1, np.float32)
    for start in range(0, len(of_case), _CHUNK):  # regions by sentences is more than memory holds
        rows = slice(start, start + _CHUNK)
        cosine = index.words_region[rows] @ vectors.T
        np.maximum.at(best_region, of_case[rows], cosine)
        for q, mine in enumerate(columns):
            np.add.at(of_regions[:, q], of_case[rows], cosine[:, mine].max(1))
    of_regions /= np.maximum(np.bincount(of_case, minlength=len(cases)), 1)[:, None]
    of_sentences = np.stack([best_region[:, mine].mean(1) for mine in columns], 1)
    return np.asarray(whole + of_regions + of_sentences, np.float32)


def report_hits(scores: Float32, names: Sequence[str], k: int) -> tuple[Hit, ...]:
    """The best reports (at most k) of scores (Q,)."""
    return tuple(Hit(names[i], float(scores[i])) for i in top(scores[None], k)[0].tolist())


def case_hits(scores: Float32, cases: Cases, k: int) -> tuple[Hit, ...]:
    """The best cases (at most k) of scores (C,); those at minus infinity are none."""
    return tuple(hit for hit, _ in _chosen(scores, cases, k))


def _chosen(scores: Float32, cases: Cases, k: int) -> list[tuple[Hit, int]]:
    order = [i for i in top(scores[None], k)[0].tolist() if scores[i] > -np.inf]
    return [(Hit(cases.names[i], float(scores[i]), cases.slides[i]), i) for i in order]


def _words(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise HwsiError(Reason.QUESTION_EMPTY, "there are no words to search for", "say what to look for")
    return text


def _plain(report: str) -> str:
    """Without labels: they count the regions of one slide."""
    return _CITED.sub("this region: ", report)


def _about_regions(report: str) -> list[str]:
    """Sentences that are about regions: those that begin with a citation, without it; all, where none does."""
    every = [report[a:b] for a, b in sentences(report)]
    found = [_CITED.sub("", s, count=1) for s in [s for s in every if _CITED.match(s)] or every]
    return [s[:1].upper() + s[1:] for s in found]


def _corners(row: Int) -> Box:
    x0, y0, x1, y1 = (int(v) for v in row)
    return x0, y0, x1, y1
