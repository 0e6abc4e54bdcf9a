"""Held-out phantom slides with their truth, studied by the model: what every measure asks.

- Slides are drawn by seed, encoded, and their pixels deleted; truth and features stay in the run's folder, so a second
  run goes on where the first stopped.
- Questions are those of the phantom benchmark, closed and balanced within organ and kind, so that neither the organ nor
  the words tell the answer; and the open ones, of which some cannot be answered.
- The truth's patches lie on the grid of the nano preset's patches: a box of the model is a box of the truth.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures, read_features
from hwsi.phantom.questions import balance, majority_accuracy, slide_of
from hwsi.phantom.truth import cited, fill_labels, load_truth

if TYPE_CHECKING:
    from hwsi.inference.session import Session

Progress = Callable[[str, int, int], None]
Arrays = dict[str, NDArray[Any]]
_LESS_TISSUE = 0.1


@dataclass(eq=False)
class HeldOut:
    """One slide.

    Attributes:
        truth: its record. patient: whose it is. features: of the whole slide.
    """

    truth: dict[str, Any]
    patient: str
    features: SlideFeatures
    folder: Path
    model: str

    @cached_property
    def session(self) -> "Session":
        """The slide before the model."""
        from hwsi.inference.session import Session, study

        made = study(self.features, preset=self.model)
        assert isinstance(made, Session)
        return made

    @property
    def organ(self) -> str:
        """Its organ."""
        return str(self.truth["organ"])

    @cached_property
    def patches(self) -> Arrays:
        """The truth of its patches (docs/architecture.md)."""
        with np.load(self.folder / f"{self.truth['slide_id']}.patches.npz") as file:
            return {name: file[name] for name in file.files}

    @cached_property
    def cells(self) -> Arrays:
        """The truth of its cells."""
        with np.load(self.folder / f"{self.truth['slide_id']}.cells.npz") as file:
            return {name: file[name] for name in file.files}


@dataclass(frozen=True, eq=False)
class Case:
    """A question about a slide: in the slide's own labels, and the truth's record of it."""

    slide: HeldOut
    question: dict[str, Any]

    @property
    def words(self) -> str:
        """The question."""
        return fill_labels(self.question["question"], self.slide.session.region_at)

    @property
    def choices(self) -> list[str]:
        """Its options."""
        return list(self.question["choices"])

    @property
    def answer(self) -> str:
        """What is right."""
        return str(self.question["answer"])

    @property
    def patient(self) -> str:
        """Whose slide it is about."""
        return self.slide.patient


@dataclass(frozen=True)
class Material:
    """Slides, and the closed questions about them that can be asked, balanced.

    Attributes:
        majority: accuracy of the most frequent answer of each organ and kind.
    """

    slides: tuple[HeldOut, ...]
    cases: tuple[Case, ...]
    majority: float

    def some(self, per_slide: int, seed: int = 0) -> list[Case]:
        """At most so many cases of each slide, drawn by seed."""
        rng = np.random.default_rng([seed, per_slide])
        found = []
        for slide in self.slides:
            own = [c for c in self.cases if c.slide is slide]
            found += [own[i] for i in sorted(rng.permutation(len(own))[:per_slide])]
        return found

    def other(self, slide: HeldOut) -> HeldOut | None:
        """Another patient's slide of the same organ."""
        at = self.slides.index(slide)
        circle = [*self.slides[at + 1 :], *self.slides[:at]]
        return next((s for s in circle if s.organ == slide.organ and s.patient != slide.patient), None)


def make_material(
    out: Path, slides: int, seed: int, model: str, *, split: str = "test", progress: Progress | None = None
) -> Material:
    """Draw and encode the slides, or find them in ``out``.

    Args:
        out: the run's folder: ``out/SPLIT`` has the truth, ``out/job`` the features.
        split: of the phantom seeds; ``val`` to calibrate, ``test`` to measure.
    """
    from hwsi.phantom.sampling import draw_plans
    from hwsi.training.nano.regenerate import regenerate_cohort

    say = progress or (lambda stage, done, total: None)
    folder, job = out / split, out / "job"
    regenerate_cohort(
        folder, job, slides, seed, split=split, workers=os.cpu_count() or 1,
        progress=lambda done, total: say("slides", done, total),
    )  # fmt: skip
    found = []
    for plan in draw_plans(slides, seed, split):
        features = read_features(job / "features" / f"{plan.slide_id}.h5")
        found.append(HeldOut(load_truth(folder / f"{plan.slide_id}.svs"), plan.patient_id, features, folder, model))
    return of_slides(found, seed)


def of_slides(slides: Sequence[HeldOut], seed: int) -> Material:
    """The balanced questions about these slides."""
    by_id = {s.truth["slide_id"]: s for s in slides}
    organ_of = {name: s.organ for name, s in by_id.items()}
    can = [q for s in slides for q in s.truth["questions"] if q["closed_eval"] and can_be_asked(s, q)]
    asked = balance(can, organ_of, seed)
    cases = tuple(Case(by_id[slide_of(q)], q) for q in asked)
    return Material(tuple(slides), cases, majority_accuracy(asked, organ_of))


def can_be_asked(slide: HeldOut, question: dict[str, Any]) -> bool:
    """Whether every region that the question names is one of ours."""
    return all(slide.session.region_at(*grid) for grid in cited(question["question"]))
