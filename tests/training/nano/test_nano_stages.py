"""Nano's four stages and the one before: each starts from the former, adds what it says, and can be gone on with."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.features import read_features
from hwsi.model import load
from hwsi.training.nano.cohort import features_file, slides_of
from hwsi.training.nano.dialogues import Teacher, answer_counts
from hwsi.training.stages.checkpoint import open_given, read_record
from hwsi.training.stages.watch import LOG, read_log

World = tuple[Path, Path]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load(folder / "model")[0].state_dict())


def test_each_stage_comes_from_the_one_before(instructed: Path, runs: Path) -> None:
    record = read_record(instructed)
    assert [p.stage for p in record.parents] == ["words", "align", "project"]
    for parent in record.parents:
        assert read_record(runs / parent.stage).gave == parent.sha256
    assert open_given(instructed, "instruct").ancestor.stage == "instruct"


def test_words_change_the_language_model_alone_and_projectors_wait(worded: Path, aligned: Path) -> None:
    from hwsi.model.nano import build_nano

    said, tissue = weights(worded), weights(aligned)
    born = dict(build_nano(load(worded / "model")[1].tokenizer)[0].state_dict())
    changed = {n for n in said if not torch.equal(said[n], born[n])}
    assert any("language_model" in n for n in changed)
    assert not any("visual" in n for n in changed)
    # stage 1 changes CCAF and begins the projectors, and leaves the words alone
    moved = {n for n in said if not torch.equal(said[n], tissue[n])}
    assert {n.split(".")[2] for n in moved} == {"ccaf", "projectors"}, moved
    assert {n.split(".")[3] for n in moved if "projectors" in n} == {"slide", "region", "patch", "cell"}


def test_projectors_begin_as_a_whitening_of_the_vectors_of_stage_one(worded: Path, aligned: Path) -> None:
    born, begun = (load(folder / "model")[0].model.visual.projectors for folder in (worded, aligned))
    for scale in ("slide", "region", "patch", "cell"):
        assert not born[scale].up.bias.any()
        assert begun[scale].up.bias.any(), "it takes away the mean of what stage 1 makes"


def test_region_and_slide_vectors_are_made_anew_by_the_encoders_of_stage_one(
    aligned: Path, told: Path, world: World
) -> None:
    gave = read_record(aligned).metrics["encoders_gave"]
    for old in sorted((world[1] / "features").glob("*.h5")):
        before, after = read_features(old), read_features(told / "features" / old.name)
        assert not np.array_equal(before.region["region-nano"], after.region["region-nano"])
        assert np.array_equal(before.patch["patch-nano"], after.patch["patch-nano"])
        for scale in ("region", "slide"):
            assert after.provenance["encoders"][f"{scale}-nano"]["weights_sha256"] == gave[scale]


def test_the_truth_is_asked_beside_the_contrast(aligned: Path) -> None:
    logged = [line for line in read_log(aligned / LOG) if "contrast_region" in line]
    assert {"region", "slide", "words_patch", "words_region", "words_slide", "cells", "loss"} <= logged[0].keys()
    assert {"region", "slide", "text", "heads"} == read_record(aligned).metrics["encoders_gave"].keys()


def test_project_moves_projectors_alone(aligned: Path, projected: Path) -> None:
    before, after = weights(aligned), weights(projected)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved
    assert all("visual" in n and "ccaf" not in n for n in moved)


def test_instruct_moves_all_and_is_measured_on_what_is_held_out(projected: Path, instructed: Path) -> None:
    before, after = weights(projected), weights(instructed)
    moved = {n.split(".")[1] for n in before if not torch.equal(before[n], after[n])}
    assert moved >= {"visual", "language_model"}
    assert {"eval_loss", "eval_right"} <= {k for line in read_log(instructed / LOG) for k in line}
    record = read_record(instructed)
    assert "5 slides to learn from, 1 held out" in record.notes
    assert 0 <= record.metrics["right"] <= 1


def test_a_run_that_was_stopped_goes_on_with_its_readers(
    world: World, projected: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwsi.training.nano import instruct

    config = instruct.config_of(projected, world[1], steps=4, questions=2)
    config = config.model_copy(update={"watch": config.watch.model_copy(update={"log_every": 1, "save_every": 2})})

    def go(out: Path) -> dict[int, float]:
        instruct.run(config, out, cohorts=[world[0]], align=aligned, rows=1)
        return {line["step"]: line["loss"] for line in read_log(out / LOG) if "loss" in line}

    whole = go(tmp_path / "whole")
    step = instruct.LessonTrainer.training_step
    done = {"steps": 0}

    def killed(self: Any, *args: Any, **kwargs: Any) -> Any:
        done["steps"] += 1
        if done["steps"] == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(instruct.LessonTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "broken")
    monkeypatch.setattr(instruct.LessonTrainer, "training_step", step)
    assert go(tmp_path / "broken") == whole


def test_readers_learn_and_their_gradients_do_not_pile_up(instructed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwsi.training.nano.instruct import LessonTrainer

    trainer = object.__new__(LessonTrainer)
    trainer.readers = torch.nn.ModuleDict({"cells": torch.nn.Linear(2, 2)})
    next(trainer.readers.parameters()).grad = torch.ones(2, 2)
    monkeypatch.setattr("hwsi.training.stages.trainer.Trainer.training_step", lambda self: torch.zeros(()))
    trainer.training_step()
    assert all(p.grad is None for p in trainer.readers.parameters())


def test_other_encoders_than_those_of_the_lineage_are_refused(projected: Path, aligned: Path, tmp_path: Path) -> None:
    from hwsi.training.nano.instruct import encoders_of

    given = open_given(projected, "project")
    assert encoders_of(aligned, given).keys() == {"region", "slide"}
    other = tmp_path / "align"
    shutil.copytree(aligned, other)
    with (other / "encoders" / "slide.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(HwsiError) as error:
        encoders_of(other, given)
    assert error.value.reason is Reason.WEIGHTS_MISMATCH
    with pytest.raises(HwsiError) as error:
        encoders_of(projected, given)
    assert error.value.reason is Reason.STAGE_MISSING


def test_a_stage_refuses_to_start_without_words(aligned: Path, world: World, reports: Path, tmp_path: Path) -> None:
    from hwsi.training.nano.align import NanoRecipe, config_of
    from hwsi.training.stages.align import run_align

    config = config_of(
        start=aligned, features=world[1], reports=[reports], text=aligned.parent / "text.safetensors", steps=1
    )
    with pytest.raises(HwsiError) as error:
        run_align(config, tmp_path / "out", NanoRecipe([world[0]], world[1], seed=0))
    assert error.value.reason is Reason.STAGE_MISSING


def test_a_packed_model_is_in_half_precision(instructed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwsi.training.nano import pack

    monkeypatch.setattr("sys.argv", ["pack", str(instructed), str(tmp_path / "model")])
    pack.main()
    packed = dict(load(tmp_path / "model")[0].state_dict())
    for name, value in weights(instructed).items():
        assert torch.allclose(packed[name].float(), value.float(), rtol=1e-3, atol=1e-4), name
    assert sum(p.stat().st_size for p in (tmp_path / "model").glob("*.safetensors")) < 8 << 20


def test_its_reports_are_counted_on_held_out_patients(instructed: Path, told: Path, world: World) -> None:
    from hwsi.benchmarks.reports import reports_of_model

    found = reports_of_model(instructed, world[0], told, slides=3)
    assert [w.slide for w in found.written] == ["train-00005"]
    assert found.usual.f1() == 1.0, "one report is its organ's most frequent one"
    assert found.pooled.missed.total() + found.pooled.recalled.total() == found.usual.recalled.total()


# --- words ------------------------------------------------------------------------------------------


def test_a_note_says_what_is_true_and_sometimes_nothing(world: World) -> None:
    from hwsi.training.nano.words import note_of

    slide = slides_of([world[0]], world[1])[1]
    record = slide.truth()
    teacher = Teacher(record, read_features(features_file(world[1], slide)).hierarchy, answer_counts([record]))
    notes = [note_of(teacher, np.random.default_rng(s)) for s in range(60)]
    every = {s for seed in range(400) for s in teacher.sentences(np.random.default_rng(seed))}
    assert any(s.startswith("R1: ") for s in every)
    assert not any("{R:" in s for s in every)
    assert 0.05 < np.mean([n == "" for n in notes]) < 0.4
    assert len({n for n in notes if n}) > 40
    assert all(any(s in n for s in every) for n in notes if n)


def test_slides_without_features_are_told(tmp_path: Path, world: World) -> None:
    with pytest.raises(HwsiError) as error:
        slides_of([world[0]], tmp_path)
    assert error.value.reason is Reason.FEATURES_MISSING


# --- questions that no single scale decides -----------------------------------------------------------


def test_composite_questions_are_asked_in_training(world: World) -> None:
    from hwsi.phantom.second.wordings import COMPOSITES

    slides = slides_of([world[0]], world[1])
    counts = answer_counts(s.truth() for s in slides)
    asked: dict[str, set[str]] = {}
    for slide in slides:
        teacher = Teacher(slide.truth(), read_features(features_file(world[1], slide)).hierarchy, counts)
        for seed in range(20):
            for q, a in teacher.draw(np.random.default_rng(seed), 12, reported=0):
                asked.setdefault(q["content"].split("\n")[0], set()).add(q["content"].partition("\n")[2])
                assert a["content"]
    for kind in ("discordance", "grade_of_two"):
        *learned, kept = COMPOSITES[kind].words.templates
        assert any(t in asked for t in learned), kind
        if kind == "discordance":
            assert kept not in asked, "the last wording is for tests"
    offered = {words for t in COMPOSITES["grade_of_two"].words.templates for words in asked.get(t, ())}
    assert any(words.count("grade") == 2 for words in offered), offered
