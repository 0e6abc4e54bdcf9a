"""The grid covers the slide without drift, and parents are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.hierarchy import build_grid


class BoxTissue:
    """Tissue is one rectangle of a slide; exact fractions."""

    def __init__(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.box = (x0, y0, x1, y1)

    def fraction(self, xy, size0, which="mask"):
        if which == "pen":
            return np.zeros(len(xy), np.float32)
        xy = np.asarray(xy, np.float64).reshape(-1, 2)
        x0, y0, x1, y1 = self.box
        w = np.clip(np.minimum(xy[:, 0] + size0, x1) - np.maximum(xy[:, 0], x0), 0, None)
        h = np.clip(np.minimum(xy[:, 1] + size0, y1) - np.maximum(xy[:, 1], y0), 0, None)
        return (w * h / size0**2).astype(np.float32)


slides = st.tuples(st.integers(1, 30_000), st.integers(1, 30_000), st.floats(0.1, 1.0))


@settings(max_examples=80, deadline=None)
@given(slides, st.sampled_from([(2048, 256), (4096, 256), (512, 128)]))
def test_grid_covers_slide_without_drift(slide, sizes):
    width0, height0, mpp = slide
    region_px, patch_px = sizes
    h = build_grid((width0, height0), mpp, BoxTissue(0, 0, width0, height0),
                   region_px=region_px, patch_px=patch_px, read_mpp=0.5, min_tissue=0)  # fmt: skip
    regions, patches, side = h.regions, h.patches, region_px * 0.5 / mpp
    assert len(regions) >= 1
    assert regions.xy.dtype == patches.xy.dtype == np.int64
    # no drift: every corner is within half a pixel of its exact place
    assert np.abs(regions.xy - regions.grid[:, ::-1] * side).max() <= 0.5 + 1e-6
    # reading order, and every region starts inside
    order = regions.grid[:, 0] * 10_000 + regions.grid[:, 1]
    assert (np.diff(order) > 0).all()
    assert (regions.xy < (width0, height0)).all()
    assert (regions.xy >= 0).all()
    # neighbours meet within a pixel
    xs = np.unique(regions.xy[:, 0])
    assert (np.abs(np.diff(xs) - regions.size0) <= 1).all()
    # all of the slide is covered, but for a pixel of rounding at the far border
    assert (regions.xy.max(axis=0) + regions.size0 >= np.array([width0, height0]) - 1).all()
    ends = regions.xy + regions.size0
    assert np.array_equal(regions.padded, (ends[:, 0] > width0) | (ends[:, 1] > height0))
    # parents: a full grid of patches for each region, each at its place in it
    per_side = region_px // patch_px
    assert len(patches) == len(regions) * per_side**2
    assert np.array_equal(np.diff(patches.of_region(len(regions))), np.full(len(regions), per_side**2))
    expected = regions.xy[patches.region] + patches.row_col[:, ::-1] * (patch_px * 0.5 / mpp)
    assert np.abs(patches.xy - expected).max() <= 1 + 1e-6
    outside = (patches.xy >= (width0, height0)).any(axis=1)
    assert patches.background[outside].all()
    flat = patches.row_col[:, 0] * per_side + patches.row_col[:, 1]
    assert np.array_equal(flat, np.tile(np.arange(per_side**2), len(regions)))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(0, 9000), st.floats(0, 9000), st.floats(1, 3000), st.floats(1, 3000)),
    st.floats(0.01, 0.9),
)
def test_regions_without_tissue_are_dropped(box, min_tissue):
    x, y, w, h = box
    tissue = BoxTissue(x, y, min(x + w, 10_000), min(y + h, 10_000))
    tree = build_grid((10_000, 10_000), 0.5, tissue, region_px=2048, patch_px=256, read_mpp=0.5,
                      min_tissue=min_tissue)  # fmt: skip
    patches = tree.patches
    assert len(tree.regions) >= 1
    foreground = np.bincount(patches.region[~patches.background], minlength=len(tree.regions))
    assert (foreground >= 1).all()
    clear = patches.tissue >= np.float32(min_tissue)
    assert not patches.background[clear].any()
    # at most one patch is let through below the limit: the slide's best
    let_through = ~patches.background & ~clear
    assert let_through.sum() <= 1
    assert not let_through.any() or patches.tissue[let_through] == patches.tissue.max()
    # nothing with enough tissue was dropped: the kept foreground holds what a grid with all kept would
    full = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1).reshape(-1, 2) * 256
    assert clear.sum() == (tissue.fraction(full, 256) >= np.float32(min_tissue)).sum()


def test_slide_smaller_than_a_region_gives_one_padded_region():
    tree = build_grid((300, 200), 0.5, BoxTissue(0, 0, 300, 200), region_px=2048, patch_px=256, read_mpp=0.5)
    assert len(tree.regions) == 1
    assert tree.regions.padded[0]
    assert tree.patches.background.sum() == 64 - 2
    assert tree.patches.tissue[:2] == pytest.approx([200 / 256, 200 * 44 / 256**2], rel=1e-5)


def test_no_tissue_gives_no_region():
    tree = build_grid((5000, 5000), 0.5, BoxTissue(0, 0, 0, 0), region_px=2048, patch_px=256, read_mpp=0.5)
    assert len(tree.regions) == len(tree.patches) == 0
    assert tree.patches.xy.shape == (0, 2)


def test_focus_is_asked_for_kept_regions_only():
    asked = []

    def focus(xy, size0):
        asked.append((xy.copy(), size0))
        return np.full(len(xy), 0.25, np.float32)

    tree = build_grid((10_000, 10_000), 0.25, BoxTissue(4200, 4200, 8000, 8000), region_px=2048, patch_px=256,
                      read_mpp=0.5, focus=focus)  # fmt: skip
    assert tree.regions.xy.tolist() == [[4096, 4096]]
    assert asked[0][0].tolist() == [[4096, 4096]]
    assert asked[0][1] == 4096
    assert tree.regions.focus.tolist() == [0.25]


@pytest.mark.parametrize("bad", [{"region_px": 1000}, {"patch_px": 0}, {"read_mpp": 0.0}], ids=lambda b: next(iter(b)))
def test_impossible_grids_are_refused(bad):
    sizes = {"region_px": 2048, "patch_px": 256, "read_mpp": 0.5} | bad
    with pytest.raises(ValueError, match=r"grid|region"):
        build_grid((100, 100), 0.5, BoxTissue(0, 0, 100, 100), **sizes)
