"""Before any slide: patch encoder and text tower learn from image-text pairs, general images first, then pathology.

- Symmetric InfoNCE over the batch, captions with the same words sharing their positives (CLIP, arXiv:2103.00020).
- Stages of data follow one another with the same weights, each with a schedule and a log of its own
  (``OUT/<name>/``). A run that was stopped goes on in the stage and at the step where it was.
- It gives ``OUT/encoders/patch.safetensors`` and ``text.safetensors`` as the registry reads them (and ``head``, where
  the two widths differ). For nano the pairs are phantom patches and their phrases:
  :func:`hwsi.training.data.phantom.write_pairs`.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from hwsi.encoders.weights import save
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path
from hwsi.training.data.buckets import LengthBuckets
from hwsi.training.data.records import PairRecord
from hwsi.training.objectives.contrast import info_nce
from hwsi.training.objectives.gather import gather, rank, world_size
from hwsi.training.objectives.grad_cache import cached_backward
from hwsi.training.objectives.hca import recall
from hwsi.training.stages.align_encoders import build_tower, save_tower, seeded
from hwsi.training.stages.align_loop import Plan, Steps, autocast, claim_first, fit, ranks
from hwsi.training.stages.align_model import embed_texts
from hwsi.training.stages.checkpoint import (
    STAGE_FILE,
    Ancestor,
    StageRecord,
    file_sha256,
    files_sha256,
    last_checkpoint,
    read_record,
    versions,
    write_record,
)
from hwsi.training.stages.material import PROBLEMS
from hwsi.training.stages.pretrain_config import PairStage, PretrainConfig
from hwsi.training.stages.pretrain_data import Pair, PairRows, read_pairs

_RANGE = (math.log(0.01), 0.0)  # of the logarithm of a learned temperature
_MEASURED = 512  # held-out pairs, at most
_DONE = "done.pt"


class PairModel(nn.Module):
    """Patch encoder, text tower, a head where their widths differ, and the temperature.

    Args:
        patch, text: of the registry, modules whose ``forward`` has a gradient. temperature: at the beginning.
        learn_temperature: whether it changes.
    """

    def __init__(self, patch: Any, text: Any, *, temperature: float, learn_temperature: bool) -> None:
        super().__init__()
        self.patch, self.text = patch, text
        dims = (patch.spec.dim, text.spec.dim)
        self.head = nn.Identity() if dims[0] == dims[1] else nn.Linear(*dims, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learn_temperature)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.log_temperature.device

    def represent(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """``z`` and ``t`` (n, E) float32, rows of length one, and ``report`` (n,) int64."""
        images = torch.stack([pair.image for pair in pairs])
        z = self.head(embed_images(self.patch, images, self.device))
        t = embed_texts(self.text, [pair.caption for pair in pairs])
        report = torch.tensor([pair.report for pair in pairs], device=self.device)
        return {"z": F.normalize(z.float(), dim=-1), "t": F.normalize(t.float(), dim=-1), "report": report}

    def clamp(self) -> None:
        """Keep the temperature in its range."""
        self.log_temperature.data.clamp_(*_RANGE)


def embed_images(encoder: Any, images: Tensor, device: torch.device) -> Tensor:
    """uint8 (n, side, side, 3) -> (n, D) by a patch encoder of the registry, with gradient."""
    # encoders of others take pixels that were prepared as they were trained, our own take them as they are
    prepared = encoder.preparation(images, device) if hasattr(encoder, "preparation") else images.to(device)
    vectors: Tensor = encoder(prepared)
    return vectors[:, 0] if vectors.ndim == 3 else vectors  # a plain transformer gives all its tokens


@dataclass(frozen=True)
class Ready:
    """All that a run needs before its first step: what is trained, and of each stage of data the pairs to learn from
    and those held out. ``weights``: encoder id -> digest; ``files``: file -> SHA-256; ``told``: of the data.
    """

    model: PairModel
    pairs: dict[str, tuple[PairRows, PairRows | None]]
    weights: dict[str, str]
    files: dict[str, str]
    told: tuple[str, ...]


def make_ready(config: PretrainConfig, listing: Path | None = None) -> Ready:
    """Read and check all pairs, then build the encoders; nothing is written but ``listing``, the list of faults.

    Raises:
        HwsiError: ENCODER_UNKNOWN, WEIGHTS_MISSING, WEIGHTS_MISMATCH, DATA_..., NO_NEGATIVES, OPTION_INVALID.
    """
    missing = [path for stage in config.data for path in stage.pairs if not path.is_file()]
    if missing:
        raise HwsiError(Reason.DATA_MISSING, f"there is no file {missing[0]}", "correct the path in the configuration")
    found: dict[str, tuple[list[PairRecord], list[PairRecord]]] = {}
    told: list[str] = []
    for stage in config.data:
        train, held, notes = read_pairs(config, stage, listing)
        found[stage.name] = (train, held)
        told += [f"{stage.name}: {note}" for note in notes]
    if config.batch % world_size():
        what = f"a batch of {config.batch} pairs cannot be shared by {world_size()} processes"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose batch as a multiple of the processes")
    patch, given = build_tower(config.patch, "patch")
    text, words = build_tower(config.text, "text", lambda: (r.caption for train, _ in found.values() for r in train))
    learns, begin = config.learn_temperature, config.temperature
    model = seeded(lambda: PairModel(patch, text, temperature=begin, learn_temperature=learns), config.seed)
    side = patch.spec.input_px
    pairs = {
        name: (
            PairRows(train, side, turn=config.turn, seed=config.seed),
            PairRows(held[:_MEASURED], side) if held else None,
        )
        for name, (train, held) in found.items()
    }
    files = {str(path): file_sha256(path) for stage in config.data for path in stage.pairs}
    return Ready(model, pairs, {config.patch.id: given, config.text.id: words}, files, tuple(told))


def run_pretrain(config: PretrainConfig, out: Path) -> StageRecord:
    """Train; the same call after a kill goes on where the run stopped, after the end it does nothing.

    Returns:
        What was written to ``out/stage.json``.

    Raises:
        HwsiError: as :func:`make_ready`; OPTION_INVALID (``out`` is another run's), OUTPUT_UNWRITABLE, DISK_FULL.
    """
    with ExitStack() as stack:
        device = stack.enter_context(ranks(config.device))
        ready = make_ready(config, out / PROBLEMS if rank() == 0 else None)
        claim_first(out, _key(config, ready))
        if (out / STAGE_FILE).is_file():
            return read_record(out)
        model = ready.model.to(device)
        metrics: dict[str, Any] = {}
        for number, data in enumerate(config.data):
            _fit_stage(config, ready, data, number, out / data.name)
            metrics |= {f"{data.name}_{k}": v for k, v in _figures(ready, config, data.name).items()}
        if rank() == 0:
            _finish(config, ready, out, metrics | {"temperature": model.log_temperature.exp().item()})
        if world_size() > 1:
            dist.barrier()
        return read_record(out)


def backward(model: PairModel, pairs: Sequence[Pair], config: PretrainConfig) -> dict[str, Tensor]:
    """Gradients of the contrast of a batch, shared with the other processes; ``pairs`` are those of this one."""

    def represent(some: Sequence[Pair]) -> dict[str, Tensor]:
        with autocast(model.device, config.precision):
            return model.represent(some)

    def loss_of(parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        z, t, report = (gather(torch.cat([p[k] for p in parts])) for k in ("z", "t", "report"))
        temperature = model.log_temperature.exp()
        told = {"temperature": temperature.detach(), **recall(z @ t.T, report)}
        return info_nce(z @ t.T, report, temperature), told

    size = config.chunk or len(pairs)
    if size >= len(pairs):
        loss, told = loss_of([represent(pairs)])
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        loss, told = cached_backward([pairs[i : i + size] for i in range(0, len(pairs), size)], represent, loss_of)
    return {"loss": loss.detach(), **told}


def _fit_stage(config: PretrainConfig, ready: Ready, data: PairStage, number: int, folder: Path) -> None:
    done = folder / _DONE
    if done.is_file():
        state = torch.load(done, weights_only=True, map_location=ready.model.device)
        ready.model.load_state_dict(state, strict=True)
        return
    rows, _ = ready.pairs[data.name]
    size = config.batch // world_size()
    buckets = LengthBuckets([1] * len(rows), size, full_only=True, seed=config.seed, rank=rank(), ranks=world_size())

    def batches(first: int) -> Iterator[list[Pair]]:
        steps = Steps(buckets, first, data.steps)
        return iter(DataLoader(rows, batch_sampler=steps, num_workers=config.workers, collate_fn=list))

    optimiser = config.optimiser if data.lr is None else config.optimiser.model_copy(update={"lr": data.lr})
    fit(
        ready.model,
        batches,
        lambda pairs, logged: backward(ready.model, pairs, config),
        # another seed in each stage: the second must not repeat the draws of the first
        Plan(data.steps, optimiser, config.watch, config.seed + 7919 * number, folder),
        resume=last_checkpoint(folder),
        evaluate=lambda: _figures(ready, config, data.name),
        clamp=ready.model.clamp,
    )
    if rank() == 0:
        with atomic_path(done) as temporary:
            torch.save(ready.model.state_dict(), temporary)
    if world_size() > 1:
        dist.barrier()


@torch.no_grad()
def _figures(ready: Ready, config: PretrainConfig, name: str) -> dict[str, float]:
    """Recall at one on the held-out pairs of a stage of data; empty if there are none."""
    held = ready.pairs[name][1]
    if held is None:
        return {}
    parts = []
    size = config.chunk or config.batch
    for start in range(0, len(held), size):
        with autocast(ready.model.device, config.precision):
            parts.append(ready.model.represent([held[0, i] for i in range(start, min(start + size, len(held)))]))
    z, t, report = (torch.cat([p[k] for p in parts]) for k in ("z", "t", "report"))
    found = recall(z @ t.T, report)
    return {"val_pairs": float(len(held)), **{f"val_{k}": round(float(v), 4) for k, v in found.items()}}


def _key(config: PretrainConfig, ready: Ready) -> dict[str, Any]:
    """All that the weights depend on."""
    return {
        "config": config.model_dump(mode="json", exclude={"watch", "workers", "device"}),
        "weights": ready.weights,
        "data": sorted(ready.files.values()),
        "processes": world_size(),
    }


def _finish(config: PretrainConfig, ready: Ready, out: Path, metrics: dict[str, Any]) -> None:
    model, at = ready.model.cpu(), out / "encoders"
    save_tower(model.patch, at / "patch.safetensors")
    save_tower(model.text, at / "text.safetensors")
    if isinstance(model.head, nn.Linear):
        save(model.head, at / "head.safetensors")
    told = "".join(f"{k}={v};" for k, v in sorted(ready.weights.items()))
    record = StageRecord(
        stage=config.stage,
        config=config.model_dump(mode="json"),
        started_from=", ".join(ready.weights),
        given=Ancestor(stage="external", sha256=sha256(told.encode()).hexdigest()),
        gave=files_sha256(at),
        parents=(),
        seed=config.seed,
        steps=sum(stage.steps for stage in config.data),
        data=ready.files,
        metrics={**metrics, "encoders_given": ready.weights, "told": list(ready.told)},
        versions=versions(),
    )
    write_record(record, out)
