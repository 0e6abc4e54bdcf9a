"""Batches, loss and evaluation of the Trainer of all stages."""

import numpy as np
import pytest
import torch
from stage_fakes import config_of, losses, weights
from torch.nn import functional as F

from hwsi.training.data.buckets import LengthBuckets
from hwsi.training.data.rows import Collate
from hwsi.training.stages.instruct import gather_conversations, run_instruct
from hwsi.training.stages.run import make_ready, make_trainer, run_stage
from hwsi.training.stages.trainer import StageTrainer, Visits, answer_logits
from hwsi.training.stages.watch import LOG, read_log, silent


@pytest.fixture
def ready(world, projected):
    return make_ready(config_of("instruct", world, projected), gather_conversations, None)


def trainer_of(ready, out):
    return make_trainer(ready, out, StageTrainer, progress=silent, since=0)


@pytest.mark.parametrize(("steps", "epochs", "passes"), [(5, None, 10), (None, 2.0, 8), (None, 0.5, 2)])
def test_batches_run_over_the_epochs_as_one_list(steps, epochs, passes):
    buckets = LengthBuckets([1, 5, 2, 9, 3, 4, 7], 2)
    visits = Visits(buckets, steps=steps, epochs=epochs, accumulate=2)
    batches = list(visits)
    assert len(batches) == len(visits) == passes == visits.steps * 2
    of_epoch = [{i for batch in batches for e, i in batch if e == epoch} for epoch in (0, 1)]
    if passes >= 8:
        assert of_epoch == [set(range(7))] * 2
    assert list(visits) == batches  # a second pass begins anew


def test_logits_where_an_answer_is_learned_are_those_of_the_whole(ready):
    batch = Collate(ready.processor)([ready.material.rows[i] for i in range(3)])
    model = ready.model.eval()
    logits, labels, columns = answer_logits(model, batch)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    whole = model(**inputs).logits
    assert torch.allclose(logits, whole[:, columns - 1], atol=1e-5)
    known = batch["labels"][:, 1:] >= 0
    plain = F.cross_entropy(whole[:, :-1][known], batch["labels"][:, 1:][known])
    ours = F.cross_entropy(logits[labels >= 0], labels[labels >= 0])
    assert torch.allclose(ours, plain, atol=1e-5)
    assert logits.shape[1] < whole.shape[1] / 2


def test_accumulated_passes_give_the_gradient_of_one(world, projected, tmp_path):
    """Answers differ in length, so means of means would differ."""
    norms = {}
    for name, rows, accumulate in (("one", 6, 1), ("three", 2, 3)):
        config = config_of(
            "instruct", world, projected, steps=1, batch__rows=rows, batch__accumulate=accumulate,
            learn={"visual": "all", "language": "full"},
        )  # fmt: skip
        run_instruct(config, tmp_path / name)
        line = next(line for line in read_log(tmp_path / name / LOG) if "loss" in line)
        norms[name] = (line["loss"], line["grad_norm"])
    assert norms["one"] == pytest.approx(norms["three"], rel=1e-4)


def test_a_slides_loss_does_not_depend_on_its_batch_mates(ready):
    collate, model = Collate(ready.processor), ready.model.eval()
    items = [ready.material.rows[i] for i in range(4)]
    together, labels, columns = answer_logits(model, collate(items))
    for i, item in enumerate(items):
        alone, own, _ = answer_logits(model, collate([item]))
        here = (labels[i] >= 0).nonzero()[:, 0]
        assert torch.equal(labels[i, here], own[0])
        assert torch.allclose(together[i, here], alone[0], atol=1e-5)
    assert len(columns)


def test_evaluation_counts_every_token_and_answer_once(ready, tmp_path):
    trainer = trainer_of(ready, tmp_path)
    rows = ready.material.rows
    sums = np.zeros(4)
    for i in range(len(rows)):
        found = trainer.tally(dict(trainer.collate([rows[i]])))
        sums += [float(found[name]) for name in ("loss", "tokens", "right", "answers")]
    figures = trainer.measure(rows)
    assert figures["loss"] == pytest.approx(sums[0] / sums[1], rel=1e-5)
    assert figures["right"] == pytest.approx(sums[2] / sums[3])
    assert sums[3] == sum(len(asked.dialogues) for part in rows.parts for asked in part.asked)


def test_learning_lowers_the_loss_and_the_best_is_given_back_if_it_stops_early(world, projected, tmp_path):
    config = config_of(
        "instruct", world, projected, steps=40, optimiser__lr=0.03, learn={"visual": "all", "language": "full"},
        watch__eval_every=4, watch__save_every=4, watch__patience=2,
    )  # fmt: skip
    record = run_instruct(config, tmp_path / "out")
    curve = losses(tmp_path / "out")
    assert curve[max(curve)] < curve[1]
    evaluated = [line["eval_loss"] for line in read_log(tmp_path / "out" / LOG) if "eval_loss" in line]
    assert record.steps < 40
    assert record.metrics["loss"] == pytest.approx(min(evaluated), rel=1e-5)
    weights(tmp_path / "out" / "model")  # loads strictly


def test_mixed_precision_and_recomputation_change_the_loss_by_rounding_only(world, projected, tmp_path):
    curves = {}
    for name, changes in {
        "plain": {}, "recomputed": {"placement__recompute": True}, "bf16": {"placement__precision": "bf16"},
    }.items():  # fmt: skip
        config = config_of("instruct", world, projected, steps=2, **changes)
        run_stage(config, tmp_path / name, gather_conversations)
        curves[name] = list(losses(tmp_path / name).values())
    assert curves["recomputed"] == pytest.approx(curves["plain"], rel=1e-5)
    assert curves["bf16"] == pytest.approx(curves["plain"], rel=0.05)
    assert curves["bf16"] != curves["plain"]


def test_with_a_language_model_in_half_precision_the_visual_part_stays_exact(world, projected, tmp_path):
    half = config_of("instruct", world, projected, steps=3, placement={"weights": "bf16", "precision": "bf16"})
    ready = make_ready(half, gather_conversations, None)
    kinds = {name.split(".")[3]: p.dtype for name, p in ready.model.named_parameters() if "lora" not in name}
    assert kinds == {"visual": torch.float32, "language_model": torch.bfloat16}
    run_instruct(half, tmp_path / "half")
    run_instruct(config_of("instruct", world, projected, steps=3), tmp_path / "whole")
    curves = [list(losses(tmp_path / name).values()) for name in ("half", "whole")]
    assert curves[0] == pytest.approx(curves[1], rel=0.05)
    before, after = weights(projected / "model"), weights(tmp_path / "half" / "model")
    frozen = [name for name in before if ".ccaf." in name]
    assert all(torch.equal(before[name], after[name]) for name in frozen)


def test_the_saved_configuration_is_the_models_own(projected, instructed):
    import json

    told = [json.loads((folder / "model" / "config.json").read_text()) for folder in (projected, instructed)]
    assert told[0] == told[1]
    assert "use_cache" not in told[0]
