"""What regions look like at low magnification."""

import numpy as np
import pytest
from PIL import Image

from hwsi.slide import open_slide, region_glance
from hwsi.slide.glance import COLUMNS

EOSIN, HAEMATOXYLIN, GLASS = (225, 130, 180), (90, 60, 150), (244, 243, 245)


@pytest.fixture
def slide(tmp_path):
    """Four regions of 512 px at 0.5 um: glass, stroma, nuclei in stroma, a field of nuclei."""
    pixels = np.zeros((512, 2048, 3), np.uint8)
    pixels[:] = GLASS
    pixels[:, 512:] = EOSIN
    for y in range(8, 512, 64):
        for x in range(1024 + 8, 1536, 64):
            pixels[y : y + 24, x : x + 24] = HAEMATOXYLIN
    pixels[:, 1536:] = HAEMATOXYLIN
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    with open_slide(tmp_path / "slide.png", mpp=0.5) as opened:
        yield opened


def test_glass_stroma_and_nuclei_are_told_apart(slide):
    rows = region_glance(slide, [(0, 0), (512, 0), (1024, 0), (1536, 0)], 512)
    of = dict(zip(COLUMNS[:4], rows.T[:4], strict=True))
    assert rows.shape == (4, len(COLUMNS))
    assert np.isfinite(rows).all()
    assert of["haematoxylin"][3] > of["haematoxylin"][2] > of["haematoxylin"][0]
    assert of["nuclei"][3] == 1
    assert of["nuclei"][0] == of["nuclei"][1] == 0
    assert int(of["its edges"].argmax()) == 2  # nuclei in stroma are the most uneven
    assert rows[0, -1] == 1  # glass
    assert rows[1:, -1].max() == 0


def test_a_region_beyond_the_border_is_white_there(slide):
    inside, over = region_glance(slide, [(1536, 0), (1792, 0)], 512)
    assert over[-1] == pytest.approx(0.5, abs=0.05)
    assert over[0] == pytest.approx(inside[0] / 2, rel=0.1)
    assert region_glance(slide, np.zeros((0, 2)), 512).shape == (0, len(COLUMNS))
