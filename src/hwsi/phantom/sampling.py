"""Laws from which the slides of a cohort are drawn.

- The target comes first: organ uniform, diagnosis uniform in the organ, and for three slides in four the
  grade uniform and then its three scores; the scores are uniform otherwise.
- Nuisances (infiltrate, necrosis, extent, fragments, artefacts, size...) come from shuffled decks, one deck per
  diagnosis and attribute: their marginals are equal in all diagnoses, and nearly exactly so in small cohorts.
- A seed tells its split (``seed % 8``), so no held-out slide can share one with training.
- A twin has the seed, size and look of the slide before it, with one attribute changed, in the same split.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.measure import PATCH_UM
from hwsi.phantom.spec import DIAGNOSES, Spec
from hwsi.phantom.truth import grade_of

SPLITS = ("train", "val", "test", "demo", "gate")
SIDES_UM = (1280, 2304)
_TWINS = 0.1  # of the slides are followed by a twin
TRIPLES = {g: [t for t in product((1, 2, 3), repeat=3) if grade_of(*t) == g] for g in (1, 2, 3)}
_EXTENTS = ((0.16, 0.29), (0.40, 0.58), (0.74, 0.86))
# crowded benign look-alikes hold more nuclei per mm2 than cancers do: less of them keeps the count of nuclei silent
_LOOK_ALIKE = {"benign breast tissue": 0.25, "benign prostatic tissue": 0.3}
PLASMA = ((0.08, 0.28), (0.72, 0.92))
DECKS: dict[str, Sequence[Any]] = {
    "by_grade": (0, 1, 2, 3),  # 0: scores uniform
    "tubules": (1, 2, 3),
    "pleomorphism": (1, 2, 3),
    "mitoses": (1, 2, 3),
    "til": (0, 1, 2),
    "plasma": (0, 1),
    "necrosis": (False, True),
    "vascular_invasion": (False, True),
    "extent": (0, 1, 2),
    "focality": (1, 1, 2, 3),
    "fragments": (1, 2, 3),
    "keratin": (False, True),
    "mucin": (False, True),
    "pattern": ("cribriform", "solid", "comedo"),
    "artefacts": (
        (),
        (),
        (),
        ("pen",),
        ("fold",),
        ("blur",),
        ("bubble",),
        ("pen", "blur"),
        ("fold", "bubble"),
    ),
    "suffix": (".svs", ".tiff"),
}


@dataclass(frozen=True)
class Plan:
    """One slide of a cohort, before it is drawn: its name, request, patient, and the slide that it is a twin of."""

    slide_id: str
    spec: Spec
    patient_id: str
    suffix: str
    twin_of: str = ""


def slide_seed(split: str, seed: int, index: int) -> int:
    """The seed of a slide: a hash of cohort and index, whose last three bits are the split."""
    if split not in SPLITS:
        raise HwsiError(Reason.OPTION_INVALID, f"unknown split {split!r}", f"one of {', '.join(SPLITS)}")
    digest = blake2b(f"{split}/{seed}/{index}".encode(), digest_size=5).digest()
    return int.from_bytes(digest, "big") << 3 | SPLITS.index(split)


class Decks:
    """Shuffled decks: every value of an attribute comes equally often within a diagnosis."""

    def __init__(self, *key: int) -> None:
        self._key = key
        self._left: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self._rngs: dict[tuple[str, str], np.random.Generator] = {}

    def draw(self, owner: str, name: str, values: Sequence[Any]) -> Any:
        """The next card of the owner's deck of this name."""
        deck = self._left[owner, name]
        if not deck:
            if (owner, name) not in self._rngs:
                mark = int.from_bytes(blake2b(f"{owner}/{name}".encode(), digest_size=6).digest(), "big")
                self._rngs[owner, name] = np.random.default_rng([*self._key, mark])
            deck.extend(values[i] for i in self._rngs[owner, name].permutation(len(values)))
        return deck.pop()


def draw_plans(n: int, seed: int, split: str, sides_um: tuple[int, int] = SIDES_UM) -> list[Plan]:
    """The first ``n`` slides of a cohort; a longer cohort starts with the same slides.

    Args:
        n: slides, twins included.
        seed: of the cohort.
        split: one of :data:`SPLITS`.
        sides_um: smallest and largest side of a slide, whatever is on it.
    """
    slide_seed(split, seed, 0)
    decks = Decks(seed, SPLITS.index(split))
    plans: list[Plan] = []
    while len(plans) < n:
        plans += _next(len(plans), seed, split, decks, sides_um)
    return plans[:n]


def _next(index: int, seed: int, split: str, decks: Decks, sides_um: tuple[int, int]) -> list[Plan]:
    own = slide_seed(split, seed, index)
    rng = np.random.default_rng([own, 51])
    organ = decks.draw("cohort", "organ", tuple(DIAGNOSES))
    diagnosis = decks.draw(organ, "diagnosis", DIAGNOSES[organ])
    spec, suffix = draw_spec(own, diagnosis, rng, decks, sides_um)
    slide_id = f"{split}-{index:05d}"
    plan = Plan(slide_id, spec, f"P{own:013x}", suffix)
    if rng.random() >= _TWINS:
        return [plan]
    twin = Plan(f"{split}-{index + 1:05d}", _changed(spec, rng), plan.patient_id, suffix, slide_id)
    return [plan, twin]


def draw_spec(
    own: int, diagnosis: str, rng: np.random.Generator, decks: Decks, sides_um: tuple[int, int]
) -> tuple[Spec, str]:
    """The request for a slide of a diagnosis, and the suffix of its file."""
    drawn = {name: decks.draw(diagnosis, name, values) for name, values in DECKS.items()}
    scores: tuple[int, ...] = (drawn["tubules"], drawn["pleomorphism"], drawn["mitoses"])
    if drawn["by_grade"]:
        inside = TRIPLES[drawn["by_grade"]]
        scores = inside[int(rng.integers(len(inside)))]
    sides = np.arange(sides_um[0], sides_um[1] + 1, PATCH_UM)
    width, height = (int(v) for v in rng.choice(sides, 2))
    spec = Spec(
        seed=own,
        diagnosis=diagnosis,
        width_um=width,
        height_um=height,
        tubules=scores[0],
        pleomorphism=scores[1],
        mitoses=scores[2],
        til=drawn["til"],
        plasma=round(float(rng.uniform(*PLASMA[drawn["plasma"]])), 3),
        necrosis=drawn["necrosis"],
        vascular_invasion=drawn["vascular_invasion"],
        lesion_fraction=round(float(rng.uniform(*_EXTENTS[drawn["extent"]])) * _LOOK_ALIKE.get(diagnosis, 1.0), 3),
        focality=drawn["focality"],
        fat=round(float(rng.uniform(0, 0.35)), 3),
        artefacts=drawn["artefacts"],
        fragments=drawn["fragments"],
        keratin=drawn["keratin"],
        mucin=drawn["mucin"],
        pattern=drawn["pattern"] if diagnosis == "ductal carcinoma in situ" else None,
    )
    return spec, drawn["suffix"]


def _changed(spec: Spec, rng: np.random.Generator) -> Spec:
    """The same request with one attribute changed, among those that the diagnosis can show."""
    names = ["til", "plasma"]
    if spec.malignant:
        names += ["tubules", "pleomorphism", "mitoses", "necrosis", "vascular_invasion"]
    name = names[int(rng.integers(len(names)))]
    value = getattr(spec, name)
    if name == "plasma":
        low, high = PLASMA
        return replace(spec, plasma=round(float(rng.uniform(*(high if value < 0.5 else low))), 3))
    others = [v for v in DECKS[name] if v != value]
    changed: dict[str, Any] = {name: others[int(rng.integers(len(others)))]}
    return replace(spec, **changed)
