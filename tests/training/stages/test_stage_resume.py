"""A run that was killed goes on and gives the loss curve, and the weights, of an unbroken one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stage_fakes import config_of, losses, weights

from hwsi.training.stages.checkpoint import MARK, last_checkpoint
from hwsi.training.stages.instruct import run_instruct
from hwsi.training.stages.watch import Watcher

KILL_AT = 7
LORA = {"visual": "projectors", "language": "lora", "lora": {"dropout": 0.2}}
FULL = {"visual": "all", "language": "full"}

KILLED = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from hwsi.training.stages.config import InstructConfig
from hwsi.training.stages import watch
from hwsi.training.stages.instruct import run_instruct
from pathlib import Path
step = watch.Watcher.on_step_end
def dies(self, args, state, control, **kwargs):
    step(self, args, state, control, **kwargs)
    if state.global_step == {KILL_AT}:
        os.kill(os.getpid(), signal.SIGKILL)
watch.Watcher.on_step_end = dies
run_instruct(InstructConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""


def kill_and_go_on(config, out):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, config.model_dump_json(), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert last_checkpoint(out).name == "checkpoint-6"
    run_instruct(config, out)


@pytest.mark.slow
@pytest.mark.parametrize("learn", [LORA, FULL], ids=["lora", "full"])
def test_killed_at_step_seven(learn, world, projected, tmp_path):
    changes = {"steps": 12, "learn": learn, "batch__accumulate": 2, "watch__save_every": 3, "watch__eval_every": 4}
    config = config_of("instruct", world, projected, **changes, data__augment={"relevance": 0.5, "kept": [1, 2]})
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_instruct(config, unbroken)
        kill_and_go_on(config, broken)
    finally:
        torch.set_num_threads(threads)
    assert list(losses(unbroken)) == list(range(1, 13))
    assert losses(broken) == losses(unbroken)
    a, b = weights(unbroken / "model"), weights(broken / "model")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_that_stopped_in_python_goes_on_with_the_same_curve(world, projected, tmp_path, monkeypatch):
    config = config_of("instruct", world, projected, steps=6, watch__save_every=2)
    run_instruct(config, tmp_path / "unbroken")
    step = Watcher.on_step_end

    def stops(self, args, state, control, **kwargs):
        step(self, args, state, control, **kwargs)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Watcher, "on_step_end", stops)
        with pytest.raises(KeyboardInterrupt):
            run_instruct(config, tmp_path / "broken")
    run_instruct(config, tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "unbroken")


def test_a_checkpoint_that_was_cut_short_does_not_count(tmp_path):
    for step, whole in ((10, True), (9, True), (20, False)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / MARK).touch()
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert last_checkpoint(tmp_path / "checkpoints") is None
