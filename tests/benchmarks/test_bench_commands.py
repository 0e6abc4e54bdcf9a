"""``hwsi bench`` runs what it is asked to, with what it was given."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hwsi.cli.bench import app
from hwsi.errors import HwsiError


def call(*args: str) -> Any:
    return CliRunner().invoke(app, list(args))


def test_both_editions_are_listed() -> None:
    text = call("list").output
    assert "phantom " in text
    assert "phantom2" in text


def test_the_second_edition_runs_with_a_fifth_of_its_slides_on_each_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def run(**given: Any) -> Any:
        asked.update(given)
        return SimpleNamespace(to_dict=lambda: {"lines": []}, table=lambda: "the table")

    monkeypatch.setattr("hwsi.benchmarks.phantom_second.run", run)
    assert "the table" in call("run", "phantom2", "--slides", "50", "--seed", "3").output
    assert (asked["slides"], asked["shifted"], asked["seed"], asked["model"]) == (50, 10, 3, "nano")
    assert call("run", "phantom2", "--json").output.strip() == '{\n  "lines": []\n}'


def test_the_ablation_draws_two_splits_and_trains_with_the_given_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn, trained = [], {}

    def regenerate(folder: Path, job: Path, slides: int, seed: int, **more: Any) -> float:
        drawn.append((folder.name, slides, more["split"], more["edition"]))
        return 1.0

    def run(out: Path, **given: Any) -> dict[str, Any]:
        trained.update(given)
        (out / "ablation.md").write_text("| a table |")
        return {}

    monkeypatch.setattr("hwsi.training.nano.regenerate.regenerate_cohort", regenerate)
    monkeypatch.setattr("hwsi.benchmarks.ablate.run", run)
    done = call("ablate", "phantom", "--out", str(tmp_path), "--slides", "40", "--steps", "7", "--seeds", "2")
    assert "| a table |" in done.output, done.output
    assert drawn == [("train", 40, "train", 2), ("test", 10, "test", 2)]
    assert (trained["budget"].steps, trained["seeds"], trained["device"]) == (7, 2, "cpu")
    assert trained["test"] == tmp_path / "test"


@pytest.mark.parametrize("args", [("run", "weather"), ("ablate", "weather", "--out", "x")])
def test_what_is_not_there_is_told(args: tuple[str, ...]) -> None:
    done = call(*args)
    assert isinstance(done.exception, HwsiError)
    assert "weather" in str(done.exception)
