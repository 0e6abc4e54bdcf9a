"""The release's pooled alignment losses and its four texts, against the authors' numbers."""

import pytest
import torch
from golden import golden, skip

from hwsi.model.pooled_alignment import consistency, contrastive, info_nce, phrases, scale_texts, sentences

pytestmark = skip
NAMES = {"slide": "wsi", "region": "region", "patch": "patch", "cell": "cell"}


@pytest.fixture(scope="module")
def case():
    return golden("03_losses")


def pooled(tensors, kind):
    return {ours: tensors[f"{kind}.{theirs}"] for ours, theirs in NAMES.items()}


@pytest.mark.parametrize("b", [4, 1])
@pytest.mark.parametrize("temperature", [0.07, 0.75])
def test_info_nce(case, b, temperature):
    tensors, about = case
    loss = info_nce(tensors[f"nce.B{b}.image"], tensors[f"nce.B{b}.text"], temperature)
    assert loss.item() == pytest.approx(about["results"][f"info_nce B={b} temperature={temperature}"], rel=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.75])
def test_contrastive(case, temperature):
    tensors, about = case
    loss, parts = contrastive(pooled(tensors, "visual"), pooled(tensors, "text"), temperature)
    told = about["results"][f"hierarchical_contrastive temperature={temperature}"]
    assert loss.item() == pytest.approx(told["loss"], rel=1e-6)
    for ours, theirs in NAMES.items():
        assert parts[ours].item() == pytest.approx(told[f"contrast_{theirs}"], rel=1e-6)


def test_consistency(case):
    tensors, about = case
    loss, parts = consistency(pooled(tensors, "visual"))
    told = about["results"]["cross_scale_consistency"]
    assert loss.item() == pytest.approx(told["loss"], rel=1e-6)
    for (child, parent), value in parts.items():
        assert value.item() == pytest.approx(told[f"cons_{NAMES[child]}_{NAMES[parent]}"], rel=1e-6)


def test_texts(case):
    for told in case[1]["text_splitting"]:
        answer = told["answer"]
        assert sentences(answer) == told["sentences"]
        assert phrases(answer) == told["phrases"]
        keys = {"slide": "para_text", "region": "sentence_text", "patch": "phrase_text", "cell": "word_text"}
        assert scale_texts(answer) == {scale: told[key] for scale, key in keys.items()}


def test_one_slide_alone_has_no_negatives():
    a = torch.randn(1, 8)
    assert info_nce(a, a).item() == pytest.approx(0, abs=1e-6)
    assert info_nce(a, -a).item() == pytest.approx(2)
