"""The chain of stages: each starts from exactly the weights that the former gave, and changes only what it may."""

import json

import pytest
import torch
from stage_fakes import config_of, tiny_model, weights, write_former

from hwsi.errors import HwsiError, Reason
from hwsi.training.stages import placement
from hwsi.training.stages.checkpoint import STAGE_FILE, files_sha256, open_given, read_record
from hwsi.training.stages.instruct import run_instruct
from hwsi.training.stages.prefer import run_prefer
from hwsi.training.stages.project import run_project


def changed(before, after):
    a, b = weights(before / "model"), weights(after / "model")
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def test_projectors_alone_learn_in_project(aligned, projected):
    names = changed(aligned, projected)
    assert names
    assert all(".visual." in name and ".ccaf." not in name for name in names)


def test_projectors_and_language_model_learn_in_instruct_and_the_adapter_is_merged(projected, instructed):
    names = changed(projected, instructed)
    assert any(".visual.projectors." in name for name in names)
    assert any(".language_model.layers." in name for name in names)
    assert not any(".ccaf." in name or "embed_tokens" in name for name in names)
    assert not any("lora" in name for name in weights(instructed / "model"))


def test_the_record_names_every_stage_and_its_weights(aligned, projected, instructed):
    record = read_record(instructed)
    assert [p.stage for p in record.parents] == ["align", "project"]
    assert [p.sha256 for p in record.parents] == [files_sha256(f / "model") for f in (aligned, projected)]
    assert record.given.sha256 == read_record(projected).gave
    assert record.gave == files_sha256(instructed / "model")
    assert record.metrics["before"]["first"]["right"] >= 0
    assert json.loads((instructed / STAGE_FILE).read_text())["schema"] == "hwsi.stage/1"


@pytest.mark.parametrize("stage", ["project", "instruct", "prefer"])
def test_a_stage_that_would_train_other_weights_than_it_was_given_stops(
    stage, world, aligned, projected, instructed, tmp_path, monkeypatch
):
    """The release's third stage trains a projector that it drew anew; here that is found before the first step."""
    start = {"project": aligned, "instruct": projected, "prefer": instructed}[stage]
    run = {"project": run_project, "instruct": run_instruct, "prefer": run_prefer}[stage]
    real = placement.load

    def loses_a_projector(*args, **kwargs):
        model, processor = real(*args, **kwargs)
        torch.nn.init.normal_(model.model.visual.projectors["region"].out.weight)
        return model, processor

    monkeypatch.setattr(placement, "load", loses_a_projector)
    with pytest.raises(HwsiError) as told:
        run(config_of(stage, world, start), tmp_path / "out")
    assert told.value.reason is Reason.WEIGHTS_MISMATCH
    assert "projectors.region.out.weight" in told.value.what


@pytest.mark.parametrize(
    ("former", "reason"),
    [("project", Reason.STAGE_MISSING), ("instruct", Reason.STAGE_MISSING), (None, Reason.STAGE_MISSING)],
)
def test_a_stage_does_not_start_without_the_one_before(former, reason, world, aligned, tmp_path):
    start = tmp_path / "nothing" if former else None
    if former == "project":
        start = aligned  # a stage, but another
    stage = "instruct"
    with pytest.raises(HwsiError) as told:
        run_instruct(config_of(stage, world, start), tmp_path / "out")
    assert told.value.reason is reason
    assert "\n" not in str(told.value)


def test_a_bare_model_is_taken_only_when_that_is_said(world, tmp_path):
    model, processor = tiny_model()
    model.save_pretrained(tmp_path / "bare")
    processor.save_pretrained(tmp_path / "bare")
    with pytest.raises(HwsiError, match="stage_missing"):
        open_given(tmp_path / "bare", "align")
    record = run_project(config_of("project", world, tmp_path / "bare", former="external", steps=1), tmp_path / "out")
    assert record.given.stage == "external"


def test_weights_that_are_not_those_of_the_record_are_refused(world, tmp_path):
    start = write_former(tmp_path / "align", "align", *tiny_model())
    tiny_model(seed=1)[0].save_pretrained(start / "model")
    with pytest.raises(HwsiError) as told:
        run_project(config_of("project", world, start), tmp_path / "out")
    assert told.value.reason is Reason.WEIGHTS_MISMATCH
    (start / STAGE_FILE).write_text("{}")
    with pytest.raises(HwsiError, match="damaged"):
        open_given(start, "align")


def test_an_output_folder_is_one_runs_own_and_a_finished_run_is_not_repeated(world, aligned, projected):
    before = (projected / "model" / "model.safetensors").stat().st_mtime_ns
    run_project(config_of("project", world, aligned), projected)
    assert (projected / "model" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(HwsiError) as told:
        run_project(config_of("project", world, aligned, seed=1), projected)
    assert told.value.reason is Reason.OPTION_INVALID
    assert "config" in told.value.what
