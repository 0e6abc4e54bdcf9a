"""``hwsi convert --language-model``: a folder that any tool reads as a language model."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hwsi.model import load


@pytest.fixture
def ours(tiny_release, tmp_path):
    for part in tiny_release:
        part.save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


@pytest.mark.parametrize("kind", ["resample", "nano"])
def test_it_is_the_language_model_alone(run, ours, tmp_path, kind):
    source = ours if kind == "resample" else "nano"
    status, out, err = run("convert", source, tmp_path / "plain", "--language-model")
    assert (status, err) == (0, "")
    assert "holds the language model of" in out
    assert len(out.splitlines()) == 1
    model, processor = load(source)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).eval()
    assert not any("visual" in name for name in plain.state_dict())
    words = AutoTokenizer.from_pretrained(tmp_path / "plain")
    ids = processor.question("What is the diagnosis?")
    assert words.decode(ids) == processor.tokenizer.decode(ids)
    with torch.no_grad():
        hidden = model.model.language_model(input_ids=torch.tensor([ids])).last_hidden_state
        assert torch.equal(plain(input_ids=torch.tensor([ids])).logits, model.lm_head(hidden))
    assert plain.generation_config.eos_token_id == model.generation_config.eos_token_id


def test_a_folder_that_is_there_is_left_alone(run, ours):
    status, _, err = run("convert", ours, ours, "--language-model")
    assert status == 2
    assert "output_unwritable" in err
