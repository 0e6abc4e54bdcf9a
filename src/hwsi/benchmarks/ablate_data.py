"""Slides and questions of the ablation: what a visit of training sees, and what is asked at the end.

- Features of all slides are held in memory once and shared by all variants; a visit turns the slide as a whole, lets
  some patches be missing from its region vectors and shows other patches in the prompt, as nano's training does.
- Slides of another split are asked at the end, balanced within organ and kind; questions that no single scale decides
  are thinned until none does (``phantom/second/silence.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwsi.benchmarks.ablate_model import ScaledProcessor, Seen
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures, read_features
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.prompt import question_text
from hwsi.phantom.questions import Question, balance, slide_of
from hwsi.phantom.second.questions import composites, silenced
from hwsi.phantom.second.wordings import COMPOSITES
from hwsi.phantom.second.wordings import all_texts as second_texts
from hwsi.phantom.truth import cited, fill_labels
from hwsi.phantom.wordings import all_texts
from hwsi.training.nano.cohort import CohortSlide, read_cohort
from hwsi.training.nano.context import Example, example, turn
from hwsi.training.nano.dialogues import COVERED, Teacher, answer_counts, labels_of
from hwsi.training.nano.symmetry import turn_features
from hwsi.training.objectives.units import ReportUnits, decompose

_MISSING = 0.3  # up to this share of patches is missing from what a visit's regions are made of
SEVERAL = "several"
"""The deciding scale of questions that no single one decides, the grade among them."""


def deciding(question: Question) -> str:
    """The scale that a question counts for."""
    return SEVERAL if question["kind"] in COMPOSITES or question["kind"] == "grade" else str(question["scale"])


@dataclass(frozen=True)
class Studied:
    """A slide of the cohort with all that is known of it."""

    slide: CohortSlide
    record: dict[str, Any]
    features: SlideFeatures
    context: Example
    units: ReportUnits

    def visit(
        self, processor: ScaledProcessor, scales: Sequence[str], dialogues: Any, rng: np.random.Generator | None
    ) -> Seen:
        """The slide in the prompt with dialogues behind it.

        Args:
            dialogues: (tree, code of the turn) -> dialogues. rng: draws turn and patches; None: as it is.
        """
        code = int(rng.integers(8)) if rng else 0
        context = turn(self.context, code)
        seen, order = turn_features(self.features, code)
        relevance = None
        if rng:
            some = context.mask & torch.from_numpy(rng.random(tuple(context.mask.shape)) >= rng.uniform(0, _MISSING))
            context = replace(context, mask=torch.where(some.any(1, keepdim=True), some, context.mask))
            relevance = rng.random(len(seen.hierarchy.patches)).astype(np.float32)
        prefix = processor.of_scales(seen, scales, relevance)
        row = processor.encode(prefix, dialogues(seen.hierarchy, code))
        parent = seen.hierarchy.patches.region[prefix.layout.patches]
        return Seen(row, context, torch.from_numpy(order), torch.from_numpy(np.array(parent, np.int64)))


@dataclass(frozen=True)
class Course:
    """What is learned from and what is asked at the end.

    Attributes:
        train, test: slides. counts: of the answers of all. questions: slide id -> closed questions of test slides.
        texts: every word that is read or written.
    """

    train: tuple[Studied, ...]
    test: tuple[Studied, ...]
    counts: Any
    questions: dict[str, list[Question]]
    texts: tuple[str, ...]

    def teacher(self, studied: Studied, tree: Any, code: int) -> Teacher:
        """Who asks about a slide in training."""
        return Teacher(studied.record, tree, self.counts, code)


def read_course(cohort: Path, test: Path, features: Path) -> Course:
    """Read two cohorts whose features are there.

    Args:
        cohort, test: folders with manifest and truths, to train on and to ask; pixels are not needed.
        features: job folder of both.

    Raises:
        HwsiError: features_missing where there is nothing to train on, or no closed question is left to be asked.
    """
    known, asked = (_all(folder, features) for folder in (cohort, test))
    questions = _asked(asked)
    if not known or not questions:
        what = f"{len(known)} slides with features to train on, {len(asked)} to ask with {len(questions)} questions"
        raise HwsiError(Reason.FEATURES_MISSING, what, "draw and encode more slides")
    studied = (*known, *asked)
    texts = [*all_texts(), *second_texts(), REPORT_PROMPT, CAPTION_PROMPT, question_text("", ["", ""])]
    for s in studied:
        texts += [s.record["report"], s.record["caption"], *s.units.phrases]
        texts += [t for q in s.record["questions"] for t in (q["question"], q["answer"])]
    return Course(known, asked, answer_counts(s.record for s in known), questions, tuple(texts))


def _all(cohort: Path, features: Path) -> tuple[Studied, ...]:
    paths = [(s, features / "features" / f"{s.name}.h5") for s in read_cohort(cohort)]
    return tuple(_studied(s, path) for s, path in paths if path.is_file())


def _studied(slide: CohortSlide, path: Path) -> Studied:
    record = slide.truth()
    record["questions"] = [*record["questions"], *composites(record, held_out=False)]
    features = read_features(path)
    plain = fill_labels(record["report"], lambda row, col: "region")
    return Studied(slide, record, features, example(slide, features), decompose(plain.replace("region: ", "")))


def _asked(test: Sequence[Studied]) -> dict[str, list[Question]]:
    """Closed questions about what can be seen: balanced, and silenced where several scales decide."""
    closed: list[Question] = []
    for s in test:
        seen = labels_of(s.features.hierarchy).keys() - {
            tuple(r["grid"]) for r in s.record["regions"] if r["attrs"]["covered_fraction"] > COVERED
        }
        closed += [q for q in s.record["questions"] if q["closed_eval"] and set(cited(q["question"])) <= seen]
    organ_of = {s.record["slide_id"]: s.record["organ"] for s in test}
    kept = balance([q for q in closed if q["kind"] not in COMPOSITES], organ_of)
    kept += silenced([q for q in closed if q["kind"] in COMPOSITES])
    found: dict[str, list[Question]] = {}
    for q in kept:
        found.setdefault(slide_of(q), []).append(q)
    return found
