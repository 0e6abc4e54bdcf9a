"""What a phantom slide is asked to be. What it became is measured afterwards (``truth.py``)."""

from dataclasses import asdict, dataclass, fields
from typing import Any

DIAGNOSES: dict[str, tuple[str, ...]] = {
    "breast": (
        "benign breast tissue", "ductal carcinoma in situ", "invasive ductal carcinoma", "invasive lobular carcinoma",
    ),
    "colon": ("normal colonic mucosa", "tubular adenoma", "colonic adenocarcinoma"),
    "lung": ("lung adenocarcinoma", "lung squamous cell carcinoma"),
    "lymph node": ("reactive lymph node", "lymph node metastasis"),
    "prostate": ("benign prostatic tissue", "prostatic adenocarcinoma"),
}  # fmt: skip
ORGAN_OF = {dx: organ for organ, all_dx in DIAGNOSES.items() for dx in all_dx}
MALIGNANT = frozenset({
    "invasive ductal carcinoma", "invasive lobular carcinoma", "colonic adenocarcinoma", "lung adenocarcinoma",
    "lung squamous cell carcinoma", "lymph node metastasis", "prostatic adenocarcinoma",
})  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """A request. Every field is drawn from a law that the diagnosis does not enter where medicine allows.

    Attributes:
        seed: decides all else that is drawn, stage by stage.
        diagnosis: a value of :data:`DIAGNOSES`.
        width_um, height_um: size of the slide.
        tubules, pleomorphism, mitoses: the three scores 1 to 3 of a Nottingham-like grade.
        til: lymphocytes in the stroma, 0 few, 1 moderate, 2 many.
        necrosis, vascular_invasion: drawn or not.
        lesion_fraction: of the tissue, in [0, 1]; focality: number of separate foci (1 to 3).
        artefacts: any of pen, fold, blur, bubble.
        plasma: share of plasma cells among the inflammatory cells.
        fat: share of the tissue outside the lesion that is fat, in [0, 0.5] (breast, lymph node, submucosa).
        fragments: separate pieces of tissue (1 to 4). A focus lies within one fragment.
        keratin: whether a squamous cell carcinoma keratinises.
        mucin: whether glands are rich in goblet cells or mucin (colon).
        pattern: growth of ductal carcinoma in situ: cribriform, solid or comedo; None: mixed.
    """

    seed: int
    diagnosis: str
    width_um: int = 2048
    height_um: int = 2048
    tubules: int = 2
    pleomorphism: int = 2
    mitoses: int = 2
    til: int = 1
    plasma: float = 0.3
    necrosis: bool = False
    vascular_invasion: bool = False
    lesion_fraction: float = 0.45
    focality: int = 1
    fat: float = 0.2
    artefacts: tuple[str, ...] = ()
    fragments: int = 1
    keratin: bool = True
    mucin: bool = False
    pattern: str | None = None

    @property
    def organ(self) -> str:
        """Organ of the diagnosis."""
        return ORGAN_OF[self.diagnosis]

    @property
    def malignant(self) -> bool:
        """Whether the diagnosis is an invasive or metastatic cancer."""
        return self.diagnosis in MALIGNANT

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def spec_of(record: dict[str, Any]) -> Spec:
    """The request that a slide's ``truth.json`` answers."""
    asked = {f.name: record["spec"][f.name] for f in fields(Spec)}
    return Spec(**{**asked, "artefacts": tuple(asked["artefacts"])})
