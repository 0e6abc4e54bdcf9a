"""``hwsi bench run``, ``table`` and ``compare`` as a user calls them; faults of files told in one line and counted."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from running_world import job
from typer.testing import CliRunner

from hwsi.cli.bench import app
from hwsi.errors import HwsiError, Reason

FIELDS = ["ID", "Slide", "Task", "Question", "A", "B", "C", "D", "Answer"]


def call(*args: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in args])


def bcnb(path: Path, *rows: list[str], fields: list[str] = FIELDS) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # with a byte order mark
        csv.writer(file).writerows([fields, *rows])
    return path


def row(n: int, slide: int, *options: str, answer: str = "A") -> list[str]:
    four = [*options, "", "", "", ""][:4]
    return [str(n), f"{slide}.csv", "Grade", f"What is the grade, case {n}?", *four, answer]


@pytest.fixture
def faulty(tmp_path) -> Path:
    return bcnb(
        tmp_path / "questions.csv",
        row(1, 1, "one", "two"), row(2, 2, "one", "two", answer="B"), row(3, 1, "one", "", "three"),
        row(1, 1, "one", "two")[:3] + row(1, 1, "one", "two")[3:], row(4, 9, "one", "two"),
    )  # fmt: skip


def test_faults_of_a_file_are_told_in_one_line_counted_and_the_rest_is_scored(faulty, tmp_path):
    job(tmp_path / "job", "1", "2", "3")
    done = call("run", f"slidebench-bcnb={faulty}", "--features", tmp_path / "job", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    (line,) = [x for x in done.stderr.splitlines() if "unusable:" in x]
    assert "3 of 5 rows" in line
    assert "empty_option" in line
    assert "duplicate_id" in line
    assert any("1 without features" in x for x in done.stderr.splitlines())
    result = json.loads((tmp_path / "run" / "closed-likelihood.json").read_text())
    assert result["rows"] == 2
    assert result["unusable"] == {"duplicate_id": 1, "empty_option": 1, "no_features": 1}


def test_a_missing_column_is_an_error_of_one_line(tmp_path):
    path = bcnb(tmp_path / "q.csv", row(1, 1, "one", "two")[:-1], fields=FIELDS[:-1])
    done = call("run", f"slidebench-bcnb={path}", "--no-features")
    assert isinstance(done.exception, HwsiError)
    assert done.exception.reason == Reason.DATA_INVALID
    assert "missing_field" in str(done.exception)
    assert "\n" not in str(done.exception)


def test_words_alone_make_results_that_tables_show(faulty, tmp_path):
    done = call("run", f"slidebench-bcnb={faulty}", "--no-features", "--out", tmp_path / "words")
    assert done.exit_code == 0, done.output
    assert "longest option" in done.output
    shown = call("table", tmp_path / "words", "--form", "markdown")
    assert "| *majority letter* |" in shown.output
    assert "(quoted, 1)" in shown.output
    assert "\\begin{table}" in call("table", tmp_path / "words", "--form", "latex").output
    one = call("table", tmp_path / "words", "--one", "--form", "markdown")
    assert "**closed: accuracy\\_micro**" in one.output


def test_two_runs_are_compared_by_patient(faulty, tmp_path):
    job(tmp_path / "job", "1", "2", "9")
    for seed in (0, 1):
        where = tmp_path / f"run{seed}"
        done = call("run", f"slidebench-bcnb={faulty}", "--features", tmp_path / "job", "--seed", seed, "--out", where,
                    "--json")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert {r["task"] for r in json.loads(done.stdout)} == {"closed"}
    a, b = (tmp_path / f"run{seed}" / "closed-likelihood.predictions.jsonl" for seed in (0, 1))
    found = json.loads(call("compare", a, b, "--json").stdout)
    assert found["right"]["difference"]["value"] == 0.0  # the seed orders shuffled options, not the answers
    assert found["right"]["p_mcnemar"] == 1.0
    assert "p, permutation" in call("compare", a, b).output
    with pytest.raises(HwsiError, match="no score 'wrong'"):
        raise call("compare", a, b, "--score", "wrong").exception


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "panda"), "--features"),
        (("run", "panda", "--features", "x", "--no-features"), "exclude"),
        (("run", "panda", "--no-features", "--tasks", "dance"), "no task 'dance'"),
        (("run", "panda", "--no-features", "--profile", "best"), "no metric profile"),
        (("run", "panda", "--no-features", "--judge-url", "http://x"), "names no judge"),
        (("run", "weather", "--no-features"), "weather"),
        (("table", "."), "no result"),
    ],
)
def test_wrong_calls_are_refused(args, words, monkeypatch, tmp_path):
    monkeypatch.delenv("HWSI_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    done = call(*args)
    assert isinstance(done.exception, HwsiError)
    assert words in str(done.exception)
