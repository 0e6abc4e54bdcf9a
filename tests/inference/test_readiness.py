"""What the doctor looks at, each on a machine that lacks just that."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from hwsi.encoders import registry
from hwsi.errors import HwsiError
from hwsi.inference import readiness
from hwsi.inference.readiness import Check, check
from hwsi.model import zoo
from hwsi.presets import load_preset

NANO = load_preset("nano")
PAPER = load_preset("paper")
QWEN = zoo.get("Qwen/Qwen2.5-7B-Instruct")
RELEASE = zoo.get("mllm-hwsi")


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch) -> list[tuple[str, int]]:
    """An empty machine; who was asked over the network, in vain."""
    asked: list[tuple[str, int]] = []
    for name in ("HF_TOKEN", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HWSI_WEIGHTS", str(tmp_path / "weights.yaml"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(readiness, "_answers", lambda host, port: bool(asked.append((host, port))))
    return asked


def named(checks: tuple[Check, ...], name: str) -> list[Check]:
    return [c for c in checks if c.name == name]


def with_encoders(**ids: str):
    return NANO.model_copy(update={"encoders": NANO.encoders.model_copy(update=ids)})


def hollow(encoder_id: str, file: Path) -> Path:
    """A weights file with all names and shapes, as large as the real one, of zeros that take no room on the disk."""
    module, function = registry.get(encoder_id).builder.split(":")
    with torch.device("meta"):
        built = getattr(import_module(module), function)(None)
    header, at = {}, 0
    for name, tensor in getattr(built, "network", built).state_dict().items():
        header[name] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [at, at + 4 * tensor.numel()]}
        at += 4 * tensor.numel()
    text = json.dumps(header).encode()
    with file.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + at)
    return file


def in_hub(card: zoo.ModelCard, hub: Path, *files: str) -> Path:
    """A snapshot in a Hub cache."""
    repo = hub / f"models--{card.hub.replace('/', '--')}"
    folder = repo / "snapshots" / (card.revision or "c0ffee")
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(folder.name)
    return folder


def test_a_machine_with_the_package_runs_nano(tmp_path, asked):
    found = check(NANO, tmp_path / "not" / "yet")
    assert found.ready
    assert found.answers
    assert asked == []
    assert all(c.todo for c in found.checks if c.state == "fail")


def test_every_failure_and_note_says_what_to_do(tmp_path):
    for preset in (PAPER, load_preset("released"), load_preset("open"), with_encoders(slide="titan")):
        for c in check(preset, tmp_path).checks:
            assert c.what
            assert bool(c.todo) == (c.state != "ok"), c


def test_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 5 * 10**8))
    (found,) = named(check(NANO, tmp_path).checks, "disk of --out")
    assert (found.state, found.todo) == ("fail", "free some space")
    # a cache that nothing has to go into may be full; one that takes the release may not
    (cache,) = named(check(NANO, tmp_path).checks, "disk of Hub cache")
    assert cache.state == "ok"
    (cache,) = named(check(load_preset("released"), tmp_path).checks, "disk of Hub cache")
    assert cache.state == "fail"
    assert "16.4 GB are needed" in cache.what


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (found,) = named(check(NANO, tmp_path / "file" / "job").checks, "disk of --out")
    assert (found.state, found.todo) == ("fail", "choose another folder")


def test_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "_free_memory", lambda: 0.5e9)
    (found,) = named(check(NANO, tmp_path).checks, "memory")
    assert found.state == "fail"
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    # 9 regions of 8192 px at 0.25 um/px, three copies each
    monkeypatch.setattr(readiness, "_free_memory", lambda: 6.3e9)
    assert named(check(PAPER, tmp_path).checks, "memory")[0].state == "fail"
    monkeypatch.setattr(readiness, "_free_memory", lambda: 6.6e9)
    (found,) = named(check(PAPER, tmp_path).checks, "memory")
    assert found.state == "note"
    assert "answering 30 GB" in found.what


def test_free_memory_is_of_this_machine():
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < readiness._free_memory() <= pages


def test_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness.metadata, "requires", lambda name: [
        "torch>=99", "no-such-package-here>=1", "pytest>=1; extra == 'dev'", "other; sys_platform == 'plan9'",
    ])  # fmt: skip
    found = [c for c in named(check(NANO, tmp_path).checks, "packages") if c.state == "fail"]
    assert [c.todo for c in found] == ["pip install 'torch>=99'", "pip install 'no-such-package-here>=1'"]
    assert "is needed" in found[0].what


def test_an_encoder_that_needs_an_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "find_spec", lambda name: None)
    found = check(with_encoders(cell="instanseg"), tmp_path)
    extra = [c for c in named(found.checks, "packages") if c.state == "fail"]
    assert ["hwsi[instanseg]" in c.todo for c in extra] == [True]
    assert not found.ready


def test_gpu(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = named(check(NANO, tmp_path).checks, "gpu")
    assert found.state == "note"
    properties = namedtuple("properties", "name total_memory")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: properties("H100", 80 * 10**9))
    (found,) = named(check(NANO, tmp_path).checks, "gpu")
    assert (found.state, found.what) == ("ok", "H100, 80 GB, H100, 80 GB")


def test_weights_are_told_with_where_they_were_found(tmp_path, monkeypatch):
    here = hollow("conch_v1", tmp_path / "w.safetensors")
    monkeypatch.setenv("HWSI_WEIGHTS_CONCH_V1", str(here))
    monkeypatch.setenv("HWSI_WEIGHTS_HIPT_VIT256", str(tmp_path / "gone.pth"))
    checks = check(PAPER, tmp_path).checks
    (conch,) = named(checks, "patch conch_v1")
    assert (conch.state, conch.what) == ("ok", f"{here} (environment; CC-BY-NC-ND-4.0), its tensors fit")
    (named_and_gone,) = named(checks, "patch hipt_vit256")
    assert named_and_gone.state == "fail"
    assert "gone.pth" in named_and_gone.what
    assert named(checks, "region hipt_vit4k")[0].state == "fail"
    # what only search by words needs holds nobody up
    assert named(checks, "text conch_v1_text")[0].state == "note"


def test_weights_that_do_not_fit_are_told_before_a_long_run(tmp_path, monkeypatch):
    whole = hollow("conch_v1", tmp_path / "whole.safetensors")
    for variable, file in (("CONCH_V1", "cut"), ("HIPT_VIT256", "whole"), ("HIPT_VIT4K", "empty")):
        monkeypatch.setenv(f"HWSI_WEIGHTS_{variable}", str(tmp_path / f"{file}.safetensors"))
    (tmp_path / "empty.safetensors").touch()
    hollow("conch_v1", tmp_path / "cut.safetensors")
    os.truncate(tmp_path / "cut.safetensors", whole.stat().st_size - 1)
    checks = check(PAPER, tmp_path).checks
    (cut,) = named(checks, "patch conch_v1")
    (other,) = named(checks, "patch hipt_vit256")
    (empty,) = named(checks, "region hipt_vit4k")
    assert {c.state for c in (cut, other, empty)} == {"fail"}
    assert "cut.safetensors is no whole" in cut.what
    assert "whole.safetensors doesn't fit Vit256: unexpected" in other.what
    assert "empty.safetensors" in empty.what
    # they are here, so there is nothing to fetch
    (fetch,) = named(checks, "to fetch")
    assert not any(name in fetch.what for name in ("conch_v1 ", "hipt"))


def test_a_tower_without_its_tokenizer_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HWSI_WEIGHTS_CONCH_V1_TEXT", str(hollow("conch_v1_text", tmp_path / "text.safetensors")))
    (told,) = named(check(PAPER, tmp_path).checks, "tokenizer conch_v1_text")
    assert told.state == "note"
    assert "conch_byte_level_bpe_uncased.json" in told.todo
    assert "github.com/mahmoodlab/CONCH" in told.todo
    Tokenizer(WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    (told,) = named(check(PAPER, tmp_path).checks, "tokenizer conch_v1_text")
    assert told.state == "ok"
    (tmp_path / "tokenizer.json").write_text("no json")
    (tower,) = named(check(PAPER, tmp_path).checks, "text conch_v1_text")
    assert (tower.state, "is no tokenizer" in tower.what) == ("fail", True)


def test_a_preset_with_all_encoders_can_run(tmp_path, monkeypatch, asked):
    for encoder in ("cellvit_256", "conch_v1", "conch_v1_text", "hipt_vit256", "hipt_vit4k"):
        file = hollow(encoder, tmp_path / f"{encoder}.safetensors")
        monkeypatch.setenv(f"HWSI_WEIGHTS_{encoder.upper()}", str(file))
    found = check(PAPER, tmp_path)
    assert found.ready
    assert not found.answers
    assert asked == []
    # a model that was trained on its language model
    (tmp_path / "model").mkdir()
    own = PAPER.model_copy(update={"language_model": str(tmp_path / "model")})
    assert not check(own, tmp_path).ready
    (tmp_path / "model" / "config.json").write_text("{}")
    assert check(own, tmp_path).answers


def test_access(tmp_path, monkeypatch, asked):
    checks = check(PAPER, tmp_path).checks
    (token,) = named(checks, "hub token")
    assert (token.state, token.todo) == ("note", "hf auth login")
    assert token.what.count("MahmoodLab/conch") == 1
    (network,) = named(checks, "network")
    assert network.state == "note"
    assert asked == [("huggingface.co", 443)]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr(readiness, "_answers", lambda host, port: True)
    checks = check(PAPER, tmp_path).checks
    assert [named(checks, name)[0].state for name in ("hub token", "network")] == ["ok", "ok"]
    assert "secret" not in str(checks)


def test_the_proxy_is_asked_where_there_is_one(tmp_path, monkeypatch, asked):
    for proxy, at in (("http://proxy:8080", ("proxy", 8080)), ("proxy.lan", ("proxy.lan", 3128))):
        monkeypatch.setenv("https_proxy", proxy)
        check(PAPER, tmp_path)
        assert asked.pop() == at


def test_offline_is_offline(tmp_path, monkeypatch, asked):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (found,) = named(check(PAPER, tmp_path).checks, "network")
    assert "HF_HUB_OFFLINE" in found.what
    assert asked == []


def test_one_attempt_of_two_seconds(monkeypatch):
    monkeypatch.undo()
    attempts = []

    def hangs(address, timeout):
        attempts.append((address, timeout))
        time.sleep(4)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hangs)
    start = time.perf_counter()
    assert not readiness._answers("huggingface.co", 443)
    assert time.perf_counter() - start < 3
    assert attempts == [(("huggingface.co", 443), 2.0)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.undo()
        assert readiness._answers("127.0.0.1", server.getsockname()[1])


def test_code_of_others_is_told(tmp_path):
    (found,) = named(check(with_encoders(slide="titan"), tmp_path).checks, "remote code")
    assert found.state == "note"
    assert "MahmoodLab/TITAN" in found.what
    assert "--trust-remote-code" in found.todo


def test_presets_that_name_nothing_are_refused(tmp_path):
    with pytest.raises(HwsiError, match="encoder_unknown"):
        check(with_encoders(patch="nothing"), tmp_path)
    with pytest.raises(HwsiError, match="option_invalid"):
        check(with_encoders(patch="slide-nano"), tmp_path)


def test_models_in_the_hub_cache_are_whole_or_not_there(tmp_path):
    assert zoo.find(QWEN) is None
    shards = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    folder = in_hub(QWEN, tmp_path / "hub", "config.json", "tokenizer_config.json", "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(shards)
    assert zoo.find(QWEN) is None  # the download broke off
    (folder / "model-2.safetensors").touch()
    found = zoo.find(QWEN)
    assert found is not None
    assert (found.file, found.source) == (folder, "Hub cache")
    (folder / "model.safetensors.index.json").write_text("[]")
    assert zoo.find(QWEN) is None
    # the release needs its projector beside the language model
    folder = in_hub(RELEASE, tmp_path / "hub", *RELEASE.needs[:-1], "model.safetensors")
    assert zoo.find(RELEASE) is None
    (folder / RELEASE.needs[-1]).touch()
    assert zoo.find(RELEASE).file == folder


def test_models_are_known_by_both_names():
    assert zoo.get("qwen2.5-7b-instruct") is zoo.get("qwen/qwen2.5-7b-INSTRUCT") is QWEN
    assert zoo.get("/a/folder") is None
    assert zoo.find(zoo.get("nano")).source == "package"
    assert len({card.id for card in zoo.available()}) == len(zoo.available())
    assert not {card.id for card in zoo.available()} & {spec.id for spec in registry.available()}


def test_listing_models_imports_nothing_heavy():
    code = (
        "import sys; from hwsi.model import zoo; zoo.available(); assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_trained_model_is_loaded_from_the_folder_that_a_preset_names(tmp_path, nano, monkeypatch):
    import yaml

    from hwsi.inference.loading import load_model

    model, processor = nano
    for part in (model, processor):
        part.save_pretrained(tmp_path / "trained")
    own = NANO.model_copy(update={"name": "own", "language_model": str(tmp_path / "trained")})
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own.model_dump(mode="json")))
    loaded, _, digest = load_model(str(tmp_path / "own.yaml"))
    assert type(loaded) is type(model)
    assert len(digest) == 64
    with pytest.raises(HwsiError, match=r"weights_missing.*has not been trained on slides, nor is it.*15\.2 GB"):
        load_model("paper")
