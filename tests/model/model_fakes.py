"""A small slide with made-up features, and words."""

from dataclasses import dataclass, field

import numpy as np

from hwsi.hierarchy.tree import Cells, Hierarchy, Patches, Regions
from hwsi.model.config import SCALES

TEXTS = [
    "What is the histologic grade?",
    "The tumour is grade 2, see R1.P3 and R2.",
    "invasive ductal carcinoma of the breast",
    "Are there mitoses in this tissue? Yes, many mitoses.",
    "Options: yes; no; cannot be assessed",
] * 3
DIMS = {"slide": 192, "region": 192, "patch": 192, "cell": 64}


@dataclass
class FakeFeatures:
    """What the processor reads of a slide's feature file."""

    hierarchy: Hierarchy
    slide_name: str = "fake"
    slide: dict = field(default_factory=dict)
    region: dict = field(default_factory=dict)
    patch: dict = field(default_factory=dict)
    cell: dict = field(default_factory=dict)


def make_slide(seed: int = 0, regions: int = 2, side: int = 3, cells_per_patch: int = 4) -> FakeFeatures:
    """``regions`` regions of side x side patches of 256 px; some patches are background, some have no cells."""
    rng = np.random.default_rng(seed)
    n, size = regions * side * side, 256
    region = np.repeat(np.arange(regions), side * side)
    one = [(r, c) for r in range(side) for c in range(side)]
    row_col = np.array(one * regions, np.int64).reshape(n, 2)
    region_xy = np.stack([np.arange(regions) * side * size, np.zeros(regions)], 1).astype(np.int64)
    patch_xy = region_xy[region] + row_col[:, ::-1] * size
    background = np.zeros(n, bool)
    background[:: side * side] = True
    counts = np.where(background, 0, rng.integers(0, cells_per_patch + 1, n))
    patch = np.repeat(np.arange(n), counts)
    m = len(patch)
    contour = rng.uniform(0, 1, (m, 3, 2))
    cell_xy = patch_xy[patch] + rng.uniform(0, size, (m, 2))
    tree = Hierarchy(
        width0=regions * side * size,
        height0=side * size,
        mpp=0.5,
        region_px=side * size,
        patch_px=size,
        read_mpp=0.5,
        regions=Regions(
            xy=region_xy,
            size0=side * size,
            grid=np.stack([np.zeros(regions), np.arange(regions)], 1).astype(np.int64),
            tissue=np.ones(regions, np.float32),
            focus=np.ones(regions, np.float32),
            pen=np.zeros(regions, np.float32),
            padded=np.zeros(regions, bool),
        ),
        patches=Patches(
            xy=patch_xy,
            size0=size,
            region=region,
            row_col=row_col,
            tissue=(~background).astype(np.float32),
            background=background,
        ),
        cells=Cells(
            xy=cell_xy.astype(np.float32),
            patch=patch,
            contour_ptr=np.arange(m + 1) * 3,
            contour_xy=(cell_xy[:, None] + contour).reshape(-1, 2).astype(np.float32),
            type=np.zeros(m, np.int64),
            type_prob=np.ones(m, np.float32),
        ),
    )
    rows = {"slide": (), "region": (regions,), "patch": (n,), "cell": (m,)}
    arrays = {
        scale: {f"{scale}-nano": rng.normal(size=(*rows[scale], DIMS[scale])).astype(np.float32)} for scale in SCALES
    }
    arrays["patch"]["patch-nano"][background] = 0
    return FakeFeatures(tree, **arrays)
