"""``hwsi train``: a dry run, a run, and what is said when something is wrong."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "training" / "stages"))

from stage_fakes import config_of, make_world, tiny_model, write_former

from hwsi.cli.app import main


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    world = make_world(folder)
    start = write_former(folder / "project", "project", *tiny_model())
    config = config_of("instruct", world, start, steps=2)
    file = folder / "instruct.yaml"
    file.write_text(yaml.safe_dump(json.loads(config.model_dump_json(exclude={"start"}))))
    return world, start, file


def test_a_dry_run_tells_what_it_takes_and_writes_nothing(stage, tmp_path, capsys):
    _, start, file = stage
    call = [
        "train",
        "instruct",
        "--config",
        str(file),
        "--start",
        str(start),
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    assert main(call) == 0
    told = capsys.readouterr().out
    assert "2 steps" in told
    assert "parameters learn" in told
    assert not (tmp_path / "out").exists()
    assert main([*call, "--json", "--set", "steps=5"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 5


def test_a_run_and_a_new_task_after_it(stage, tmp_path, capsys):
    world, start, file = stage
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "instruct", "--config", str(file), "--start", str(start), "--out", str(first)]) == 0
    told = capsys.readouterr()
    assert "is trained; held out: loss" in told.out
    assert "project > instruct: started from" in told.err
    call = ["train", "instruct", "--config", str(file), "--continue-from", str(first), "--replay", "0.5", "--out",
            str(second), "--set", "task=reports", "--set", "data.conversations=[]", "--set",
            f"data.reports={world['reports']}"]  # fmt: skip
    assert main(call) == 0
    told = capsys.readouterr().out
    assert "first: " in told
    assert "forgotten" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "stage_missing"),
        (["--start", "nowhere"], "stage_missing"),
        (["--set", "steps"], "option_invalid"),
        (["--set", "stepps=3"], "stepps"),
        (["--set", "optimiser.lr.much=3"], "has no parts"),
        (["--config", "nano-nothing"], "preset_unknown"),
    ],
)
def test_what_is_wrong_is_one_line(stage, options, words, tmp_path, capsys):
    _, _, file = stage
    config = [] if "--config" in options else ["--config", str(file)]
    assert main(["train", "instruct", *config, *options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
