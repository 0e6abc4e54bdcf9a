"""``hwsi encode``: where it computes, in which precision, and whose code it runs."""

import json
import re

import pytest
import torch

from hwsi.features import read_features

CAN = torch.cpu.get_capabilities()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--device", "gpu"], "option_invalid.*no device 'gpu'"),
        (["--device", "cuda:77"], "option_invalid.*no device 'cuda:77'"),
        (["--precision", "int4"], "option_invalid.*no precision 'int4'.*float32, int8 or bfloat16"),
        (["--precision", "bfloat16", "--device", "cpu"], "option_invalid.*bfloat16 is for GPUs"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run, slide, tmp_path, args, said):
    status, out, err = run("encode", slide, "--out", tmp_path, *args)
    assert (status, out) == (2, "")
    assert re.search(said, err)
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("nano")
@pytest.mark.skipif(not (CAN.get("avx512_vnni") or CAN.get("avx_vnni")), reason="this CPU has no 8-bit products")
def test_int8_tells_how_near_it_is(run, slide, tmp_path):
    status, out, err = run("encode", slide, "--out", tmp_path, "--precision", "int8")
    assert status == 0
    told = re.findall(r"^hwsi: patch-nano in int8: cosine to float32 at least (0\.9\d+)$", err, re.MULTILINE)
    assert len(told) == 1
    features = read_features(out.strip())
    assert features.provenance["preset"]["precision"] == "int8"
    # without it another file is made, and nothing is compared
    status, out, err = run("encode", slide, "--out", tmp_path)
    assert (status, err) == (0, "")
    assert "precision" not in json.dumps(read_features(out.strip()).provenance)


def test_code_of_others_runs_only_where_it_was_trusted(run, slide, tmp_path, monkeypatch):
    """TITAN reads the patches of conch_v15; nothing of both is here, but the order of refusals tells who was asked."""
    import yaml

    from hwsi.encoders.registry import EncoderSpec
    from hwsi.presets import load_preset

    paper = load_preset("paper").model_dump(mode="json")
    ids = {"cell": "cell-nano", "patch": "patch-nano", "region": "region-mean", "slide": "titan"}
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(paper | {"name": "own", "encoders": ids}))
    weights = tmp_path / "model.safetensors"
    weights.touch()
    monkeypatch.setenv("HWSI_WEIGHTS_TITAN", str(weights))
    status, _, err = run("encode", slide, "--out", tmp_path / "job", "--preset", file)
    assert status == 2
    assert "runs code of MahmoodLab/TITAN" in err
    assert "--trust-remote-code" in err
    asked = []
    monkeypatch.setattr(EncoderSpec, "build", lambda spec, device, **options: asked.append((spec.id, options)) or 1 / 0)
    run("encode", slide, "--out", tmp_path / "job", "--preset", file, "--trust-remote-code")
    assert asked == [("cell-nano", {"trust_remote_code": True})]
