"""The law of the second edition's slides: what they are for comes first, then its answer, then everything else.

- A *family* of slides serves one type of question: the answer is drawn uniformly, then the attributes that make it, by
  a law in which each of them alone has equal marginals for every answer; then a diagnosis that can show it; nuisances
  come from the same decks as the first edition's.
- Twins have the seed, size and look of the slide before them and differ in one attribute of their request, in what
  was done to the drawing (``change.py``), or in being mirrored.
- Seeds are another hash than the first edition's with the split in the same three bits: no slide is in two splits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.sampling import DECKS, PLASMA, SIDES_UM, SPLITS, TRIPLES, Decks, Plan, draw_spec
from hwsi.phantom.second import shifts
from hwsi.phantom.second.change import Change
from hwsi.phantom.spec import DIAGNOSES, MALIGNANT, ORGAN_OF, Spec
from hwsi.phantom.truth import WITHOUT_TUBULES

FAMILIES = ("any", "any", "grade", "discordance", "necrosis", "mitoses", "cell", "patch", "place", "slide", "premise")
_GRADED = tuple(
    d for ds in DIAGNOSES.values() for d in ds
    if d in MALIGNANT and d not in WITHOUT_TUBULES and d != "invasive lobular carcinoma"
)  # fmt: skip
_STROMAL = tuple(d for d in _GRADED if d != "lymph node metastasis")
_EQUAL = tuple((s, s) for s in (1, 2, 3))
_UNEQUAL = tuple((a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b)
_OF_PATCH = (
    ("lung squamous cell carcinoma", "keratin"), ("colonic adenocarcinoma", "mucin"),
    ("normal colonic mucosa", "mucin"), ("invasive ductal carcinoma", "til"),
    ("prostatic adenocarcinoma", "til"),
)  # fmt: skip
_BENIGN = {
    "breast": "benign breast tissue",
    "colon": "normal colonic mucosa",
    "prostate": "benign prostatic tissue",
}
_WHOLE_UM = 2048
"""Side of slides whose regions matter: two whole regions by two."""

Made = list[tuple[Spec, Change]]


@dataclass(frozen=True)
class Draft:
    """A slide of the second edition before it is drawn.

    Attributes:
        plan: name, request, patient, twin. change: what is done to its drawing.
        family: what it is for; axis: how it is shifted from training, empty for not.
    """

    plan: Plan
    change: Change
    family: str = ""
    axis: str = ""

    @property
    def file(self) -> str:
        """Name of the slide's file."""
        return self.plan.slide_id + self.plan.suffix


def draft_seed(split: str, seed: int, axis: str, index: int) -> int:
    """The seed of a slide; its last three bits are the split, as of the first edition."""
    if split not in SPLITS:
        raise HwsiError(Reason.OPTION_INVALID, f"unknown split {split!r}", f"one of {', '.join(SPLITS)}")
    digest = blake2b(f"second/{split}/{seed}/{axis}/{index}".encode(), digest_size=5).digest()
    return int.from_bytes(digest, "big") << 3 | SPLITS.index(split)


def draw_drafts(n: int, seed: int, split: str, axis: str = "", sides_um: tuple[int, int] = SIDES_UM) -> list[Draft]:
    """The first ``n`` slides of a cohort; a longer one starts with the same.

    Args:
        n: slides, twins included. seed: of the cohort. split: one of ``sampling.SPLITS``.
        axis: one of ``shifts.AXES`` but ``wording``, or empty. sides_um: smallest and largest side, where regions do
            not matter.

    Raises:
        HwsiError: option_invalid.
    """
    if axis and (axis not in shifts.AXES or axis == "wording"):
        known = ", ".join(a for a in shifts.AXES if a != "wording")
        raise HwsiError(Reason.OPTION_INVALID, f"no axis of shift {axis!r}", f"one of {known}")
    draft_seed(split, seed, axis, 0)
    drawer = _Drawer(seed, split, axis, sides_um)
    drafts: list[Draft] = []
    while len(drafts) < n:
        drafts += drawer.next(len(drafts))
    return drafts[:n]


class _Drawer:
    """Draws families one after the other."""

    def __init__(self, seed: int, split: str, axis: str, sides_um: tuple[int, int]) -> None:
        self.seed, self.split, self.axis, self.sides_um = seed, split, axis, sides_um
        mark = int.from_bytes(blake2b(f"second/{axis}".encode(), digest_size=6).digest(), "big")
        self.decks = Decks(seed, SPLITS.index(split), mark)
        self.of: dict[str, Callable[[int, np.random.Generator], Made]] = {
            family: getattr(self, family) for family in FAMILIES
        }

    def next(self, index: int) -> list[Draft]:
        family = self.card("family", FAMILIES)
        own = draft_seed(self.split, self.seed, self.axis, index)
        rng = np.random.default_rng([own, 52])
        stem = f"{self.split}2{self.axis}"
        suffix, first = self.card("suffix", (".svs", ".tiff")), f"{stem}-{index:05d}"
        drafts = []
        for k, (spec, change) in enumerate(self.of[family](own, rng)):
            if self.axis == "artefact":
                spec = replace(spec, artefacts=shifts.ARTEFACTS[index % len(shifts.ARTEFACTS)])
            plan = Plan(f"{stem}-{index + k:05d}", spec, f"Q{own:013x}", suffix, first if k else "")
            drafts.append(Draft(plan, change, family, self.axis))
        return drafts

    def card(self, name: str, values: Any) -> Any:
        return self.decks.draw("second", name, values)

    def base(self, own: int, rng: np.random.Generator, legal: tuple[str, ...], **fixed: Any) -> Spec:
        """A request with ``fixed`` attributes and a diagnosis of ``legal`` that training may draw with them.

        Only the axis ``pair`` shows what training never does; a nuisance that would is drawn otherwise.
        """
        pairs = tuple(d for d in legal if d in shifts.PAIRS)
        if self.axis == "pair" and pairs:
            diagnosis = self.card(f"pair/{pairs}", pairs)
            name, value = shifts.PAIRS[diagnosis]
            spec = draw_spec(own, diagnosis, rng, self.decks, self.sides_um)[0]
            return replace(spec, **{**fixed, name: value})
        for _ in range(4 * len(legal)):
            diagnosis = self.card(f"diagnosis/{legal}", legal)
            spec = replace(draw_spec(own, diagnosis, rng, self.decks, self.sides_um)[0], **fixed)
            if not shifts.unseen(spec):
                return spec
            name, value = shifts.PAIRS[diagnosis]
            if name not in fixed:
                others = [v for v in DECKS[name] if v != value]
                return replace(spec, **{name: others[int(rng.integers(len(others)))]})
        raise ValueError(f"none of {legal} may be drawn with {fixed}")

    def any(self, own: int, rng: np.random.Generator) -> Made:
        """As the first edition draws them: every diagnosis, organs uniform."""
        return [(self.base(own, rng, DIAGNOSES[self.card("organ", tuple(DIAGNOSES))]), Change())]

    def grade(self, own: int, rng: np.random.Generator) -> Made:
        inside = TRIPLES[self.card("grade", (1, 2, 3))]
        tubules, pleomorphism, mitoses = inside[int(rng.integers(len(inside)))]
        scores = {"tubules": tubules, "pleomorphism": pleomorphism, "mitoses": mitoses}
        return [(self.base(own, rng, _GRADED, **scores), Change())]

    def discordance(self, own: int, rng: np.random.Generator) -> Made:
        equal = self.card("equal", (True, False))
        tubules, pleomorphism = self.card(f"scores/{equal}", _EQUAL if equal else _UNEQUAL)
        mitoses = self.card("mitoses", (1, 2, 3))
        fixed = {"tubules": tubules, "pleomorphism": pleomorphism, "mitoses": mitoses}
        return [(self.base(own, rng, _GRADED, **fixed), Change())]

    def necrosis(self, own: int, rng: np.random.Generator) -> Made:
        fixed = {"necrosis": True, "til": self.card("til", (1, 2)), "artefacts": ()}
        spec = self.base(own, rng, _STROMAL, **fixed, **_one_focus(rng))
        mirror = self.card("mirror", (0, 1, 2, 3))
        kinds = [("necrotic", "clear"), ("clear", "necrotic")][int(rng.integers(2))]
        return [(spec, Change(densest=kind, mirror=mirror)) for kind in kinds]

    def mitoses(self, own: int, rng: np.random.Generator) -> Made:
        fixed = {"tubules": 2, "mitoses": self.card("many", (2, 3))}
        spec = self.base(own, rng, _GRADED, **fixed)
        parts = [("solid", "tubular"), ("tubular", "solid")][int(rng.integers(2))]
        return [(spec, Change(mitoses_in=part)) for part in parts]

    def cell(self, own: int, rng: np.random.Generator) -> Made:
        name = self.card("cell", ("plasma", "pleomorphism", "mitoses"))
        legal = _STROMAL if name == "plasma" else _GRADED
        return self.twins(self.base(own, rng, legal, **({"til": 1} if name == "plasma" else {})), name, rng)

    def patch(self, own: int, rng: np.random.Generator) -> Made:
        diagnosis, name = self.card("patch", _OF_PATCH)
        return self.twins(self.base(own, rng, (diagnosis,)), name, rng)

    def place(self, own: int, rng: np.random.Generator) -> Made:
        malignant = tuple(d for d in MALIGNANT if d != "lymph node metastasis")
        spec = self.base(own, rng, tuple(sorted(malignant)), **_one_focus(rng))
        first, second = (int(v) for v in rng.permutation(4)[:2])
        return [(spec, Change(mirror=first)), (spec, Change(mirror=second))]

    def slide(self, own: int, rng: np.random.Generator) -> Made:
        name = self.card("slide", ("focality", "fragments", "lesion_fraction"))
        spec = self.base(own, rng, _GRADED)
        if name != "lesion_fraction":
            return self.twins(spec, name, rng)
        low, high = round(float(rng.uniform(0.2, 0.28)), 3), round(float(rng.uniform(0.45, 0.55)), 3)
        order = (low, high) if rng.integers(2) else (high, low)
        return [(replace(spec, lesion_fraction=v), Change()) for v in order]

    def premise(self, own: int, rng: np.random.Generator) -> Made:
        """Necrosis or none; a tumour or, by the same seed, its look-alike."""
        if self.card("premise", ("necrosis", "tumour")) == "necrosis":
            legal = tuple(d for d in _STROMAL if shifts.PAIRS[d][0] != "necrosis" or self.axis == "pair")
            return self.twins(self.base(own, rng, legal, **_whole()), "necrosis", rng)
        spec = self.base(own, rng, tuple(d for d in _STROMAL if ORGAN_OF[d] in _BENIGN))
        return [(spec, Change()), (replace(spec, diagnosis=_BENIGN[spec.organ]), Change())]

    def twins(self, spec: Spec, name: str, rng: np.random.Generator) -> Made:
        """The request and the same with another value of one attribute, both of which training may draw."""
        if name == "plasma":
            values: list[Any] = [round(float(rng.uniform(*law)), 3) for law in PLASMA]
            low = spec.plasma < 0.5
            return [(spec, Change()), (replace(spec, plasma=values[1 if low else 0]), Change())]
        others = [v for v in dict.fromkeys(DECKS[name]) if v != getattr(spec, name)]
        fit = [s for v in others if not shifts.unseen(s := replace(spec, **{name: v})) or self.axis == "pair"]
        return [(spec, Change()), (fit[int(rng.integers(len(fit)))], Change())]


def _one_focus(rng: np.random.Generator) -> dict[str, Any]:
    """One piece of tissue of two by two whole regions, with one focus that does not reach all of them."""
    return {"fragments": 1, "focality": 1, "lesion_fraction": round(float(rng.uniform(0.14, 0.3)), 3), **_whole()}


def _whole() -> dict[str, int]:
    return {"width_um": _WHOLE_UM, "height_um": _WHOLE_UM}
