"""The release's tissue outlines and region coordinates against the authors' numbers."""

from dataclasses import dataclass

import numpy as np
import pytest
from golden import golden, skip

from hwsi.encoding.released_grid import lay_regions, readable, released_regions, segment

pytestmark = skip
MAGNIFICATIONS = [20, 40]


@dataclass
class Level:
    width: int
    height: int
    downsample: float


class Pyramid:
    """A slide of which only the level that is segmented can be read."""

    def __init__(self, image, downsamples, size0):
        self.image = image
        self.levels = tuple(Level(int(size0[0] / d), int(size0[1] / d), d) for d in downsamples)

    def read_level(self, level, x, y, w, h):
        assert (x, y, h, w) == (0, 0, *self.image.shape[:2])
        assert (self.levels[level].height, self.levels[level].width) == self.image.shape[:2]
        return self.image


@pytest.fixture(scope="module")
def case():
    tensors, about = golden("10_regions")
    return {name: value.numpy() for name, value in tensors.items()}, about


def test_outline_of_the_tissue(case):
    tensors, about = case
    outlines = segment(tensors["seg_level_rgb"], about["level_downsamples"][3])
    assert len(outlines) == 1
    assert outlines[0].holes == ()
    assert np.array_equal(outlines[0].contour, tensors["contour0"])


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_coordinates(case, magnification):
    tensors, about = case
    slide = Pyramid(tensors["seg_level_rgb"], about["level_downsamples"], about["level0"])
    found = released_regions(slide, magnification)
    assert np.array_equal(found, tensors[f"coords_mag{magnification}"])


def test_those_over_the_border_are_not_read(case):
    tensors, about = case
    inside = readable(tensors["coords_mag40"], about["level0"])
    assert (len(inside), inside.sum()) == (10, 8)


def test_holes_and_blank_slides():
    blank = np.full((512, 512, 3), 255, np.uint8)
    assert segment(blank, 32.0) == []
    assert lay_regions([], 1.0).shape == (0, 2)
    ring = blank.copy()
    ring[20:492, 20:492] = (200, 60, 140)
    ring[120:392, 120:392] = 255
    (outline,) = segment(ring, 32.0)
    assert len(outline.holes) == 1
    corners = lay_regions([outline], 1.0)
    centres = corners + 2048
    in_hole = ((centres > 130 * 32) & (centres < 382 * 32)).all(axis=1)
    assert len(corners) > 4
    assert not in_hole.any()
    assert segment(ring[:64, :64], 32.0) == []  # too small a piece
