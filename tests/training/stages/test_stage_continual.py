"""A new task for a trained model: replay, and what is forgotten."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_fakes import COLOURS, NAMES, config_of, write_lines

from hwsi.errors import HwsiError, Reason
from hwsi.training.stages.checkpoint import StageRecord, read_record
from hwsi.training.stages.continual import Replay, forgetting
from hwsi.training.stages.instruct import run_instruct


class Rows:
    def __init__(self, costs):
        self.costs = list(costs)

    def __len__(self):
        return len(self.costs)

    def __getitem__(self, at):
        return at


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 60), st.floats(0.01, 0.9), st.integers(0, 3)
)
def test_replay_is_its_share_and_draws_rows_of_its_cost(costs, new, share, epoch):
    former = Rows(costs)
    replay = Replay(former, Rows([1] * new), share, seed=0)
    assert len(replay) == max(1, round(new * share / (1 - share)))
    for place in range(len(replay)):
        drawn, index = replay[epoch, place]
        assert drawn == epoch
        assert former.costs[index] <= replay.costs[place]
        assert replay[epoch, place] == (drawn, index)


def test_replay_differs_by_epoch_and_reaches_all_rows():
    replay = Replay(Rows(range(1, 41)), Rows([1] * 10), 0.5, seed=0)
    drawn = [{replay[epoch, place][1] for place in range(len(replay))} for epoch in range(40)]
    assert drawn[0] != drawn[1]
    assert set().union(*drawn) == set(range(40))


@pytest.fixture(scope="module")
def second(world, tmp_path_factory):
    rows = [
        {"slide": NAMES[i], "patient": f"patient{i}", "split": "val" if i % 4 == 3 else "train",
         "turns": [{"role": "user", "content": "It is"}, {"role": "assistant", "content": COLOURS[(i + 2) % 4]}]}
        for i in range(8)
    ]  # fmt: skip
    return write_lines(tmp_path_factory.mktemp("second") / "second.jsonl", rows)


def config(world, start, second, **changes):
    data = {"features": [world["job"]], "conversations": [second]}
    return config_of("instruct", world, start, former="instruct", task="second", data=data, **changes)


def test_a_new_task_replays_the_former_and_tells_what_was_forgotten(world, instructed, second, tmp_path):
    record = run_instruct(config(world, instructed, second, replay=0.5, steps=3), tmp_path / "out")
    assert list(record.tasks) == ["first", "second"]
    assert record.tasks["first"] == read_record(instructed).tasks["first"]
    told = forgetting(record)
    assert [t.task for t in told] == ["first", "second"]
    for task in told:
        assert task.before == record.metrics["before"][task.task]["right"]
        assert task.after == record.metrics[f"{task.task}_right"]
    assert str(world["conversations"]) in record.data
    # measured before this run, by the model that the run before gave
    assert record.metrics["before"]["first"]["loss"] == pytest.approx(read_record(instructed).metrics["loss"], rel=1e-5)


def test_forgetting_is_what_the_figure_lost():
    record = StageRecord.model_validate(
        {"stage": "instruct", "config": {"task": "b"}, "started_from": "", "given": {"stage": "instruct", "sha256": ""},
         "gave": "", "parents": [], "seed": 0, "steps": 1,
         "metrics": {"before": {"b": {"right": 0.25}, "a": {"right": 0.75}}, "a_right": 0.5, "b_right": 1.0}}
    )  # fmt: skip
    assert [(f.task, f.lost) for f in forgetting(record)] == [("a", 0.25), ("b", -0.75)]
    assert np.isfinite(forgetting(record)[0].lost)


def test_replay_of_nothing_and_a_name_that_is_taken_are_refused(world, projected, instructed, second, tmp_path):
    with pytest.raises(HwsiError) as told:
        run_instruct(config_of("instruct", world, projected, replay=0.5), tmp_path / "a")
    assert told.value.reason is Reason.OPTION_INVALID
    data = {"features": [world["job"]], "conversations": [second]}
    taken = config_of("instruct", world, instructed, former="instruct", task="first", data=data)
    with pytest.raises(HwsiError, match="another name"):
        run_instruct(taken, tmp_path / "b")


def test_former_data_that_went_away_are_missed_before_the_first_step(world, instructed, second, tmp_path):
    from hwsi.training.stages.checkpoint import write_record

    record = read_record(instructed)
    gone = json.loads(json.dumps(record.tasks))
    gone["first"]["conversations"] = [str(tmp_path / "gone.jsonl")]
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "model").symlink_to(instructed / "model")
    write_record(record.model_copy(update={"tasks": gone}), moved)
    with pytest.raises(HwsiError) as told:
        run_instruct(config(world, moved, second), tmp_path / "out")
    assert told.value.reason is Reason.DATA_MISSING
