"""A run: the same predictions however often and however interrupted, each slide read once, nothing lost in silence."""

from pathlib import Path

import pytest
from running_world import every_task, job, loaded, record, slide, text

from hwsi.benchmarks.results import read_predictions, read_result
from hwsi.benchmarks.running import run as running
from hwsi.benchmarks.running.run import Request, run, run_without_features
from hwsi.benchmarks.running.sheet import Scored
from hwsi.errors import HwsiError, Reason
from hwsi.features import write_features

NAMES = tuple(f"slide-{n}" for n in range(4))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    return job(tmp_path_factory.mktemp("job"), *NAMES)


def shas(made: list[Scored]) -> dict[str, str]:
    return {one.name: one.result.predictions_sha for one in made}


@pytest.fixture
def studied(monkeypatch) -> list[str]:
    """Names of the slides that were put before the model, in order."""
    seen: list[str] = []
    study = running.study

    def counted(features, **more):
        seen.append(features.slide_name)
        return study(features, **more)

    monkeypatch.setattr(running, "study", counted)
    return seen


def test_a_run_does_every_task_and_writes_what_it_found(files, tmp_path, studied):
    made = run(every_task(4), files, tmp_path, Request())
    tasks = {one.result.task for one in made}
    assert tasks == {"closed", "open", "report", "caption", "classify", "similar", "match"}
    assert sorted(studied) == sorted(NAMES)  # each slide's tokens are read once, for all tasks and for its partner
    by_name = {one.name: one for one in made}
    closed = by_name["closed-likelihood"].result
    assert {"chance", "majority letter", "longest option", "same question", "without the slide", "another slide",
            "options shuffled"} <= set(closed.baselines)  # fmt: skip
    assert {"accuracy_micro", "accuracy_macro", "accuracy/diagnosis", "same_answer"} <= set(closed.metrics)
    assert closed.baselines["chance"]["accuracy_micro"].value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert by_name["closed-strict-parser"].result.metrics["invalid_rate"].value is not None
    report = by_name["report-hwsi"].result
    assert {"most frequent", "without the slide", "another slide"} <= set(report.baselines)
    assert report.profile == "hwsi"
    assert by_name["classify-likelihood"].result.baselines["chance"]["balanced_accuracy"].value == 0.5
    assert {"classify-similarity", "classify-linear-probe", "similar-mean-of-patches", "match"} <= set(by_name)
    for one in made:
        assert read_result(tmp_path / f"{one.name}.json") == one.result
        written = read_predictions(tmp_path / f"{one.name}.predictions.jsonl")
        assert {p.id for p in written} == {p.id for p in one.predictions}
        assert one.result.versions["hwsi"]
        assert one.result.seeds == {"bootstrap": 0, "options": 0}


def test_two_runs_give_the_same_predictions(files, tmp_path):
    data = every_task(3)
    first = run(data, files, tmp_path / "a", Request())
    again = run(data, list(reversed(files)), tmp_path / "b", Request())
    assert shas(first) == shas(again)
    for path in sorted((tmp_path / "a").glob("*.json*")):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_run_that_was_killed_goes_on_and_ends_the_same(files, tmp_path, studied, monkeypatch):
    data, request = every_task(4), Request(tasks=("closed", "open"))
    whole = shas(run(data, files, tmp_path / "whole", request))
    studied.clear()
    answer = running.ask_case
    asked: list[str] = []

    def dies(case, *args, **more):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(case.name)
        return answer(case, *args, **more)

    monkeypatch.setattr(running, "ask_case", dies)
    with pytest.raises(KeyboardInterrupt):
        run(data, files, tmp_path / "cut", request)
    assert not list((tmp_path / "cut").glob("*.json"))  # no result before the end
    monkeypatch.setattr(running, "ask_case", answer)
    studied.clear()
    assert shas(run(data, files, tmp_path / "cut", request)) == whole
    assert sorted(studied) == sorted(set(NAMES) - set(asked))  # what was answered is not asked again
    studied.clear()
    assert shas(run(data, files, tmp_path / "cut", request)) == whole
    assert studied == []


def test_other_features_are_asked_anew(files, tmp_path, studied):
    mine = job(tmp_path / "job", *NAMES[:2])
    data = every_task(2)
    run(data, mine, tmp_path / "out", Request(tasks=("closed",)))
    write_features(mine[0], slide(NAMES[0], 77))
    studied.clear()
    run(data, mine, tmp_path / "out", Request(tasks=("closed",)))
    assert studied == [NAMES[0]]


def test_what_cannot_be_asked_is_counted_and_the_rest_is_scored(files, tmp_path):
    mine = job(tmp_path / "job", *NAMES[:3])
    mine[1].write_bytes(mine[1].read_bytes()[:2000])
    data = loaded(
        *(record(n) for n in range(4)), record(0, question="word " * 600),
        record(0, question="Which?", choices=tuple(f"class {k}" for k in range(30)), answer="class 3", task="many"),
        record(2, question="What does {R:7,7} show?"), record(2, question="What does {R:0,1} show?"),
    )  # fmt: skip
    made = run(data, mine, tmp_path / "out", Request(tasks=("closed",)))
    result = made[0].result
    assert result.rows == 3
    assert result.unusable == {
        "no_features": 1, "features_corrupt": 1, "question_too_long": 1, "question_invalid": 1, "region_not_found": 1,
    }  # fmt: skip
    assert any("slide-3" in note for note in result.notes)


def test_no_slide_at_all_is_an_error_in_one_line(files, tmp_path):
    with pytest.raises(HwsiError) as error:
        run(loaded(record(9)), files, tmp_path, Request())
    assert error.value.reason == Reason.FEATURES_MISSING
    with pytest.raises(HwsiError, match="nothing for the tasks"):
        run(loaded(record(0)), files, tmp_path, Request(tasks=("caption",)))


def test_majorities_are_learned_from_the_training_split_where_there_is_one(files, tmp_path):
    taught = [record(n, split="train", answer="grade 3", question=f"{n}?") for n in range(3)]
    asked = [record(n, answer="grade 1") for n in range(3)]
    made = run(loaded(*taught, *asked), files, tmp_path, Request(tasks=("closed",)))[0].result
    assert made.rows == 3
    assert made.baselines["majority"]["accuracy_micro"].value == 0.0
    assert not any("majorities" in note for note in made.notes)


def test_another_slide_is_of_another_patient_and_of_the_same_group(files, tmp_path):
    from hwsi.benchmarks.running.plan import make_plan

    records = [record(n, patient_id=("p", "p", "q", "r")[n]) for n in range(4)]
    plan = make_plan(records, files)
    assert [None if j is None else plan.cases[j].patient for j in plan.partner] == ["q", "q", "r", "p"]
    groups = {"slide-0": "lung", "slide-1": "lung", "slide-2": "colon", "slide-3": "lung"}
    assert make_plan(records, files, groups).partner == (3, 3, None, 0)


def test_slides_of_a_patient_are_one_case(tmp_path):
    uuid = "8288ca92-b611-4acf-986e-0b8a3f620b94"
    names = [f"TCGA-AA-0001-01Z-00-DX{k}.{uuid}" for k in (1, 2)]
    files = job(tmp_path / "job", *names, f"TCGA-AA-0002-01Z-00-DX1.{uuid}")
    data = loaded(*(record(n, slide_id=f"TCGA-AA-000{n + 1}", patient_id="") for n in range(2)))
    made = run(data, files, tmp_path / "out", Request())
    assert next(one.result for one in made if one.result.task == "closed").rows == 2


def test_words_alone_need_neither_model_nor_slides(tmp_path):
    made = run_without_features(every_task(4), tmp_path, Request())
    assert {one.result.task for one in made} == {"closed", "open", "report", "caption"}
    closed = made[0].result
    assert not closed.metrics
    assert closed.baselines["majority letter"]["accuracy_micro"].value is not None
    with pytest.raises(HwsiError, match="nothing that words alone"):
        run_without_features(loaded(record(0, task="classification")), tmp_path, Request(tasks=("classify",)))


def test_survival_times_give_a_c_index_and_who_is_alive_is_censored(files, tmp_path):
    times = [text(n, "survival time", area="open", question="How long?", answer=f"{100 * n + 50}") for n in range(4)]
    alive = [text(0, "vital_status", area="open", question="Status?", answer="Alive")]
    made = run(loaded(*times, *alive), files, tmp_path, Request(tasks=("open",)))[0].result
    assert made.metrics["coverage"].rows == 4
    assert "c_index" in made.metrics
