"""What ``pretrain`` and ``align`` will take (``--dry-run``): the data are read and one batch is measured."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hwsi.training.data.buckets import LengthBuckets
from hwsi.training.objectives.gather import world_size
from hwsi.training.stages import align, pretrain
from hwsi.training.stages.align_config import AlignConfig
from hwsi.training.stages.plan import RESIDENT, Plan
from hwsi.training.stages.pretrain_config import PretrainConfig

_TIMED_BY = "one batch measured on this machine"


def plan_align(config: AlignConfig) -> Plan:
    """The plan of stage 1. Raises as :func:`hwsi.training.stages.align.make_ready`."""
    ready = align.make_ready(config)
    costs = ready.train.rows.costs
    batch = next(iter(ready.buckets))
    model = ready.align.to(_device(config.device))
    slides = [ready.train[at] for at in batch]
    seconds = _seconds(lambda: align.backward(model, slides, config, logged=False))
    held = max(costs) * _chunk(config.contrast.chunk, len(batch)) * RESIDENT * config.width * 4
    return Plan(
        stage=config.stage,
        start=ready.given.ancestor.sha256,
        rows=len(ready.train),
        held_out={"reports": len(ready.val)} if ready.val else {},
        steps=ready.steps,
        tokens=sum(costs[i] for _, i in batch) * ready.steps * world_size(),
        seconds=seconds * ready.steps,
        timed_by=_TIMED_BY,
        told=ready.told,
        unit="patches at most",
        **_sizes(model, held),
    )


def plan_pretrain(config: PretrainConfig) -> Plan:
    """The plan of pre-training, all stages of data together. Raises as :func:`pretrain.make_ready`."""
    ready = pretrain.make_ready(config)
    model = ready.model.to(_device(config.device))
    rows, _ = ready.pairs[config.data[0].name]
    buckets = LengthBuckets([1] * len(rows), min(config.batch // world_size(), len(rows)), seed=config.seed)
    pairs = [rows[at] for at in next(iter(buckets))]
    seconds = _seconds(lambda: pretrain.backward(model, pairs, config))
    steps = sum(stage.steps for stage in config.data)
    side = model.patch.spec.input_px
    tokens = (side // 16) ** 2  # of an image, at the patch size that all but a few have
    held = tokens * _chunk(config.chunk, len(pairs)) * RESIDENT * model.patch.spec.dim * 4
    return Plan(
        stage=config.stage,
        start=" ".join(digest[:12] for digest in ready.weights.values()),
        rows=sum(len(train) for train, _ in ready.pairs.values()),
        held_out={name: len(held) for name, (_, held) in ready.pairs.items() if held},
        steps=steps,
        tokens=steps * config.batch,
        seconds=seconds * steps,
        timed_by=_TIMED_BY,
        told=ready.told,
        unit="pairs",
        **_sizes(model, held),
    )


def _device(named: str) -> str:
    return "cuda" if torch.cuda.is_available() and named != "cpu" else "cpu"


def _chunk(chunk: int | None, batch: int) -> int:
    return min(chunk or batch, batch)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _sizes(model: nn.Module, activations: float) -> dict[str, Any]:
    """Parameters, and memory with gradients and Adam's moments in float32."""
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    memory = (4 * parameters + 12 * trainable + activations) / 1e9
    return {"parameters": parameters, "trainable": trainable, "memory_gb": memory}
