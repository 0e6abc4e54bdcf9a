"""A made-up cohort for stage 1: small slides whose patches and cells are of a kind, and reports that say which."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwsi.features import SlideFeatures, write_features
from hwsi.hierarchy.tree import CELL_TYPES, Cells, Hierarchy, Patches, Regions
from hwsi.model import build_nano, train_nano_tokenizer
from hwsi.training.stages.align_config import AlignConfig, Contrast, Tower
from hwsi.training.stages.config import Data, Optimiser, Watch

KINDS = (
    ("ductal carcinoma in situ", "brisk mitoses", "comedo necrosis"),
    ("squamous cell carcinoma", "keratin pearls", "intercellular bridges"),
    ("follicular lymphoma", "small lymphocytes", "germinal centres"),
    ("tubular adenoma", "goblet cells", "elongated nuclei"),
    ("malignant melanoma", "melanin pigment", "prominent nucleoli"),
    ("normal fat", "large vacuoles", "thin septa"),
)
SIDE0, PATCH0, COLS = 256, 128, 2


def report(kind: int) -> str:
    what, first, second = KINDS[kind]
    return f"The slide shows {what}. There are {first} with {second}. Ki-67 is {10 * kind} %."


def made_slide(i: int, kind: int, *, sha: str = "a" * 64) -> SlideFeatures:
    """One or two rows of regions; all is noise, but for a direction of the kind in patches and cells."""
    rng = np.random.default_rng(i)
    rows = 1 + i % 2
    grid = np.array([(r, c) for r in range(rows) for c in range(2)], np.int64)
    n_regions, inside = len(grid), np.stack(np.divmod(np.arange(COLS * COLS), COLS), 1)
    xy = grid[:, ::-1] * SIDE0
    ones, zeros = np.ones(n_regions, np.float32), np.zeros(n_regions, np.float32)
    regions = Regions(xy=xy, size0=SIDE0, grid=grid, tissue=ones, focus=ones, pen=zeros, padded=zeros > 0)
    parent, row_col = np.repeat(np.arange(n_regions), COLS * COLS), np.tile(inside, (n_regions, 1))
    background = rng.random(len(parent)) < 0.5
    background[:: COLS * COLS] = False
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col, background=background,
        tissue=(~background).astype(np.float32),
    )  # fmt: skip
    owner = np.repeat(np.flatnonzero(~background), rng.integers(0, 5, (~background).sum()))
    m = len(owner)
    cells = Cells(
        xy=(patch_xy[owner] + rng.uniform(5, PATCH0 - 5, (m, 2))).astype(np.float32), patch=owner,
        contour_ptr=np.arange(m + 1) * 3, contour_xy=rng.uniform(0, 9, (3 * m, 2)).astype(np.float32),
        type=rng.integers(0, len(CELL_TYPES), m), type_prob=np.ones(m, np.float32),
    )  # fmt: skip
    tree = Hierarchy(2 * SIDE0, rows * SIDE0, 0.5, SIDE0, PATCH0, 0.5, regions, patches, cells)
    direction = np.random.default_rng(1000 + kind)
    of_patch, of_cell = direction.normal(size=192), direction.normal(size=64)
    patch = (rng.normal(size=(len(parent), 192)) * 0.5 + of_patch).astype(np.float32)
    patch[background] = 0
    outline = np.array([(1, 1), (2 * SIDE0 - 1, 1), (2 * SIDE0 - 1, rows * SIDE0 - 1), (1, rows * SIDE0 - 1)], float)
    told = {"patch-nano": {"weights_sha256": sha}, "cell-nano": {"weights_sha256": "c" * 64}}
    return SlideFeatures(
        slide_id=f"{i:032x}", slide_name=f"s{i}", hierarchy=tree, mpp_source="user", preset="nano",
        patch={"patch-nano": patch},
        cell={"cell-nano": (rng.normal(size=(m, 64)) * 0.5 + of_cell).astype(np.float32)},
        region={"region-nano": rng.normal(size=(n_regions, 192)).astype(np.float32)},
        slide={"slide-nano": rng.normal(size=192).astype(np.float32)}, tissue=((outline,),),
        provenance={"encoders": told},
    )  # fmt: skip


def write_world(folder: Path, *, slides: int = 12, split: str = "train") -> tuple[Path, Path]:
    """(job folder, reports) of a cohort, two slides of each kind, told apart by their reports' last words."""
    lines = []
    for i in range(slides):
        kind = i % len(KINDS)
        write_features(folder / "job" / "features" / f"s{i}.h5", made_slide(i, kind))
        lines.append({"slide": f"s{i}", "patient": f"p{kind}", "split": split, "report": report(kind)})
    (folder / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "job", folder / "reports.jsonl"


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """An untrained nano whose CCAF is that of the seed."""
    model, processor = build_nano(train_nano_tokenizer([report(k) for k in range(len(KINDS))]), seed=seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def config(model: Path, job: Path, reports: Path, **changes: object) -> AlignConfig:
    """A short run on the CPU, all encoders from random weights."""
    begun: dict[str, object] = {
        "start": model,
        "region": Tower(id="region-nano", weights="none"),
        "slide": Tower(id="slide-nano", weights="none"),
        "text": Tower(id="text-nano", weights="none"),
        "width": 32,
        "contrast": Contrast(slides=6, temperature=0.1),
        "optimiser": Optimiser(lr=2e-3, warmup=0.1),
        "watch": Watch(log_every=1, save_every=None),
        "data": Data(features=(job,), reports=(reports,)),
        "device": "cpu",
        "steps": 4,
    }
    return AlignConfig(**(begun | changes))  # type: ignore[arg-type]


def log_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


__all__ = ["KINDS", "config", "log_of", "made_slide", "replace", "report", "write_model", "write_world"]
