"""BERTScore by a small encoder: the definition, its bounds, and what is no encoder."""

import pytest
import torch

from hwsi.benchmarks.metrics.bertscore import BertScore
from hwsi.errors import HwsiError, Reason

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tumour", "stroma", "no", "necrosis", "is", "seen", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=16)  # fmt: skip
    BertModel(config).save_pretrained(path)
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return path


def test_a_copy_scores_highest_and_nothing_leaves_zero_to_one(folder):
    score = BertScore.load(folder)
    texts = ["tumour is seen .", "no necrosis is seen", "stroma", "", "tumour " * 600, "unknown words"]
    for a in texts[:3]:
        assert score.f1(a, a) == pytest.approx(1.0)
        for b in texts:
            assert 0 <= score.f1(a, b) <= 1
            assert score.f1(a, b) == pytest.approx(score.f1(b, a))
            assert score.f1(a, b) <= score.f1(a, a) + 1e-9
    assert score.f1("tumour", "") == 0.0
    (name,) = score.figures(["tumour"], ["tumour"])
    assert name == "bertscore_f1 (tiny-bert, layer 2)"


def test_it_is_greedy_matching_by_cosine(folder):
    score = BertScore.load(folder)
    a, b = "tumour is seen", "no stroma"
    given = [score.tokenizer(t, return_tensors="pt") for t in (a, b)]
    with torch.no_grad():
        x, y = (score.model(**g, output_hidden_states=True).hidden_states[2][0, 1:-1].double() for g in given)
    table = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=-1).clamp(0, 1)
    recall, precision = float(table.max(1).values.mean()), float(table.max(0).values.mean())
    assert score.f1(a, b) == pytest.approx(2 * precision * recall / (precision + recall))


def test_what_is_no_encoder_is_told(tmp_path):
    with pytest.raises(HwsiError) as error:
        BertScore.load(tmp_path)
    assert error.value.reason == Reason.WEIGHTS_MISSING
    assert "\n" not in str(error.value)
