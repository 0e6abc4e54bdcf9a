"""Results: read back as written, refused when spoilt; tables show intervals, baselines, and what is quoted."""

import dataclasses
import json
import re

import pytest
from rich.console import Console

from hwsi.benchmarks.metrics.closed import score_closed
from hwsi.benchmarks.results import (
    Prediction,
    RunResult,
    json_schema,
    measured,
    read_predictions,
    read_result,
    sha_of,
    versions,
    write_predictions,
    write_result,
)
from hwsi.benchmarks.statistics import Interval
from hwsi.benchmarks.tables import latex, markdown, published, rich_table, tables_of
from hwsi.errors import HwsiError, Reason

HALF = Interval(0.5, 0.4, 0.6, 100, 20)


def result(**changes):
    made = RunResult(
        benchmark="slidebench-bcnb", version="7,274 items", version_sha="a" * 64, task="closed", model="nano_1",
        profile="",
        metrics={"accuracy_micro": HALF, "invalid_rate": Interval(0.0, 0.0, 0.0, 100, 20)},
        baselines={"majority": {"accuracy_micro": Interval(0.3, None, None, 100, 20)},
                   "no slide": {"accuracy_micro": HALF}},
        rows=100, patients=20, unusable={"no_features": 3}, seeds={"bootstrap": 0}, versions=versions(),
        hardware="a laptop",
        predictions_sha="b" * 64,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_a_result_is_read_back_as_it_was_written(tmp_path):
    write_result(tmp_path / "r.json", result())
    assert read_result(tmp_path / "r.json") == result()
    first = (tmp_path / "r.json").read_bytes()
    write_result(tmp_path / "r.json", result())
    assert (tmp_path / "r.json").read_bytes() == first
    assert set(json_schema()["required"]) == {f.name for f in dataclasses.fields(RunResult)} - {"schema", "notes"}


@pytest.mark.parametrize(
    "spoil",
    [lambda d: d.pop("rows"), lambda d: d.update(extra=1), lambda d: d.update(rows="many"),
     lambda d: d.update(schema="hwsi.result/9"), lambda d: d["metrics"]["accuracy_micro"].pop("value")],
)  # fmt: skip
def test_a_spoilt_result_is_refused_in_one_line(tmp_path, spoil):
    path = tmp_path / "r.json"
    write_result(path, result())
    record = json.loads(path.read_text())
    spoil(record)
    path.write_text(json.dumps(record))
    with pytest.raises(HwsiError) as error:
        read_result(path)
    assert error.value.reason == Reason.DATA_INVALID
    assert "\n" not in str(error.value)


def test_what_is_no_result_is_told(tmp_path):
    (tmp_path / "cut.json").write_text('{"benchmark": "x"')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name, reason in (("cut", Reason.DATA_INVALID), ("binary", Reason.DATA_INVALID), ("none", Reason.DATA_MISSING)):
        with pytest.raises(HwsiError) as error:
            read_result(tmp_path / f"{name}.json")
        assert error.value.reason == reason


def test_predictions_have_one_sha_whatever_their_order(tmp_path):
    rows = [Prediction(f"q{k}", "p", "s", "t", "a", "naïve\nanswer", {"right": float(k % 2)}) for k in range(4)]
    sha = write_predictions(tmp_path / "p.jsonl", rows)
    assert sha == sha_of(reversed(rows)) != sha_of(rows[1:])
    assert read_predictions(tmp_path / "p.jsonl") == rows
    with (tmp_path / "p.jsonl").open("ab") as file:
        file.write(b'{"id": "q9"}\n')
    with pytest.raises(HwsiError, match="data_invalid"):
        read_predictions(tmp_path / "p.jsonl")


def test_figures_become_intervals():
    scores = score_closed(["A", "B", "?"], [("Yes", "No")] * 3, [0, 0, 0])
    found = measured(scores.figures(), ["p", "q", "r"])
    assert found["accuracy_micro"].value == pytest.approx(1 / 3)
    assert found["invalid_rate"].patients == 3


def test_a_table_shows_intervals_baselines_and_marks_what_is_quoted():
    (table,) = tables_of(
        [result(), result(model="other", baselines={"no slide": {"accuracy_micro": Interval(0.2, 0.1, 0.3, 9, 9)}})]
    )
    text = markdown(table)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2] == "| *majority* | 0.300 | - |"
    assert rows[3] == "| *no slide (nano\\_1)* | 0.500 [0.400, 0.600] | - |"
    assert rows[4] == "| *no slide (other)* | 0.200 [0.100, 0.300] | - |"
    assert rows[5] == "| **nano\\_1** | 0.500 [0.400, 0.600] | 0.000 [0.000, 0.000] |"
    quoted = [r for r in rows if "(quoted, " in r]
    assert len(quoted) >= 4
    assert all(f"- quoted, {k}: " in text for k in range(1, len(quoted) + 1))
    assert "unusable: 3 no\\_features" in text
    assert "bbbbbbbbbbbb" in text
    assert all(row.count("|") == rows[0].count("|") for row in rows)


def test_latex_is_escaped_and_whole():
    (table,) = tables_of([result(model="50% & more_$")])
    text = latex(table)
    assert r"\textbf{50\% \& more\_\$}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text.partition("\\toprule")[2].partition("\\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {2}
    assert r"{\scriptsize [0.400, 0.600]}" in text


def test_the_terminal_shows_the_same():
    (table,) = tables_of([result()])
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table(table))
    shown = console.export_text()
    for words in ("majority", "0.500", "[0.400, 0.600]", "quoted, 1", "nano_1"):
        assert words in shown


def test_versions_tasks_and_profiles_are_never_side_by_side():
    some = [result(), result(version_sha="c" * 64), result(profile="coco"), result(task="open"), result(model="m2")]
    tables = tables_of(some)
    assert len(tables) == 4
    assert [r.label for r in tables[0].rows if r.kind == "run"] == ["nano_1", "m2"]
    assert "profile coco: " in markdown(tables[2])


def test_published_figures_are_shares_with_a_source():
    for entry in published():
        assert entry.source
        assert entry.version
        assert entry.metrics
        assert all(0 <= v <= 1 for v in entry.metrics.values()), entry
        assert entry.task in ("closed", "open", "report", "caption", "classify", "similar", "match")
    assert not tables_of([result(benchmark="own")])[0].notes
