"""Features of a made-up slide."""

import numpy as np

from hwsi.features.slide_features import SlideFeatures
from hwsi.hierarchy import Cells, build_grid


class AllTissue:
    def fraction(self, xy, size0, which="mask"):
        return np.full(len(xy), 0.0 if which == "pen" else 0.75, np.float32)


def make_features(seed: int = 0, cells: int = 50, width0: int = 3000, height0: int = 2100) -> SlideFeatures:
    rng = np.random.default_rng(seed)
    tree = build_grid((width0, height0), 0.5, AllTissue(), region_px=2048, patch_px=256, read_mpp=0.5)
    inside = (tree.patches.xy + 256 <= (width0, height0)).all(axis=1)
    foreground = np.flatnonzero(inside & ~tree.patches.background)
    patch = np.sort(rng.choice(foreground, cells)).astype(np.int64)
    xy = (tree.patches.xy[patch] + rng.uniform(20, 200, (cells, 2))).astype(np.float32)
    sizes = rng.integers(6, 20, cells)
    ptr = np.cumsum([0, *sizes]).astype(np.int64)
    contours = [np.zeros((0, 2), np.float32)]
    for centre, size in zip(xy, sizes, strict=True):
        angle = np.linspace(0, 2 * np.pi, size, endpoint=False)
        contours.append(centre + 8 * np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))
    found = Cells(
        xy=xy, patch=patch, contour_ptr=ptr, contour_xy=np.concatenate(contours).astype(np.float32),
        type=rng.integers(0, 5, cells), type_prob=rng.random(cells).astype(np.float32),
    )  # fmt: skip
    tree = tree.with_cells(found)
    n, r = len(tree.patches), len(tree.regions)
    patches = rng.normal(size=(n, 12)).astype(np.float32)
    patches[tree.patches.background] = 0
    return SlideFeatures(
        slide_id=f"{seed:032x}", slide_name="made-up", hierarchy=tree, mpp_source="user", preset="nano",
        patch={"patch-nano": patches, "another": patches[:, :3].copy()},
        cell={"cell-nano": rng.normal(size=(cells, 7)).astype(np.float16).astype(np.float32)},
        region={"region-nano": rng.normal(size=(r, 9)).astype(np.float32)},
        slide={"slide-nano": rng.normal(size=5).astype(np.float32)},
        tissue=(
            (
                np.array([[0, 0], [1000, 0], [1000, 900], [0, 900.5]]),
                np.array([[10, 10], [50, 10], [50, 60.0]]),
            ),
            (np.array([[1500, 0], [1600, 0], [1600, 90.0]]),),
        ),
        warnings=("mpp from objective power",),
        provenance={
            "hwsi_version": "0.1.0",
            "encoders": {"patch-nano": {"scale": "patch", "revision": "1", "weights_sha256": "ab"}},
        },
    )  # fmt: skip
