"""The loop of the two contrastive stages, ``pretrain`` and ``align``.

- Not a Trainer's: the gradient of a contrastive batch comes out of two passes over its chunks (``grad_cache.py``), and
  ranks meet in the loss. A step makes gradients; here they are averaged, clipped and applied.
- What a step draws follows from (seed, step, rank) and the batches from the step alone, so a run that was stopped goes
  on as if it had not been: the same losses, the same weights.
- ``log.jsonl`` has a line per logged step; lines behind the checkpoint that a run goes on from are taken back.

Under ``torchrun`` or ``accelerate launch`` each process is a rank; rank 0 writes.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import Sampler

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told, write_atomic
from hwsi.training.data.buckets import LengthBuckets, Visit
from hwsi.training.objectives.gather import average_gradients, rank, world_size
from hwsi.training.stages.checkpoint import MARK, claim
from hwsi.training.stages.config import Optimiser, Watch

Batch = TypeVar("Batch")
_FLOOR = 0.01  # of the highest learning rate: what cosine and linear end at


@contextmanager
def ranks(device: str) -> Iterator[torch.device]:
    """The device of this process, inside a process group if a launcher started several.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    at = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if kind == "cuda" else torch.device(kind)
    if at.type == "cuda":
        torch.cuda.set_device(at)
    started = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if at.type == "cuda" else "gloo")
    try:
        yield at
    finally:
        if started:
            dist.destroy_process_group()


def claim_first(out: Path, key: Mapping[str, Any]) -> Path | None:
    """As :func:`hwsi.training.stages.checkpoint.claim`, on the first process before the others."""
    found = claim(out, key) if rank() == 0 else None
    if world_size() == 1:
        return found
    dist.barrier()
    return claim(out, key)


class Steps(Sampler[list[Visit]]):
    """The batches of this rank from one step of a run to another, over as many epochs as that takes."""

    def __init__(self, buckets: LengthBuckets, first: int, last: int) -> None:
        self.buckets, self.first, self.last = buckets, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[Visit]]:
        b, epoch, start = self.buckets, 0, 0
        while start < self.last:
            batches = b.plan(epoch).batches[b.rank :: b.ranks]
            for step, batch in enumerate(batches, start=start):
                if self.first <= step < self.last:
                    yield [(epoch, index) for index in batch]
            epoch, start = epoch + 1, start + len(batches)


def autocast(device: torch.device, precision: str) -> Any:
    """The context in which ``bf16`` is computed with; nothing changes for ``fp32``."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def lr_at(step: int, steps: int, optimiser: Optimiser) -> float:
    """Learning rate of a step: linear warm-up, then as ``schedule`` says, down to a hundredth."""
    warm = max(1, round(steps * optimiser.warmup)) if optimiser.warmup else 0
    if step < warm:
        return optimiser.lr * (step + 1) / warm
    t = min(1.0, (step - warm) / max(1, steps - warm))
    share = {"constant": 1.0, "linear": 1 - t, "cosine": 0.5 * (1 + math.cos(math.pi * t))}[optimiser.schedule]
    return optimiser.lr * (share if optimiser.schedule == "constant" else _FLOOR + (1 - _FLOOR) * share)


@dataclass(frozen=True)
class Plan:
    """``steps`` of the whole run, ``optimiser`` and ``watch`` as configured, ``seed``; ``out``: where it writes."""

    steps: int
    optimiser: Optimiser
    watch: Watch
    seed: int
    out: Path


def fit(
    module: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    backward: Callable[[Batch, bool], Mapping[str, Tensor]],
    plan: Plan,
    *,
    resume: Path | None,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    clamp: Callable[[], None] | None = None,
) -> None:
    """Train ``module`` in place.

    Args:
        batches: the first step -> the batches of this rank from there on, one for each step.
        backward: a batch, and whether this step is logged -> what to log; it leaves gradients in the parameters.
        plan: how long, how fast, where.
        resume: checkpoint folder to go on from.
        evaluate: figures on what is held out, every ``watch.eval_every`` steps; on every rank.
        clamp: keeps parameters in their range after each step.

    Raises:
        HwsiError: DIVERGED (a gradient that is not finite; nothing of it is applied), OUTPUT_UNWRITABLE, DISK_FULL.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    learned = list(named.values())
    o, watch, out = plan.optimiser, plan.watch, plan.out
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": o.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=o.lr, betas=(0.9, o.beta2))
    first = _restore(resume, module, adam) if resume else 0
    main = rank() == 0
    if main:
        _take_back(out / "log.jsonl", first)
    module.train()
    with _progress(main) as progress:
        task = progress.add_task("", total=plan.steps, completed=first)
        for step, batch in enumerate(batches(first), start=first):
            torch.manual_seed((plan.seed * 1_000_003 + step) * 1_009 + rank())
            last = step + 1 == plan.steps
            logged = last or (step + 1) % watch.log_every == 0
            for group in adam.param_groups:
                group["lr"] = lr_at(step, plan.steps, o)
            adam.zero_grad(set_to_none=True)
            found = backward(batch, logged)
            average_gradients(learned)
            norm = nn.utils.clip_grad_norm_(learned, o.clip)
            if not norm.isfinite():
                what = f"the gradient of step {step + 1} is not finite (loss {float(found['loss']):.4g})"
                raise HwsiError(Reason.DIVERGED, what, "lower optimiser.lr, or train in fp32; checkpoints are kept")
            adam.step()
            if clamp is not None:
                clamp()
            if logged and main:
                line = {k: float(v) for k, v in found.items()} | {"norm": float(norm), "lr": adam.param_groups[0]["lr"]}
                _say(out / "log.jsonl", step + 1, line)
                progress.update(task, description=f"loss {line['loss']:.4f}")
            progress.update(task, advance=1)
            if evaluate is not None and watch.eval_every and (step + 1) % watch.eval_every == 0 and not last:
                figures = _quietly(module, evaluate)
                if main:
                    _say(out / "log.jsonl", step + 1, dict(figures))
            if watch.save_every and (step + 1) % watch.save_every == 0 and not last:
                if main:
                    _save(out / "checkpoints", module, adam, step + 1, watch.keep)
                if world_size() > 1:
                    dist.barrier()
    module.eval()


def _quietly(module: nn.Module, evaluate: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
    module.eval()
    with torch.no_grad():
        found = evaluate()
    module.train()
    return found


def _progress(shown: bool) -> Progress:
    columns = [*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


def _say(path: Path, step: int, figures: dict[str, float]) -> None:
    with told(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **figures}) + "\n")


def _take_back(path: Path, step: int) -> None:
    """Keep the lines up to a step; what came later is done again."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    write_atomic(path, "".join(f"{line}\n" for line in kept).encode())


def _save(folder: Path, module: nn.Module, adam: torch.optim.Optimizer, step: int, keep: int) -> None:
    target = folder / f"checkpoint-{step}"
    with told(target):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        state = {"step": step, "module": module.state_dict(), "optimiser": adam.state_dict()}
        torch.save(state, target / "state.pt")
        (target / MARK).touch()  # written last: without it a checkpoint does not count
        older = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
        for path in older[:-keep]:
            shutil.rmtree(path)


def _restore(folder: Path, module: nn.Module, adam: torch.optim.Optimizer) -> int:
    state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"], strict=True)
    adam.load_state_dict(state["optimiser"])
    return int(state["step"])
