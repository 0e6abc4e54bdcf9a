"""The same nuclei as the release finds in its maps: every pixel, outline, type and vector."""

import cv2
import numpy as np
import pytest
from golden import golden, relative, skip

from hwsi.encoders import hover

pytestmark = skip


@pytest.fixture(scope="module")
def maps():
    return golden("07_cellvit_postproc")


@pytest.fixture(scope="module")
def labels(maps):
    tensors, _ = maps
    probability = tensors["nuclei_binary_map"][0].numpy()
    return hover.segment(probability[1] > probability[0], tensors["hv_map"][0].numpy())


@pytest.fixture(scope="module")
def nuclei(maps, labels):
    return hover.describe(labels, maps[0]["type_argmax"][0].numpy())


# in the release the magnification changes nothing: one result stands against both
@pytest.mark.parametrize("magnification", ["mag20", "mag40"])
def test_same_instance_map(maps, labels, magnification):
    expected = maps[0][f"{magnification}.instance_map"][0].numpy()
    assert len(np.unique(expected)) == 14
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("magnification", ["mag20", "mag40"])
def test_same_cells(maps, nuclei, magnification):
    expected = maps[1]["cells"][magnification]
    assert [str(n.number) for n in nuclei] == list(expected)
    for nucleus in nuclei:
        cell = expected[str(nucleus.number)]
        assert nucleus.contour.tolist() == cell["contour"]
        assert [list(nucleus.box[:2]), list(nucleus.box[2:])] == cell["bbox"]
        assert nucleus.centroid == pytest.approx(cell["centroid"], abs=1e-9)
        assert nucleus.type == cell["type"]
        # the release divides by the number of pixels + 1e-6
        assert nucleus.share == pytest.approx(cell["type_prob"], abs=1e-6)


@pytest.mark.parametrize("magnification", ["mag20", "mag40"])
def test_same_vectors(maps, labels, nuclei, magnification):
    tokens = golden("07_cellvit256")[0]["tokens"][0].numpy()
    found = hover.mean_tokens(labels, tokens, nuclei)
    assert relative(found, maps[0][f"{magnification}.mask_mean.cell_features"]) < 1e-6


def test_outline_keeps_the_area_that_contours_lose(labels, nuclei):
    for nucleus in nuclei:
        mask = labels[nucleus.window] == nucleus.number
        area = mask.sum()
        assert cv2.contourArea(hover.outline(mask)) == pytest.approx(area, rel=0.05)
        assert cv2.contourArea(nucleus.contour) < 0.95 * area
