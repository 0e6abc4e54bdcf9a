"""Small slides with made-up features, in nano's widths."""

from pathlib import Path

import numpy as np

from hwsi.features import SlideFeatures, write_features
from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions

SIDE, REGION0, PATCH0 = 4, 512, 128
SIZES = {"small": (1, 1), "middle": (2, 2), "large": (2, 3)}
"""Rows and columns of regions of three slides."""
TEXT = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "text"


def made_features(seed: int = 0, *, name: str = "made", rows: int = 2, cols: int = 2, preset: str = "nano"):
    """``rows`` x ``cols`` regions of 4 x 4 patches, three cells in every other patch, outlines of all."""
    rng = np.random.default_rng(seed)
    grid = np.array([(r, c) for r in range(rows) for c in range(cols)], np.int64).reshape(-1, 2)
    r = len(grid)
    xy = grid[:, ::-1] * REGION0
    one, none = np.ones(r, np.float32), np.zeros(r, np.float32)
    regions = Regions(xy=xy, size0=REGION0, grid=grid, tissue=one, focus=one, pen=none, padded=none > 0)
    parent = np.repeat(np.arange(r), SIDE**2)
    row_col = np.tile(np.stack(np.divmod(np.arange(SIDE**2), SIDE), 1), (r, 1)).astype(np.int64)
    patch_xy = xy[parent] + row_col[:, ::-1] * PATCH0
    background = np.arange(len(parent)) % 5 == 0
    patches = Patches(
        xy=patch_xy, size0=PATCH0, region=parent, row_col=row_col,
        tissue=(~background).astype(np.float32), background=background,
    )  # fmt: skip
    owner = np.repeat(np.flatnonzero(~background)[::2], 3)
    m = len(owner)
    cells = Cells(
        xy=(patch_xy[owner] + rng.uniform(1, PATCH0 - 1, (m, 2))).astype(np.float32), patch=owner,
        contour_ptr=np.arange(m + 1) * 3, contour_xy=rng.uniform(0, 9, (3 * m, 2)).astype(np.float32),
        type=rng.integers(0, 5, m), type_prob=np.ones(m, np.float32),
    )  # fmt: skip
    tree = Hierarchy(cols * REGION0, rows * REGION0, 0.5, REGION0, PATCH0, 0.5, regions, patches, cells)

    def draw(*shape: int):
        return rng.standard_normal(shape).astype(np.float32)

    return SlideFeatures(
        slide_id=f"{seed:032x}", slide_name=name, hierarchy=tree, mpp_source="user", preset=preset,
        patch={"patch-nano": draw(len(parent), 192)},
        cell={"cell-nano": draw(m, 64).astype(np.float16).astype(np.float32)},
        region={"region-nano": draw(r, 192)}, slide={"slide-nano": draw(192)},
        tissue=((np.array([[0, 0], [9, 0], [9, 9.0]]),),),
    )  # fmt: skip


def write_job(folder: Path, slides: dict[str, SlideFeatures]) -> Path:
    """A job folder, as ``hwsi encode`` leaves it."""
    for name, features in slides.items():
        (folder / "features").mkdir(parents=True, exist_ok=True)
        write_features(folder / "features" / f"{name}.h5", features)
    return folder
