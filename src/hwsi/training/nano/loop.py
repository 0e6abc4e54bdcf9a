"""The training loop that all steps of nano share.

- Fixed seeds, AdamW, linear warm-up and cosine decay by *fraction of the run*, gradient clipping at 1.
- A checkpoint every few minutes, written to a temporary name and renamed; a run that was stopped goes on
  from its last one with the same optimizer state and the same position in the data.
- One line of log every few seconds: step, loss and its parts as running means, rate, time left.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Attributes:
        steps: optimizer steps of the whole run.
        lr: peak learning rate; ``warmup`` the share of steps that lead up to it.
        weight_decay: on matrices only; vectors (norms, biases, embeddings of one row) are free.
        checkpoint_s: seconds between checkpoints.
    """

    steps: int
    lr: float
    warmup: float = 0.05
    weight_decay: float = 0.05
    seed: int = 0
    checkpoint_s: float = 240.0


def lr_at(step: int, plan: Plan) -> float:
    """Learning rate at a step: linear warm-up, then cosine to a hundredth of the peak."""
    warm = max(1, int(plan.steps * plan.warmup))
    if step < warm:
        return plan.lr * (step + 1) / warm
    t = (step - warm) / max(1, plan.steps - warm)
    return plan.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, t))))


def fit(
    module: nn.Module,
    loss_of: Callable[[int], tuple[Tensor, dict[str, float]]],
    plan: Plan,
    out: Path,
    *,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> None:
    """Train ``module`` in place; ``loss_of(step)`` draws its own batch from the step number alone.

    A batch that depends on nothing but the step makes a resumed run equal to an uninterrupted one.
    """
    out.mkdir(parents=True, exist_ok=True)
    decay = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": plan.weight_decay}, {"params": free, "weight_decay": 0.0}],
        lr=plan.lr,
        betas=(0.9, 0.98),
    )
    path = out / "checkpoint.pt"
    first = _resume(path, module, optimizer)
    means: dict[str, float] = {}
    started, said, saved = time.monotonic(), 0.0, time.monotonic()
    for step in range(first, plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, plan)
        module.train()
        loss, parts = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        for key, value in {"loss": float(loss.detach()), **parts}.items():
            means[key] = value if key not in means else 0.97 * means[key] + 0.03 * value
        now = time.monotonic()
        if now - said > 15 or step + 1 == plan.steps:
            left = (now - started) / (step + 1 - first) * (plan.steps - step - 1)
            text = " ".join(f"{k} {v:.4f}" for k, v in means.items())
            print(f"step {step + 1}/{plan.steps} {text} left {left / 60:.1f} min", flush=True)
            said = now
        if evaluate is not None and evaluate_every and (step + 1) % evaluate_every == 0:
            module.eval()
            print(f"step {step + 1} held out {json.dumps(evaluate())}", flush=True)
        if now - saved > plan.checkpoint_s:
            _save(path, module, optimizer, step + 1)
            saved = now
    _save(path, module, optimizer, plan.steps)
    module.eval()


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict()}, temporary)
    os.replace(temporary, path)


def _resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"goes on at step {state['step']} of {path}", flush=True)
    return int(state["step"])
