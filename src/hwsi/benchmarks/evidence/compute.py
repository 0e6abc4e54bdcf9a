"""What selection costs: accuracy where only a part of the slide's regions is read, by how the part is chosen.

- A part is read as if there were nothing else: the slide's own vector is made of it alone (``inference/part.py``).
- *random* and *uniform* (every k-th region) know nothing; *facility* covers the slide by its regions' features;
  *question* adds how near a region lies to the words of the question (never to a report); *release* is the filter that
  the authors' code has: what is least redundant by mean cosine.
- Questions that name a region are left out: whoever asks about a region has chosen it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, HeldOut, Material
from hwsi.inference.guided import guided_regions, question_relevance
from hwsi.inference.key_regions import cover_regions
from hwsi.inference.part import part_of
from hwsi.inference.session import Session
from hwsi.phantom.truth import cited

Int = NDArray[np.int64]
SHARES = (0.5, 0.25, 0.1, 0.05)
_PROMISED = 0.25
_PER_SLIDE = 4
_METHODS = ("random", "uniform", "facility", "question", "release")


def measure(material: Material, seed: int) -> list[Line]:
    """Points of accuracy lost against the whole slide, at each share and by each method."""
    cases = [c for c in material.some(3 * _PER_SLIDE, seed) if not cited(c.question["question"])]
    cases = [c for s in material.slides for c in [x for x in cases if x.slide is s][:_PER_SLIDE]]
    patients = [c.patient for c in cases]
    full = np.array([_right(c, c.slide.session) for c in cases], float)
    lines = [line("compute", "accuracy, all regions", full.tolist(), patients)]
    for share in SHARES:
        lost = {}
        for method in _METHODS:
            parts: dict[tuple[str, bytes], Session] = {}
            right = np.array([_right(c, _part(c, method, share, seed, parts)) for c in cases], float)
            lost[method] = 100 * (full - right)
        what = f"points lost at {100 * share:.0f} % of the regions"
        beside = {m: float(v.mean()) for m, v in lost.items() if m != "question"}
        made = line("compute", f"{what}, question-guided", lost["question"].tolist(), patients, beside=beside)
        promised = share == _PROMISED
        lines.append(replace(made, less=True, floor=1.0 if promised else None, aim=0.0 if promised else None))
    return lines


def _right(case: Case, session: Session) -> bool:
    seen, _ = session.choice_log_probs(case.words, case.choices)
    return case.choices[int(seen.argmax())] == case.answer


def _part(case: Case, method: str, share: float, seed: int, known: dict[tuple[str, bytes], Session]) -> Session:
    """A session on the part that a method chooses; equal parts of a slide are read once."""
    slide = case.slide
    chosen = _CHOOSE[method](case, max(1, round(share * len(slide.features.hierarchy.regions))), seed)
    key = (str(slide.truth["slide_id"]), chosen.tobytes())
    if key not in known:
        whole = slide.session
        known[key] = Session(whole.model, whole.processor, part_of(slide.features, chosen))
    return known[key]


def _random(case: Case, k: int, seed: int) -> Int:
    n = len(case.slide.features.hierarchy.regions)
    rng = np.random.default_rng([seed, int(case.slide.truth["seed"]) % 2**31])
    return np.sort(rng.permutation(n)[:k]).astype(np.int64)


def _uniform(case: Case, k: int, seed: int) -> Int:
    n = len(case.slide.features.hierarchy.regions)
    return np.unique(np.linspace(0, n - 1, k).round().astype(np.int64))


def _facility(case: Case, k: int, seed: int) -> Int:
    return cover_regions(case.slide.features, _region_encoder(case.slide), k)


def _question(case: Case, k: int, seed: int) -> Int:
    relevance = question_relevance(case.slide.features, case.words, case.choices)
    return guided_regions(case.slide.features, _region_encoder(case.slide), relevance, k)


def _release(case: Case, k: int, seed: int) -> Int:
    """Regions of the smallest mean cosine to all others, as the release's filter keeps patches."""
    rows = case.slide.features.region[_region_encoder(case.slide)].astype(np.float64)
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    mean = unit @ unit.sum(0)
    return np.sort(np.argsort(mean, kind="stable")[:k]).astype(np.int64)


def _region_encoder(slide: HeldOut) -> str:
    return str(slide.session.processor.encoders["region"])


_CHOOSE: dict[str, Callable[[Case, int, int], Int]] = {
    "random": _random, "uniform": _uniform, "facility": _facility, "question": _question, "release": _release,
}  # fmt: skip
