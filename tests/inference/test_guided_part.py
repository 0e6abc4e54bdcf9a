"""A part of a slide knows nothing of the rest, and a question leads to the tissue that its words are near."""

from dataclasses import replace

import numpy as np
import pytest

from hwsi.inference import guided
from hwsi.inference.guided import guided_regions, question_relevance
from hwsi.inference.part import part_of
from hwsi.inference.space import Places


def test_a_part_is_the_same_whatever_the_rest_is(features_of):
    one, other = features_of(0), features_of(0)
    chosen = np.array([1, 4])
    region = other.region["region-nano"].copy()
    region[[0, 2, 3, 5]] += 5
    other = replace(other, region={"region-nano": region}, slide={"slide-nano": -other.slide["slide-nano"]})
    a, b = part_of(one, chosen), part_of(other, chosen)
    assert (a.slide["slide-nano"] == b.slide["slide-nano"]).all()
    assert len(a.hierarchy.regions) == 2
    assert not np.allclose(a.slide["slide-nano"], part_of(one, np.array([0, 1, 4])).slide["slide-nano"])


class Beacons:
    """A space in which region 4's patches lie near the word, and no other's do."""

    def texts(self, texts):
        return np.array([[1.0, 0.0]] * len(texts), np.float32)

    def tissue(self, features):
        tree = features.hierarchy
        near = (tree.patches.region == 4)[:, None]
        patch = np.where(near, [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
        return Places(patch[0], np.tile([[0.0, 1.0]], (len(tree.regions), 1)).astype(np.float32), patch)


def test_the_region_near_the_words_is_chosen_first(features, monkeypatch):
    monkeypatch.setattr(guided, "_space", lambda preset: Beacons())
    relevance = question_relevance(features, "Is there necrosis?", ["yes", "no"])
    assert relevance.argmax() == 4
    assert relevance.mean() == pytest.approx(0, abs=1e-9)
    assert guided_regions(features, "region-nano", relevance, 1).tolist() == [4]
    assert 4 in guided_regions(features, "region-nano", relevance, 3)
