"""Semantic patch filtering against the authors' indices."""

import numpy as np
import pytest
from golden import golden, skip

from hwsi.hierarchy.farthest import farthest_points, filter_as_released, filter_patches, most_similar

pytestmark = skip


@pytest.fixture(scope="module")
def tensors():
    return {name: value.numpy() for name, value in golden("04_semantic_filtering")[0].items()}


@pytest.mark.parametrize("region", [0, 1, 2])
@pytest.mark.parametrize(("spread", "keep"), [(32, 16), (8, 3)])
def test_spread_then_text(tensors, region, spread, keep):
    features, text = tensors["features"][region], tensors["text"][0]
    points, scores = farthest_points(features, spread)
    assert np.array_equal(points, tensors[f"n{spread}.r{region}.dissimilar_indices"])
    np.testing.assert_allclose(scores, tensors[f"n{spread}.r{region}.dissimilar_scores"], atol=1e-6)
    _, similarity = most_similar(features[points], text, keep)
    np.testing.assert_allclose(similarity, tensors[f"n{spread}k{keep}.r{region}.topk_sims"], atol=1e-6)
    kept = filter_patches(features, text, spread=spread, keep=keep)
    assert np.array_equal(kept, tensors[f"n{spread}k{keep}.r{region}.topk_indices"])


def test_a_slide_as_released(tensors):
    features = tensors["features"]
    together = filter_as_released(features)
    assert np.array_equal(together, tensors["inference.selected_indices"])
    alone = np.concatenate([filter_as_released(features[i : i + 1]) for i in range(len(features))])
    assert np.array_equal(alone, tensors["inference_per_region.selected_indices"])
    assert not np.array_equal(together[1], alone[1])  # the release lets the first region choose for all


def test_without_a_text_a_region_chooses_for_itself(tensors):
    region = tensors["features"][1]
    assert np.array_equal(filter_patches(region), farthest_points(region, 32)[0][:16])
    assert len(filter_patches(region[:5])) == 5
    with pytest.raises(ValueError, match="finite"):
        filter_patches(np.zeros((0, 4)))
