"""The phantom before all tasks: what its truth adds to what any dataset has.

- *Classes*: the diagnosis, among all of them and among those of the slide's organ, which the prompts are then told.
- *Facts* of reports and captions are held against the truth (``facts.py``), beside those of the most frequent report of
  the organ, and what a caption of the organ's most frequent diagnosis would have.
- *Search*: every sentence about a region is looked for among the regions of all slides, a hit says the same words;
  findings are looked for among the patches of each slide that has them.
- The other slide is one of the same organ, so that the question still makes sense.

Notation: R regions of all slides, N patches of one.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.benchmarks.datasets.record import Loaded, Record
from hwsi.benchmarks.facts import CAPTION, Fact, Score, TrueFacts, facts_of, score, score_facts
from hwsi.benchmarks.reports import usual_reports
from hwsi.benchmarks.results import Prediction, measured
from hwsi.benchmarks.running.finding import random_hit
from hwsi.benchmarks.running.plan import Case, Form, form_of
from hwsi.benchmarks.running.run import Progress, Ready, Request, run
from hwsi.benchmarks.running.sheet import CHANCE, Scored, scored
from hwsi.benchmarks.running.writing import Measures
from hwsi.benchmarks.statistics import Figure, Interval, SumFigure, mean_of, ratio
from hwsi.features import SlideFeatures, read_features
from hwsi.inference.prompts import load_prompts
from hwsi.inference.retrieval import top
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.spec import DIAGNOSES, ORGAN_OF
from hwsi.phantom.truth import load_truth

K = 5
FINDINGS = ("necrosis", "mucin", "keratin", "solid tumour", "single file tumour", "fat", "lymphoid tissue")
QUESTION = "What is the diagnosis?"
ORGAN_KNOWN = "organ known"
SYNTHETIC = "Phantom slides only: these figures say nothing about real tissue."


@dataclass(frozen=True)
class Cohort:
    """The truth of a cohort of phantom slides.

    Attributes:
        folder: that ``hwsi phantom cohort`` wrote. truths: slide id -> its ``truth.json``.
    """

    folder: Path
    truths: Mapping[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path, slides: Sequence[str]) -> "Cohort":
        """Raises: HwsiError (SLIDE_MISSING, SLIDE_CORRUPT)."""
        return cls(folder, {name: load_truth(folder / f"{name}.truth.json") for name in slides})

    @cached_property
    def organs(self) -> dict[str, str]:
        """Slide id -> organ."""
        return {name: str(truth["organ"]) for name, truth in self.truths.items()}

    def patches(self, name: str) -> dict[str, NDArray[Any]]:
        """The table of a slide's patches."""
        with np.load(self.folder / f"{name}.patches.npz") as stored:
            return dict(stored)


def draw(out: Path, slides: int, seed: int, preset: str, progress: Progress | None = None) -> tuple[Path, list[Path]]:
    """Draw test slides and encode them; goes on where it stopped.

    Returns:
        The cohort's folder, and the feature files.
    """
    from hwsi.encoding import encode_to_file
    from hwsi.phantom.cohort import write_cohort

    say = progress or (lambda stage, done, total: None)
    folder = out / "cohort"
    plans = write_cohort(
        folder, slides, seed, split="test", workers=os.cpu_count() or 1,
        progress=lambda done, total: say("slides drawn", done, total),
    )  # fmt: skip
    files = []
    for n, plan in enumerate(plans, start=1):
        files.append(encode_to_file(folder / (plan.slide_id + plan.suffix), out / "job", preset=preset))
        say("slides encoded", n, len(plans))
    return folder, files


def run_phantom(
    loaded: Loaded,
    folder: Path,
    files: Sequence[Path],
    out: Path,
    request: Request,
    *,
    scale: Measures | None = None,
    progress: Progress | None = None,
) -> list[Scored]:
    """All tasks on a phantom cohort; raises as :func:`hwsi.benchmarks.running.run.run`.

    Args:
        loaded: its records. folder: of the cohort. files: feature files of its slides.
        scale: how texts are scored beside their facts.
    """
    beside = scale or Measures()
    cohort = Cohort.read(folder, sorted({r.slide_id for r in loaded.records}))
    records = (*loaded.records, *class_records(loaded.records, cohort))
    data = replace(loaded, records=records, notes=(*loaded.notes, SYNTHETIC))
    ours = replace(request, prompts=load_prompts("phantom"), groups=cohort.organs)

    def more(ready: Ready) -> list[Scored]:
        return searches(ready, cohort) if "search" in request.tasks else []

    return run(
        data, files, out, ours, measures=lambda ready: measures(ready, cohort, beside), more=more, progress=progress
    )


def class_records(records: Sequence[Record], cohort: Cohort) -> list[Record]:
    """The diagnosis of each slide as two records: among all, and among those of its organ."""
    first = {r.slide_id: r for r in reversed(records)}
    made = []
    for name, truth in cohort.truths.items():
        like = first[name]
        for area, choices in (("", tuple(ORGAN_OF)), (ORGAN_KNOWN, tuple(DIAGNOSES[truth["organ"]]))):
            made.append(
                replace(like, task="classification", area=area, question=QUESTION, choices=choices,
                        answer=str(truth["diagnosis"]))
            )  # fmt: skip
    return made


# --- facts ------------------------------------------------------------------------------------------------


def measures(ready: Ready, cohort: Cohort, scale: Measures) -> Measures:
    """The same with facts instead of slots, and those of the organ's most frequent report beside them."""
    known: dict[str, TrueFacts] = {}

    def truth_of(record: Record) -> TrueFacts:
        name = record.slide_id
        if name not in known:
            known[name] = facts_of(cohort.truths[name], lambda row, col: ready.labels.at(name, row, col))
        return known[name].only(*CAPTION) if form_of(record) == "caption" else known[name]

    def facts(records: Sequence[Record], given: Sequence[str | None]) -> Mapping[str, Figure]:
        return fact_figures([score(text or "", truth_of(r)) for r, text in zip(records, given, strict=True)])

    def usual(form: Form, records: Sequence[Record]) -> Mapping[str, Figure]:
        truths = [truth_of(r) for r in records]
        stated: dict[str, frozenset[Fact]] = usual_reports([cohort.organs[r.slide_id] for r in records], truths)
        pairs = zip(records, truths, strict=True)
        return fact_figures([score_facts(stated[cohort.organs[r.slide_id]], truth) for r, truth in pairs])

    return replace(scale, facts=facts, usual={"most frequent of the organ": usual})


def fact_figures(scores: Sequence[Score]) -> dict[str, Figure]:
    """``fact_f1``, ``fact_precision``, ``fact_recall`` pooled over texts, and ``invented_per_report``."""
    rows = np.array(
        [[s.found.total(), s.recalled.total(), s.missed.total(), s.invented.total(), 1] for s in scores], np.float64
    ).reshape(-1, 5)

    def f1(sums: NDArray[np.float64]) -> float:
        precision, recall = ratio(sums[0], sums[0] + sums[3]), ratio(sums[1], sums[1] + sums[2])
        return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0

    return {
        "fact_f1": SumFigure(rows, f1),
        "fact_precision": SumFigure(rows, lambda s: ratio(s[0], s[0] + s[3])),
        "fact_recall": SumFigure(rows, lambda s: ratio(s[1], s[1] + s[2])),
        "invented_per_report": SumFigure(rows, lambda s: ratio(s[3], s[4])),
    }


# --- search -----------------------------------------------------------------------------------------------


def searches(ready: Ready, cohort: Cohort) -> list[Scored]:
    """Sentences among the regions of all slides, and findings among the patches of each."""
    if ready.indexed is None or ready.space is None:
        return []
    cases = ready.indexed.of_plan
    slides = {case.name: read_features(case.files[0]) for case in cases}
    return [_regions(ready, cohort, cases, slides), *_findings(ready, cohort, cases, slides)]


def _regions(ready: Ready, cohort: Cohort, cases: Sequence[Case], slides: Mapping[str, SlideFeatures]) -> Scored:
    assert ready.indexed is not None
    assert ready.space is not None
    index = ready.indexed.index
    said: list[str] = []
    for name in index.names:
        told = {tuple(r["grid"]): str(r["sentence"]) for r in cohort.truths[name]["regions"]}
        said += [told.get(tuple(g), "") for g in slides[name].hierarchy.regions.grid.tolist()]
    count = Counter(said)
    texts = [text for text in count if text]
    best = top(np.asarray(ready.space.texts(texts) @ index.words_region.T, np.float32), K)
    patient = {case.name: case.patient for case in cases}
    found = []
    for text, row in zip(texts, best.tolist(), strict=True):
        owner = index.names[int(index.region_of[said.index(text)])]
        given = f"{index.names[int(index.region_of[row[0]])]} {index.region_name(row[0])}"
        found.append(_prediction(owner, patient[owner], text, given, any(said[j] == text for j in row)))
    chance = float(np.mean([random_hit(count[text], len(said), K) for text in texts]))
    return _search(ready, f"{len(texts)} sentences among {len(said)} regions", found, chance)


def _findings(ready: Ready, cohort: Cohort, cases: Sequence[Case], slides: Mapping[str, SlideFeatures]) -> list[Scored]:
    assert ready.space is not None
    vectors = dict(zip(FINDINGS, ready.space.texts(FINDINGS), strict=True))
    found, chances = [], []
    for case in cases:
        features, table = slides[case.name], cohort.patches(case.name)
        tree, places = features.hierarchy, ready.space.tissue(features)
        side = tree.region_px // tree.patch_px
        row_of = {tuple(g): i for i, g in enumerate(table["grid"].tolist())}
        grid = tree.regions.grid[tree.patches.region] * side + tree.patches.row_col
        rows = [
            (n, row_of[tuple(g)])
            for n, g in enumerate(grid.tolist())
            if tuple(g) in row_of and not tree.patches.background[n]
        ]
        for name, vector in vectors.items():
            shows = [_shows(table, i, name) for _, i in rows]
            if 0 < sum(shows) < len(shows):
                scores = np.asarray(places.patch[[n for n, _ in rows]] @ vector, np.float32)
                best = top(scores[None], K)[0].tolist()
                found.append(_prediction(case.name, case.patient, name, "", any(shows[j] for j in best)))
                chances.append(random_hit(sum(shows), len(shows), K))
    if not found:
        return []
    return [_search(ready, "findings among the patches of a slide", found, float(np.mean(chances)))]


def _search(ready: Ready, way: str, found: Sequence[Prediction], chance: float) -> Scored:
    patients = [p.patient for p in found]
    metrics = measured({f"hit@{K}": mean_of([p.scores[f"hit@{K}"] for p in found])}, patients)
    by_chance = {f"hit@{K}": Interval(chance, None, None, len(found), len(set(patients)))}
    return scored(ready.stamp, "search", way, metrics, {CHANCE: by_chance}, found)


def _prediction(slide: str, patient: str, text: str, given: str, hit: bool) -> Prediction:
    return Prediction(f"{slide}: {text}", patient, slide, "search", "", given, {f"hit@{K}": float(hit)})


def _shows(patches: Mapping[str, NDArray[Any]], i: int, finding: str) -> bool:
    """Whether a patch shows a finding, by the rule that puts it into the patch's phrase."""
    if finding in ("necrosis", "mucin"):
        return bool(patches[finding][i] > 0.05)
    if finding == "keratin":
        return bool(patches["compartments"][i, Compartment.KERATIN] > 0.03)
    return str(patches["phrase"][i]).startswith(finding)
