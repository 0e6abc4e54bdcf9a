"""The heatmap lies over its slide: sizes, microns, places and levels."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.features.heatmap import heat_image, write_heatmap


@settings(max_examples=40, deadline=None)
@given(st.integers(300, 30_000), st.integers(300, 30_000), st.data())
def test_a_boxs_middle_has_its_score(width, height, data):
    x0, y0 = data.draw(st.integers(0, width - 200)), data.draw(st.integers(0, height - 200))
    image, step = heat_image([((x0, y0, x0 + 200, y0 + 200), 0.7)], width, height)
    assert image.shape == (-(-height // step), -(-width // step))
    assert max(image.shape) <= 4096
    assert image[(y0 + 100) // step, (x0 + 100) // step] == np.float32(0.7)
    assert (image > 0).sum() <= (200 // step + 2) ** 2


def test_the_finest_box_is_on_top_whatever_the_order():
    boxes = [((100, 100, 200, 200), 0.2), ((0, 0, 1000, 1000), 0.9)]
    for scores in (boxes, boxes[::-1]):
        image, _ = heat_image(scores, 1000, 1000)
        assert image[150, 150] == np.float32(0.2)
        assert image[500, 500] == np.float32(0.9)


def test_the_file_is_a_pyramid_of_exact_microns(tmp_path):
    path = tmp_path / "heat.ome.tiff"
    write_heatmap(path, [((2000, 3000, 4000, 5000), 1.5)], 20_001, 9_999, 0.25)
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert series.kind == "ome"
        assert [level.shape for level in series.levels] == [(2000, 4001), (1000, 2001), (500, 1001)]
        assert series.dtype == np.float32
        assert series.levels[0].asarray()[800, 600] == 1.5
        assert 'PhysicalSizeX="1.25"' in file.ome_metadata
        tag = file.pages[0].tags["XResolution"].value
        assert tag[1] / tag[0] * 1e4 == pytest.approx(1.25, rel=1e-6)
    assert path.stat().st_size < 200_000
