"""Which class a slide, a region or a patch belongs to: by words alone, or by labelled slides.

- **By similarity**: the class whose prompts (``prompts.py``) lie nearest in the space of tissue and words.
- **By likelihood**: the class whose name the language model holds likeliest as the answer to the set's question. Only
  of slides, and good only where it was taught such options.
- **By a probe** (``probe.py``): learned from labelled slides of an index, from the slide encoder's vector and the mean
  of the patches side by side.

Notation: C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.inference.answer import _rounded
from hwsi.inference.cases import Cases, unit
from hwsi.inference.closed import option_probs
from hwsi.inference.index import SlideIndex
from hwsi.inference.places import Box, Scale, place_box, place_label, seen
from hwsi.inference.probe import Probe, cross_predict, fit_probe
from hwsi.inference.prompts import PromptSet
from hwsi.inference.space import Space

if TYPE_CHECKING:
    from hwsi.inference.studied import StudiedSlide

Float64 = NDArray[np.float64]
By = Literal["similarity", "likelihood", "probe"]


@dataclass(frozen=True)
class Classified:
    """The class of a slide or case.

    Attributes:
        name: of the slide or patient. label: the class. classes: all of them.
        scores: of each: cosines (similarity) or log-probabilities (likelihood, probe).
        margin: score of the best less that of the next.
        by: how it was found.
    """

    name: str
    label: str
    classes: tuple[str, ...]
    scores: tuple[float, ...]
    margin: float
    by: By

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; floats rounded to 6 digits."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ClassifiedPlace:
    """The class of a region or patch; ``box`` in level-0 pixels, ``score`` the cosine with its prompts."""

    scale: Scale
    label: str
    box: Box
    name: str
    score: float


@dataclass(frozen=True)
class ClassifiedPlaces:
    """All regions or patches of a slide, in order; patches of background are left out."""

    slide: str
    slide_id: str
    question: str
    classes: tuple[str, ...]
    places: tuple[ClassifiedPlace, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; floats rounded to 6 digits."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]

    def evidence(self) -> dict[str, Any]:
        """As ``features.write_evidence`` takes it: each place named by its label, its class in the metadata."""
        places = [{**asdict(p), "contours": (), "supports": p.name} for p in self.places]
        return {
            "question": self.question,
            "text": ", ".join(self.classes),
            "evidence": places,
            "provenance": {"slide_id": self.slide_id},
        }


def classify(name: str, slides: Sequence[SlideFeatures], space: Space, prompts: PromptSet) -> Classified:
    """The class of a slide, or of all slides of a patient, by similarity.

    Raises:
        HwsiError: FEATURES_MISMATCH.
    """
    pooled = unit(np.sum([space.tissue(features).slide for features in slides], axis=0))
    return _classified(name, prompts.names, prompts.vectors(space) @ pooled, "similarity")


def classify_by_likelihood(name: str, sessions: Sequence["StudiedSlide"], prompts: PromptSet) -> Classified:
    """The class of a slide, or of all slides of a patient, by the language model.

    Raises:
        HwsiError: as ``StudiedSlide.ask``: QUESTION_INVALID for more classes than a question may have options.
    """
    given = [session.choice_log_probs(prompts.question, prompts.names)[0] for session in sessions]
    log_p = np.mean([np.log(np.maximum(option_probs(s), 1e-300)) for s in given], axis=0)
    return _classified(name, prompts.names, log_p, "likelihood")


def classify_by_probe(name: str, vector: NDArray[np.floating[Any]], probe: Probe) -> Classified:
    """The class of a slide or case by a probe; ``vector`` (D,) as it learned from."""
    return _classified(name, probe.classes, probe.log_probs(vector[None])[0], "probe")


@dataclass(frozen=True)
class FewShot:
    """A probe learned from the labelled cases of an index.

    Attributes:
        probe: to classify others with. labelled: class -> number of its cases.
        held_out: balanced accuracy on the labelled cases, each judged by a probe of the other folds only;
            None where no fold leaves two classes to learn from.
        results: of the cases without a label.
    """

    probe: Probe
    labelled: dict[str, int]
    held_out: float | None
    results: tuple[Classified, ...]


def few_shot(index: SlideIndex, labels: Mapping[str, str], cases: Cases, *, l2: float = 1.0) -> FewShot:
    """Learn a probe from the cases that have a label, and classify the others.

    Args:
        index: with the slides. labels: slide's name -> class; a name that is not in the index is an error.
        cases: of the index. l2: see :func:`hwsi.inference.probe.fit_probe`.

    Raises:
        HwsiError: DATA_INVALID (a label of no slide; slides of a case with different labels; fewer than two classes).
    """
    known = {name: PurePath(name).stem if name not in index.names else name for name in labels}
    strange = sorted(name for name, ours in known.items() if ours not in index.names)
    if strange:
        what = f"{len(strange)} labelled slides are not in the index ({', '.join(strange[:3])})"
        raise HwsiError(Reason.DATA_INVALID, what, "index them, or remove their labels")
    of_slide = {ours: labels[name] for name, ours in known.items()}
    told: list[str] = []
    for case, slides in zip(cases.names, cases.slides, strict=True):
        found = sorted({of_slide[slide] for slide in slides if slide in of_slide})
        if len(found) > 1:
            what = f"the slides of {case} have different labels: {', '.join(found)}"
            raise HwsiError(Reason.DATA_INVALID, what, "give the slides of a patient one label")
        told.append(found[0] if found else "")
    x = np.concatenate([cases.pool(index.slide), cases.pool(index.patches)], 1)
    rows = np.array([i for i, label in enumerate(told) if label], np.int64)
    y = [told[i] for i in rows]
    probe = fit_probe(x[rows], y, l2=l2)
    said = cross_predict(x[rows], y, [cases.names[i] for i in rows], l2=l2)
    judged = {c: [s == t for s, t in zip(said, y, strict=True) if t == c and s is not None] for c in probe.classes}
    recalls = [float(np.mean(right)) for right in judged.values() if right]
    return FewShot(
        probe,
        {c: y.count(c) for c in probe.classes},
        float(np.mean(recalls)) if recalls else None,
        tuple(classify_by_probe(cases.names[i], x[i], probe) for i, label in enumerate(told) if not label),
    )


def classify_places(features: SlideFeatures, space: Space, prompts: PromptSet, scale: Scale) -> ClassifiedPlaces:
    """The class of every region or patch of a slide, by similarity.

    Raises:
        HwsiError: FEATURES_MISMATCH.
    """
    scores = getattr(space.tissue(features), scale) @ prompts.vectors(space).T
    found = []
    for i in np.flatnonzero(seen(features, scale, space.meets["patch"])).tolist():
        best = int(scores[i].argmax())
        label, box = place_label(features, scale, i), place_box(features, scale, i)
        found.append(ClassifiedPlace(scale, label, box, prompts.names[best], float(scores[i, best])))
    return ClassifiedPlaces(features.slide_name, features.slide_id, prompts.question, prompts.names, tuple(found))


def _classified(name: str, classes: tuple[str, ...], scores: NDArray[np.floating[Any]], by: By) -> Classified:
    best = int(scores.argmax())
    margin = float(scores[best] - np.delete(scores, best).max())
    return Classified(name, classes[best], classes, tuple(float(s) for s in scores), margin, by)
