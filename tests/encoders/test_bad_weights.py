"""Files that are not the weights of an encoder, handed to the loader of every encoder that there is."""

import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hwsi.encoders import cell_instanseg, registry
from hwsi.encoders.registry import EncoderSpec
from hwsi.errors import HwsiError, Reason

LOADED = [spec for spec in registry.available() if spec.has_weights]
SCRIPTS = ("instanseg",)  # TorchScript has no tensors by name
MADE = "made-by-a-pickle"


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (MADE,)


def foreign(file: Path) -> None:
    save_file({"alien.weight": torch.zeros(2, 3)}, file)


def foreign_pickle(file: Path) -> None:
    torch.save({"alien.weight": torch.zeros(2, 3)}, file)


def cut_safetensors(file: Path) -> None:
    save_file({"alien.weight": torch.zeros(200, 3)}, file)
    file.write_bytes(file.read_bytes()[:-300])


def cut_pickle(file: Path) -> None:
    torch.save({"alien.weight": torch.zeros(200, 3)}, file)
    file.write_bytes(file.read_bytes()[:-300])


def code(file: Path) -> None:
    torch.save({"alien.weight": torch.zeros(2), "more": Code()}, file)


def bare_code(file: Path) -> None:
    file.write_bytes(pickle.dumps({"alien.weight": Code()}, protocol=2))


def empty(file: Path) -> None:
    file.touch()


def page(file: Path) -> None:
    """What a download gives that needed a permission."""
    file.write_text("<!DOCTYPE html><html>Access denied</html>")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with what a snapshot of TITAN or PRISM has beside its weights, and with InstanSeg's package at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "instanseg", SimpleNamespace())
    monkeypatch.setattr(cell_instanseg, "find_spec", lambda name: object())
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8, "vocab_size": 9,
        "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}))  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("make", [foreign, foreign_pickle, cut_safetensors, cut_pickle, code, bare_code, empty, page])
@pytest.mark.parametrize("spec", LOADED, ids=lambda spec: spec.id)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(spec: EncoderSpec, make, folder: Path) -> None:
    file = folder / ("model.safetensors" if spec.remote_code else "weights.bin")
    make(file)
    with pytest.raises(HwsiError) as told:
        spec.build(weights=file, trust_remote_code=spec.remote_code)
    line = str(told.value)
    assert told.value.reason is Reason.WEIGHTS_MISMATCH
    assert file.name in line
    assert "\n" not in line
    assert not (folder / MADE).exists()
    if make is foreign and spec.id not in SCRIPTS:
        # which tensors are too many, or not there; the text tower looks for its tokenizer first
        assert any(part in line for part in ("unexpected alien.weight", "lacks", "holds no tokenizer")), line
