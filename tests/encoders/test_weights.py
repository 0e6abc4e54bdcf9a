from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwsi import encoders
from hwsi.encoders import weights
from hwsi.encoders.text_nano import TextNano, train_tokenizer
from hwsi.errors import HwsiError, Reason


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2)
        self.register_buffer("n", torch.tensor([1, 2]))


def test_saved_weights_come_back_rounded_to_half(tmp_path: Path) -> None:
    module = Small()
    file = tmp_path / "w.safetensors"
    weights.save(module, file, texts={"note": "ü"})
    assert load_file(file)["a.weight"].dtype == torch.float16
    again = weights.initialise(Small, file)
    assert again.a.weight.dtype == torch.float32
    assert torch.equal(again.a.weight, module.a.weight.half().float())
    assert again.n.dtype == torch.int64
    assert weights.metadata(file) == {"note": "ü"}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_every_fault_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a.weight": torch.zeros(2, 4), "b": torch.zeros(1), "n": torch.tensor([1, 2])}, file)
    with pytest.raises(HwsiError) as e:
        weights.initialise(Small, file)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
    for part in ("missing a.bias", "unexpected b", "a.weight has shape (2, 4), not (2, 3)"):
        assert part in e.value.what


def test_a_missing_file_and_a_cut_file(tmp_path: Path) -> None:
    with pytest.raises(HwsiError) as e:
        weights.initialise(Small, tmp_path / "none.safetensors")
    assert e.value.reason is Reason.WEIGHTS_MISSING
    with pytest.raises(HwsiError) as e:
        weights.sha256(weights.embedded("no-such-file.safetensors"))
    assert e.value.reason is Reason.WEIGHTS_MISSING
    file = tmp_path / "w.safetensors"
    weights.save(Small(), file)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(HwsiError) as e:
        weights.initialise(Small, file)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH
    file.write_bytes(b"nonsense that is no header")
    with pytest.raises(HwsiError) as e:
        weights.metadata(file)
    assert e.value.reason is Reason.WEIGHTS_MISMATCH


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    weights.initialise(Small, None)
    assert torch.equal(torch.rand(4), expected)


def test_a_tokenizer_travels_with_its_weights(tmp_path: Path) -> None:
    tower = TextNano(train_tokenizer(["invasive ductal carcinoma, grade 2"] * 5, vocab=300)).eval()
    file = tmp_path / "text.safetensors"
    tower.save(file)
    again = encoders.get("text-nano").build(weights=file)
    texts = ["Ductal carcinoma", "grade 2"]
    assert torch.equal(tower.tokenise(texts)[0], again.tokenise(texts)[0])
    assert torch.allclose(tower.encode(texts), again.encode(texts), atol=2e-3)
    weights.save(tower, file)  # without the tokenizer
    with pytest.raises(HwsiError, match="no tokenizer"):
        encoders.get("text-nano").build(weights=file)
