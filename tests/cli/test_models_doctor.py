"""``hwsi models`` and ``hwsi doctor``: what there is, whether it is here, and what to do where it is not."""

import json
import re
import resource
import subprocess
import sys

import pytest

from hwsi.cli.models import TASKS
from hwsi.encoders import available
from hwsi.model import zoo

ROW = {
    "id", "task", "dim", "input_px", "mpp", "licence", "commercial", "gated", "revision", "weights_from", "here",
    "found_by", "file", "problem", "how_to_get",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """No weights but the package's, no token, and nobody to ask."""
    monkeypatch.setenv("HWSI_WEIGHTS", str(tmp_path / "weights.yaml"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("hwsi.inference.readiness._answers", lambda host, port: False)
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("the network was asked"))


def refused(result: tuple[int, str, str]) -> str:
    status, out, err = result
    assert (status, out) == (2, ""), err
    assert re.fullmatch(r"hwsi: error \[[a-z_]+\]: .+\.\n", err), err
    return err


def test_models_lists_all_within_a_terminal(run):
    status, out, err = run("models")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 120
    ids = [spec.id for spec in available()] + [card.id for card in zoo.available()]
    rows = [line for line in lines[2:] if line.strip()][:-1]
    assert sorted(line.split()[0] for line in rows) == sorted(ids)  # a row each, none folded
    titan = next(line for line in rows if line.startswith("titan"))
    columns = ["512", "0.5", "CC-BY-NC-ND-4.0", "no", "yes", "MahmoodLab/TITAN", "dac6773", "no"]
    assert titan.split() == ["titan", "slide", "768", *columns]
    assert next(line for line in rows if line.startswith("patch-nano")).split()[-2:] == ["package", "package"]


def test_models_as_json_say_how_to_get_each(run):
    rows = json.loads(run("models", "--json")[1])
    assert all(set(row) == ROW for row in rows)
    assert all(row["here"] or row["how_to_get"] for row in rows)
    by_id = {row["id"]: row for row in rows}
    assert by_id["conch_v1"]["gated"]
    assert not by_id["conch_v1"]["commercial"]
    assert "HWSI_WEIGHTS_CONCH_V1" in by_id["conch_v1"]["how_to_get"]
    assert by_id["qwen2.5-7b-instruct"]["dim"] == 3584
    assert (by_id["nano"]["here"], by_id["nano"]["found_by"]) == (True, "package")
    assert (by_id["slide-mean"]["here"], by_id["slide-mean"]["weights_from"]) == (True, None)


@pytest.mark.parametrize("scale", TASKS)
def test_models_of_one_scale(run, scale):
    rows = json.loads(run("models", "--scale", scale, "--json")[1])
    assert rows
    assert {row["task"] for row in rows} == {scale}


def test_models_of_no_scale(run):
    assert "option_invalid" in refused(run("models", "--scale", "organ"))


def test_models_tell_by_which_step_weights_were_found(run, tmp_path, monkeypatch):
    file = tmp_path / "conch.bin"
    file.touch()
    monkeypatch.setenv("HWSI_WEIGHTS_CONCH_V1", str(file))
    monkeypatch.setenv("HWSI_WEIGHTS_UNI_V1", str(tmp_path / "nowhere"))
    (tmp_path / "weights.yaml").write_text(f"uni_v2: {file}\n")
    by_id = {row["id"]: row for row in json.loads(run("models", "--json")[1])}
    assert (by_id["conch_v1"]["found_by"], by_id["conch_v1"]["file"]) == ("environment", str(file))
    assert by_id["uni_v2"]["found_by"] == "list"
    # a named place that is empty is told of one, and the others are listed
    assert not by_id["uni_v1"]["here"]
    assert "nowhere" in by_id["uni_v1"]["problem"]
    assert re.search(r"^uni_v1 .* missing *$", run("models")[1], re.MULTILINE)


@pytest.mark.parametrize("args", [["models"], ["doctor"], ["doctor", "paper"]])
def test_both_are_quick_light_and_offline(args, tmp_path):
    code = (
        "import sys, socket, hwsi.inference.readiness as r; from hwsi.cli.app import main;"
        "r._answers = lambda *a: False; r.shutil.which = lambda name: None;"
        "socket.socket.connect = lambda *a: sys.exit(9);"
        "status = main(sys.argv[1:]);"
        "assert not {'torch', 'transformers', 'cv2', 'openslide'} & set(sys.modules);"
        "sys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == (2 if "paper" in args else 0), done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # of the processor: the machine may be busy, the program may not be slow
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_doctor_of_nano(run):
    status, out, err = run("doctor", "--json")
    said = json.loads(out)
    assert (status, err) == (0, "")
    assert (said["preset"], said["ready"], said["answers"]) == ("nano", True, True)
    assert all(set(c) == {"name", "state", "what", "todo"} for c in said["checks"])
    names = [c["name"] for c in said["checks"]]
    for name in ("python", "packages", "disk of --out", "memory", "gpu", "patch patch-nano", "model nano"):
        assert name in names
    assert "network" not in names  # nothing is to be fetched, so nobody is asked
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    assert out.endswith("preset nano can run here\n")


def test_doctor_of_a_preset_whose_weights_are_elsewhere(run):
    status, out, err = run("doctor", "paper")
    assert (status, err) == (2, "")
    lines = out.splitlines()
    failed = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    assert [lines[i].split()[2] for i in failed] == ["cellvit_256", "conch_v1", "hipt_vit256", "hipt_vit4k"]
    assert all("-> " in lines[i + 1] and "fetch" in lines[i + 1] for i in failed)
    assert lines[-1].startswith("preset paper cannot run here: 4 of ")
    said = json.loads(run("doctor", "released", "--json")[1])
    assert not said["ready"]
    assert [c["todo"] for c in said["checks"] if c["state"] == "fail" and "MLLM-HWSI" in c["todo"]]


def test_doctor_of_open_asks_for_no_permission(run, monkeypatch):
    monkeypatch.setattr("hwsi.inference.readiness.find_spec", lambda name: object())
    status, out, _ = run("doctor", "open")
    assert status == 2
    failed = [line.split()[2] for line in out.splitlines() if line.startswith("FAIL")]
    assert failed == ["instanseg", "midnight12k"]
    assert "hub token" not in out
    assert "ask for access" not in out
    assert "instanseg (Apache-2.0), midnight12k (MIT)\n" in out


def test_what_has_to_be_fetched_is_told_with_its_licence_first(run):
    out = run("doctor", "paper", "--json")[1]
    (told,) = [c["what"] for c in json.loads(out)["checks"] if c["name"] == "to fetch"]
    assert "conch_v1 (CC-BY-NC-ND-4.0, ask for access first)" in told
    assert told.endswith("not for commercial use: cellvit_256, conch_v1, hipt_vit256, hipt_vit4k, conch_v1_text")


def test_doctor_of_no_preset(run, tmp_path):
    assert "preset_unknown" in refused(run("doctor", "nowhere"))
    (tmp_path / "own.yaml").write_text("name: own\n")
    assert "option_invalid" in refused(run("doctor", tmp_path / "own.yaml"))


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_encode_says_what_to_fetch_before_the_slide_is_read(run, slide, tmp_path, monkeypatch, preset):
    monkeypatch.setattr("hwsi.slide.open_slide", lambda *a, **k: pytest.fail("the slide was opened"))
    line = refused(run("encode", slide, "--out", tmp_path / "job", "--preset", preset))
    for part in (
        "[weights_missing]",
        "conch_v1",
        "pytorch_model.bin",
        "MahmoodLab/conch",
        str(tmp_path / "weights.yaml"),
    ):
        assert part in line
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("preset", "model"),
    [
        ("paper", "Qwen/Qwen2.5-7B-Instruct"),
        ("open", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("released", "Bastech/MLLM-HWSI"),
    ],
)
def test_ask_says_what_to_fetch_before_the_slide_is_encoded(run, slide, tmp_path, monkeypatch, preset, model):
    monkeypatch.setattr("hwsi.encoding.encode.encode_to_file", lambda *a, **k: pytest.fail("the slide was encoded"))
    line = refused(run("ask", slide, "What is it?", "--preset", preset, "--out", tmp_path / "job"))
    assert "[weights_missing]" in line
    assert f"hf download {model}" in line
    assert str(tmp_path / "hub") in line
    assert not (tmp_path / "job").exists()
