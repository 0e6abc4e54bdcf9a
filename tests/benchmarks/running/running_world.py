"""Feature files of small slides, an untrained nano and a made-up space of words: all that a run needs, in a second."""

from pathlib import Path

import numpy as np
import torch

from hwsi.benchmarks.datasets.record import Loaded, Record
from hwsi.features import SlideFeatures, write_features
from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions
from hwsi.inference.cases import unit
from hwsi.inference.space import Space

SIDE0, PATCH0, COLS = 512, 256, 2
WEIGHTS = dict.fromkeys(("patch-nano", "region-nano", "slide-nano"), "0" * 64)


def slide(name: str, seed: int) -> SlideFeatures:
    """Two regions of 2 x 2 patches with two cells each."""
    rng = np.random.default_rng(seed)
    grid = np.array([(0, 0), (0, 1)], np.int64)
    xy, ones, zeros = grid[:, ::-1] * SIDE0, np.ones(2, np.float32), np.zeros(2, np.float32)
    regions = Regions(xy=xy, size0=SIDE0, grid=grid, tissue=ones, focus=ones, pen=zeros, padded=zeros > 0)
    parent = np.repeat(np.arange(2), COLS * COLS)
    row_col = np.tile(np.array([(a, b) for a in range(COLS) for b in range(COLS)]), (2, 1))
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    n = len(parent)
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col, tissue=np.ones(n, np.float32),
        background=np.zeros(n, bool),
    )  # fmt: skip
    owner = np.repeat(np.arange(n), 2)
    m = len(owner)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    centre = (patch_xy[owner] + 100).astype(np.float32)
    contour = centre[:, None] + np.stack([np.cos(turn), np.sin(turn)], 1) * 6
    cells = Cells(
        xy=centre, patch=owner, contour_ptr=np.arange(m + 1) * 8,
        contour_xy=contour.reshape(-1, 2).astype(np.float32), type=np.zeros(m, np.int64),
        type_prob=np.ones(m, np.float32),
    )  # fmt: skip
    tree = Hierarchy(1024, 512, 0.5, SIDE0, PATCH0, 0.5, regions, patches, cells)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    encoders = {name: {"weights_sha256": sha} for name, sha in WEIGHTS.items()}
    return SlideFeatures(
        slide_id=f"{seed:032x}", slide_name=name, hierarchy=tree, mpp_source="user", preset="nano",
        patch={"patch-nano": draw(n, 192)}, cell={"cell-nano": draw(m, 64)}, region={"region-nano": draw(2, 192)},
        slide={"slide-nano": draw(192)}, provenance={"encoders": encoders},
    )  # fmt: skip


def job(folder: Path, *names: str) -> list[Path]:
    """Feature files of slides of these names."""
    files = []
    for seed, name in enumerate(names):
        files.append(folder / "features" / f"{name}.h5")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        write_features(files[-1], slide(name, seed))
    return files


class Tower:
    """Texts to fixed directions: the same text the same, another another."""

    def encode(self, texts: list[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode()) or [0]).standard_normal(192) for text in texts]
        return torch.from_numpy(unit(np.array(rows).reshape(-1, 192)))


def space() -> Space:
    meets = {"patch": "patch-nano", "region": "region-nano", "slide": "slide-nano"}
    return Space(Tower(), meets, {**WEIGHTS, "text-nano": "d" * 64})


def record(n: int, **changes: object) -> Record:
    """A closed question about slide-n of patient-n."""
    fields: dict[str, object] = {
        "slide_id": f"slide-{n}", "patient_id": f"patient-{n}", "task": "grade", "area": "diagnosis",
        "question": "What is the grade?", "choices": ("grade 1", "grade 2", "grade 3"), "answer": f"grade {n % 3 + 1}",
        "split": "test", "source": "made@1", "version_sha": "0" * 64,
    }  # fmt: skip
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def text(n: int, task: str, **changes: object) -> Record:
    """A report, caption or open question."""
    asked = {"question": "What is seen?"} if task == "open" else {"question": ""}
    words = {"choices": (), "area": task, "answer": f"Tumour of grade {n}. No necrosis is seen."}
    return record(n, task=task, **{**words, **asked, **changes})


def loaded(*records: Record) -> Loaded:
    return Loaded(tuple(records), (), "made@1", "0" * 64, len(records))


def every_task(slides: int) -> Loaded:
    """Records of all forms about some slides."""
    made = []
    for n in range(slides):
        made += [
            record(n), record(n, question="Is there necrosis?", choices=("yes", "no"), answer=("yes", "no")[n % 2],
                              task="necrosis", area="morphology"),
            text(n, "open"), text(n, "report"), text(n, "caption"),
            record(n, task="classification", question="Which?", area="", choices=("lung", "liver"),
                   answer=("lung", "liver")[n % 2]),
        ]  # fmt: skip
    return loaded(*made)
