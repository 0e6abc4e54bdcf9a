"""Two processes over gloo, started as a user would: shares of a model (FSDP2) and plain data parallelism."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml
from stage_fakes import config_of, losses

from hwsi.training.stages.checkpoint import Given, open_given, read_record
from hwsi.training.stages.config import Placement
from hwsi.training.stages.instruct import gather_conversations, run_instruct
from hwsi.training.stages.placement import load_given
from hwsi.training.stages.run import make_ready, make_trainer
from hwsi.training.stages.trainer import StageTrainer
from hwsi.training.stages.watch import silent

FULL = {"visual": "all", "language": "full"}
LORA = {"visual": "projectors", "language": "lora", "lora": {"dropout": 0.0}}


def on_two(config, out, tmp_path):
    file = tmp_path / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port),
        "-m", "hwsi", "train", "instruct", "--config", str(file), "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(
        call, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read_record(out)


def held_out_loss(config, out):
    """Of the saved model, in this one process."""
    told = config.model_copy(update={"start": out, "former": "instruct", "placement": Placement()})
    ready = make_ready(told, gather_conversations, None)
    trainer = make_trainer(ready, out / "nowhere", StageTrainer, progress=silent, since=0)
    return trainer.measure(ready.material.held_out["first"])["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("learn", [FULL, LORA], ids=["full", "lora"])
def test_fsdp2_trains_saves_and_one_process_reads_it_with_the_same_loss(learn, world, projected, tmp_path):
    common = {"steps": 20, "learn": learn, "batch__rows": 1, "batch__accumulate": 2, "optimiser__lr": 2e-3}
    shared = config_of("instruct", world, projected, **common, placement__strategy="fsdp2")
    record = on_two(shared, tmp_path / "fsdp2", tmp_path)
    assert record.steps == 20
    assert held_out_loss(shared, tmp_path / "fsdp2") == pytest.approx(record.metrics["loss"], rel=1e-5)
    whole = config_of("instruct", world, projected, **common)
    on_two(whole, tmp_path / "data", tmp_path)
    curves = [list(losses(tmp_path / name).values()) for name in ("fsdp2", "data")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert curves[0][-1] < curves[0][0]


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(world, projected, tmp_path):
    """All slides in one step: the sum over tokens does not know how they were dealt out."""
    from hwsi.training.stages.watch import LOG, read_log

    common = {"steps": 1, "learn": FULL, "optimiser__clip": 1e9}
    on_two(config_of("instruct", world, projected, batch__rows=3, **common), tmp_path / "two", tmp_path)
    run_instruct(config_of("instruct", world, projected, batch__rows=6, **common), tmp_path / "one")
    lines = [next(x for x in read_log(tmp_path / name / LOG) if "loss" in x) for name in ("two", "one")]
    for name in ("loss", "grad_norm"):
        assert lines[0][name] == pytest.approx(lines[1][name], rel=1e-4)


@pytest.mark.slow
def test_fsdp2_goes_on_from_a_checkpoint(world, projected, tmp_path):
    changes = {"steps": 6, "learn": FULL, "batch__rows": 1, "placement__strategy": "fsdp2", "watch__save_every": 4}
    config = config_of("instruct", world, projected, **changes)
    on_two(config, tmp_path / "out", tmp_path)
    before = losses(tmp_path / "out")
    (tmp_path / "out" / "stage.json").unlink()  # as if it had been killed after the checkpoint
    on_two(config, tmp_path / "out", tmp_path)
    assert losses(tmp_path / "out") == pytest.approx(before, rel=1e-5)


def test_shares_need_processes(projected):
    from hwsi.errors import HwsiError

    given = open_given(projected, "project")
    assert isinstance(given, Given)
    for placement in (Placement(strategy="fsdp2"), Placement(tensor_parallel=2)):
        with pytest.raises(HwsiError, match="torchrun"):
            load_given(given, placement, processes=1)


def test_a_device_map_loads_the_same_model(projected):
    import torch

    given = open_given(projected, "project")
    mapped, _ = load_given(given, Placement(device_map="auto"), processes=1)
    plain, _ = load_given(given, Placement(), processes=1)
    assert all(torch.equal(a, b) for a, b in zip(mapped.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    ("placement", "words"),
    [({"strategy": "zero3"}, "zero3"), ({"precision": "fp16"}, "fp16"), ({"tensor_parallel": 2}, "tensor_parallel")],
)
def test_what_this_machine_cannot_do_is_told_before_anything_is_loaded(placement, words, world, tmp_path):
    import torch

    from hwsi.errors import HwsiError

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(HwsiError, match=words):
        run_instruct(config_of("instruct", world, tmp_path / "nothing", placement=placement), tmp_path / "out")
