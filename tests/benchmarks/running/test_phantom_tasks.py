"""The phantom before all tasks: classes from its truth, facts as figures, and a small cohort from end to end."""

from pathlib import Path

import numpy as np
import pytest
from running_world import loaded, text

from hwsi.benchmarks.facts import Score
from hwsi.benchmarks.phantom_tasks import Cohort, class_records, fact_figures
from hwsi.benchmarks.running.plan import form_of
from hwsi.benchmarks.running.run import class_sets


def test_the_diagnosis_is_asked_among_all_and_among_those_of_the_organ() -> None:
    cohort = Cohort(Path(), {"slide-0": {"organ": "lung", "diagnosis": "lung adenocarcinoma"}})
    made = class_records(loaded(text(0, "report")).records, cohort)
    assert [len(r.choices) for r in made] == [13, 2]
    assert all(r.answer == "lung adenocarcinoma" and form_of(r) == "classify" for r in made)
    assert list(class_sets(made)) == ["classify", "classify, organ known"]
    assert len({r.key for r in made}) == 2


def test_facts_are_pooled_over_texts() -> None:
    from collections import Counter

    right = Score(Counter(a=3), Counter(a=2), Counter(a=1), Counter(a=1))
    wrong = Score(Counter(), Counter(), Counter(a=2), Counter(a=4))
    figures = fact_figures([right, wrong])
    ones = np.ones(2)
    assert figures["fact_precision"](ones) == pytest.approx(3 / 8)
    assert figures["fact_recall"](ones) == pytest.approx(2 / 5)
    assert figures["fact_f1"](ones) == pytest.approx(2 * 3 / 8 * 2 / 5 / (3 / 8 + 2 / 5))
    assert figures["invented_per_report"](ones) == pytest.approx(2.5)
    assert figures["fact_f1"](np.array([0.0, 1.0])) == 0.0


@pytest.mark.slow
def test_a_small_cohort_goes_through_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwsi.benchmarks.datasets.phantom import load
    from hwsi.benchmarks.overview import overview
    from hwsi.benchmarks.phantom_tasks import run_phantom
    from hwsi.benchmarks.running.run import TASKS, Request
    from hwsi.training.nano.regenerate import regenerate_cohort

    monkeypatch.undo()  # the embedded model and its space
    regenerate_cohort(tmp_path / "c", tmp_path / "job", 4, 0, split="test", sides_um=(1024, 1536))
    files = sorted((tmp_path / "job" / "features").glob("*.h5"))
    request = Request(tasks=(*TASKS, "search"))
    made = run_phantom(load((tmp_path / "c" / "manifest.csv",)), tmp_path / "c", files, tmp_path / "run", request)
    tasks = {one.result.task for one in made}
    assert {"report", "caption", "classify", "classify, organ known", "similar", "search", "match"} <= tasks
    report = next(one.result for one in made if one.result.task == "report")
    assert report.metrics["fact_f1"].value > report.baselines["without the slide"]["fact_f1"].value
    assert "most frequent of the organ" in report.baselines
    rows = overview([one.result for one in made]).rows
    assert any(row.label.startswith("search, ") for row in rows)
