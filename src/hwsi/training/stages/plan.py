"""What a run will take, before it is started (``--dry-run``).

- The model and the data are loaded as the run would, so what is wrong is found now.
- Steps and tokens are counted from the batches of the run. Time is measured on a few of them, forward and backward, on
  this machine; a model that is too large for that here is told by a stated rate.
- Memory is an estimate: weights, gradients, Adam's two moments, activations of one pass.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hwsi.training.stages.run import Config, Gather, Ready, make_ready, make_trainer
from hwsi.training.stages.trainer import StageTrainer
from hwsi.training.stages.watch import silent

RATE = 150e12
"""FLOP/s of a pass where none is measured: what a data centre's GPU gives to bf16 training, a third of its peak."""
_MEASURED = 3
_LARGEST = 5e8  # parameters: above, a CPU would measure for minutes
RESIDENT = 16
"""Activations of a layer, in widths a token: attention, MLP and their inputs."""


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        stage, start: what, and from which weights (SHA-256).
        rows, held_out: to learn from and to be measured on.
        steps: of the run. tokens: that it reads, at most, on all processes.
        parameters, trainable: of the model.
        memory_gb: on each process. seconds: of the whole run.
        timed_by: what the time rests on.
        told: what the user must know of the data. unit: what ``tokens`` counts.
    """

    stage: str
    start: str
    rows: int
    held_out: dict[str, int]
    steps: int
    tokens: int
    parameters: int
    trainable: int
    memory_gb: float
    seconds: float
    timed_by: str
    told: tuple[str, ...]
    unit: str = "tokens at most"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As a person reads it."""
        held = ", ".join(f"{n} of {task}" for task, n in self.held_out.items() if n) or "none"
        hours = f"{self.seconds / 3600:.1f} h" if self.seconds > 5400 else f"{self.seconds / 60:.1f} min"
        return [
            f"{self.stage}, from weights {self.start[:12]}",
            f"{self.rows:,} rows to learn from, held out: {held}",
            f"{self.steps:,} steps, {self.tokens:,} {self.unit}",
            f"{self.trainable:,} of {self.parameters:,} parameters learn",
            f"about {self.memory_gb:.1f} GB on each process",
            f"about {hours} (by {self.timed_by})",
            *(f"note: {note}" for note in self.told),
        ]


def plan_stage(
    config: Config, gather: Gather, trainer_of: type[StageTrainer] = StageTrainer, extra: Any = None
) -> Plan:
    """The plan of a stage. Raises as :func:`hwsi.training.stages.run.make_ready`."""
    ready = make_ready(config, gather, None)
    costs = ready.material.rows.costs
    passes = [sum(costs[i] for _, i in batch) for batch in ready.visits]
    tokens = sum(passes) * ready.visits.buckets.ranks
    parameters = sum(p.numel() for p in ready.model.parameters())
    trainable = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    if torch.cuda.is_available() or parameters < _LARGEST:
        measured, per_token = _measure(ready, trainer_of, extra)
        seconds, timed_by = per_token * sum(passes), f"{measured} passes measured on this machine"
    else:
        # forward, backward to the inputs, and where weights learn backward to them
        flop = (4 * parameters + 2 * trainable) * tokens
        seconds, timed_by = flop / RATE / ready.processes, f"a stated rate of {RATE / 1e12:.0f} TFLOP/s a process"
    return Plan(
        stage=config.stage,
        start=ready.given.ancestor.sha256,
        rows=len(ready.material.rows),
        held_out={task: len(rows) for task, rows in ready.material.held_out.items()},
        steps=ready.visits.steps,
        tokens=tokens,
        parameters=parameters,
        trainable=trainable,
        memory_gb=_memory(ready, max(passes)) / 1e9,
        seconds=seconds,
        timed_by=timed_by,
        told=ready.material.told,
    )


def _measure(ready: Ready, trainer_of: type[StageTrainer], extra: Any) -> tuple[int, float]:
    """How many passes were measured, and seconds for a token; the first pass warms up."""
    with tempfile.TemporaryDirectory() as nowhere:
        trainer = make_trainer(ready, Path(nowhere), trainer_of, progress=silent, since=0, extra=extra)
        costs, rows = ready.material.rows.costs, trainer.rows
        model, tokens, seconds, count = trainer.live, 0, 0.0, 0
        model.train()
        for n, batch in enumerate(ready.visits):
            if n > _MEASURED:
                break
            started = time.perf_counter()
            inputs = trainer._prepare_inputs(dict(trainer.collate([rows[at] for at in batch])))
            items = (inputs["labels"] >= 0).sum()
            with trainer.accelerator.autocast():
                loss = trainer.compute_loss(model, inputs, num_items_in_batch=items)
            trainer.accelerator.backward(loss)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if n or len(ready.visits) == 1:
                tokens += sum(costs[i] for _, i in batch)
                seconds += time.perf_counter() - started
                count += 1
    return count, seconds / max(tokens, 1)


def _memory(ready: Ready, tokens: int) -> float:
    """Bytes on each process: weights, what learning adds, and one pass of ``tokens``."""
    place = ready.config.placement
    shares = ready.processes if place.strategy != "data" else place.tensor_parallel
    weights = sum(p.numel() * p.element_size() for p in ready.model.parameters())
    learning = sum(3 * p.numel() * p.element_size() for p in ready.model.parameters() if p.requires_grad)
    text = ready.model.config.text_config
    size = 4 if place.precision == "fp32" else 2
    held = text.num_hidden_layers * (1 if place.recompute else RESIDENT)
    activations = tokens * text.hidden_size * held * size
    return float((weights + learning) / shares + activations)
