"""Stage 1: tissue and words of four scales in one space (L_HCA).

- Trained are CCAF of a HWSI model, the encoders of regions and slides, the text tower and the heads; patches and cells
  are read from feature files.
- The batch of contrast may be larger than memory (``contrast.chunk``) and span processes (``torchrun``); value and
  gradient are those of one batch in one process.
- It gives ``OUT/model/`` (with the trained CCAF), ``OUT/encoders/`` (region, slide, text, heads) and ``stage.json``.
  Region and slide vectors in the feature files are then old: :func:`hwsi.training.stages.align_tokens.refresh` makes
  them anew, without pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from hwsi.errors import HwsiError, Reason
from hwsi.model.checkpoint import load
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.training.data.buckets import LengthBuckets
from hwsi.training.data.records import ReportRecord
from hwsi.training.data.rows import AlignRows
from hwsi.training.data.store import FeatureStore
from hwsi.training.objectives.contrast import FILL, AlignBatch
from hwsi.training.objectives.gather import gather, rank, world_size
from hwsi.training.objectives.grad_cache import cached_backward
from hwsi.training.objectives.hca import effective_ranks, hca_loss, retrieval
from hwsi.training.stages.align_config import AlignConfig
from hwsi.training.stages.align_data import AlignSlide, AlignSlides, Reads
from hwsi.training.stages.align_encoders import build_tower, save_heads, save_tower, seeded
from hwsi.training.stages.align_loop import Plan, Steps, autocast, claim_first, fit, ranks
from hwsi.training.stages.align_model import AlignHeads, AlignModel
from hwsi.training.stages.checkpoint import (
    STAGE_FILE,
    Given,
    StageRecord,
    open_given,
    prove,
    read_record,
    versions,
    write_model,
    write_record,
)
from hwsi.training.stages.material import PROBLEMS, digests, open_store, read_split

_MEASURED = 256  # held-out slides, at most, and as many of training


@dataclass(frozen=True)
class Ready:
    """All that a run needs before its first step.

    Attributes:
        given: what it starts from. model, processor: of HWSI, loaded. align: what is trained.
        train, val: slides. steps: of the run. buckets: the batches of this process.
        weights: encoder id -> digest of the weights it starts from. files: file -> SHA-256.
        told: what the user must know of the data.
    """

    given: Given
    model: HwsiForConditionalGeneration
    processor: Any
    align: AlignModel
    train: AlignSlides
    val: AlignSlides | None
    steps: int
    buckets: LengthBuckets
    weights: dict[str, str]
    files: dict[str, str]
    told: tuple[str, ...]


class Recipe:
    """How stage 1 is run; nano's own (``training/nano/align.py``) adds to it.

    Attributes:
        model: what is trained; its ``beside`` adds losses to L_HCA.
    """

    model: type[AlignModel] = AlignModel

    def begin(self, ready: Ready) -> None:
        """Before the first step, or before a checkpoint is read."""

    def finish(self, ready: Ready) -> None:
        """After the last step, before the model is written."""


PLAIN = Recipe()


def make_ready(config: AlignConfig, listing: Path | None = None, recipe: Recipe = PLAIN) -> Ready:
    """Open the model, the encoders and the data; nothing is written but ``listing``, the list of faults in the data.

    Raises:
        HwsiError: STAGE_MISSING, WEIGHTS_MISSING, WEIGHTS_MISMATCH, ENCODER_UNKNOWN, DATA_..., FEATURES_...,
            NO_NEGATIVES (fewer than two different reports), OPTION_INVALID.
    """
    given = open_given(config.start, config.former)
    model, processor = load(given.model)
    if not isinstance(model, HwsiForConditionalGeneration):
        what = f"the model in {given.model} has no CCAF to train (fusion '{model.config.fusion}')"
        raise HwsiError(Reason.OPTION_INVALID, what, "start from a model with fusion 'interleave'")
    store = open_store(config.data)
    files = digests(config.data, config.texts)
    split = read_split(ReportRecord, config.texts, config.data, store, None, listing=listing)
    weights: dict[str, str] = {}
    built: dict[str, Any] = {}
    for scale in ("region", "slide", "text"):
        tower = getattr(config, scale)
        built[scale], weights[tower.id] = build_tower(tower, scale, lambda: (r.report for r in split.train))
    reads = Reads(model.config.visual_config, built["region"].spec, built["slide"].spec, processor.kept_patches)
    _refuse_misfits(built, reads)
    align = _align_model(config, model, built, recipe)
    train = _slides(config, split.train, store, reads)
    if len(set(train.rows.text_ids)) < 2:
        what = f"all {len(train)} slides to train on have the same report, so there are no negatives"
        raise HwsiError(Reason.NO_NEGATIVES, what, "give slides with different reports")
    if config.contrast.slides % world_size():
        what = f"a batch of {config.contrast.slides} slides cannot be shared by {world_size()} processes"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose contrast.slides as a multiple of the processes")
    buckets = LengthBuckets(
        train.rows.costs,
        config.contrast.slides // world_size(),
        full_only=True,
        seed=config.seed,
        rank=rank(),
        ranks=world_size(),
    )
    steps = config.steps or max(1, ceil((config.epochs or 0) * buckets.steps(0)))
    val = _slides(config, split.val[:_MEASURED], store, reads) if split.val else None
    return Ready(given, model, processor, align, train, val, steps, buckets, weights, files, split.told)


def run_align(config: AlignConfig, out: Path, recipe: Recipe = PLAIN) -> StageRecord:
    """Train stage 1; the same call after a kill goes on where the run stopped, after the end it does nothing.

    Args:
        config: of it. out: its folder. recipe: what is done besides.

    Returns:
        What was written to ``out/stage.json``.

    Raises:
        HwsiError: as :func:`make_ready`; OPTION_INVALID (``out`` is another run's), OUTPUT_UNWRITABLE, DISK_FULL.
    """
    with ExitStack() as stack:
        device = stack.enter_context(ranks(config.device))
        ready = make_ready(config, out / PROBLEMS if rank() == 0 else None, recipe)
        last = claim_first(out, _key(config, ready))
        if (out / STAGE_FILE).is_file():
            return read_record(out)
        prove(ready.model.state_dict(), ready.given)
        recipe.begin(ready)
        align = ready.align.to(device)
        fit(
            align,
            lambda first: _batches(ready, config, first),
            lambda slides, logged: backward(align, slides, config, logged=logged),
            Plan(ready.steps, config.optimiser, config.watch, config.seed, out),
            resume=last,
            evaluate=lambda: _figures(ready, config),
        )
        metrics = _figures(ready, config)
        if rank() == 0:
            recipe.finish(ready)
            _finish(config, ready, out, metrics)
        if world_size() > 1:
            dist.barrier()
        return read_record(out)


def backward(
    align: AlignModel, slides: Sequence[AlignSlide], config: AlignConfig, *, logged: bool
) -> dict[str, Tensor]:
    """Gradients of L_HCA of a batch, shared with the other processes; returns the loss and its parts.

    Args:
        slides: of this process. logged: also measure the effective rank of each scale.
    """
    c = config.contrast

    def represent(some: Sequence[AlignSlide]) -> dict[str, Tensor]:
        with autocast(align.device, config.precision):
            return align.represent(some)

    def loss_of(parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        own = AlignBatch.join(parts).tensors()
        whole = AlignBatch.join([{k: gather(x, FILL.get(k.partition(".")[0], 0)) for k, x in own.items()}])
        loss, told = hca_loss(whole, pairing=c.pairing, temperature=c.temperature, consistency_weight=c.consistency)
        return loss, told | (effective_ranks(whole) if logged else {})

    size = c.chunk or len(slides)
    if size >= len(slides):
        loss, told = loss_of([represent(slides)])
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        loss, told = cached_backward([slides[i : i + size] for i in range(0, len(slides), size)], represent, loss_of)
    with autocast(align.device, config.precision):
        more = align.beside()
    if more:
        torch.stack([*more.values()]).sum().backward()  # type: ignore[no-untyped-call]
    return {"loss": loss.detach(), **told, **{name: value.detach() for name, value in more.items()}}


@torch.no_grad()
def measure(align: AlignModel, slides: Iterable[AlignSlide], config: AlignConfig) -> dict[str, float]:
    """Recall at one between slides and reports by each scale, and the scales' effective ranks; of one slide or more."""
    parts = []
    for slide in slides:
        with autocast(align.device, config.precision):
            parts.append(align.represent([slide]))
    batch = AlignBatch.join(parts)
    found = {**retrieval(batch), **effective_ranks(batch)}
    return {"slides": float(len(parts)), **{k: round(float(v), 4) for k, v in found.items()}}


def _slides(config: AlignConfig, records: Sequence[ReportRecord], store: FeatureStore, reads: Reads) -> AlignSlides:
    """Refuses, before the first step, slides that lack what is read."""
    always = [*reads.needs.items(), ("patch", reads.region_patch)]
    # vectors of regions only choose which of too many are read
    chooses = ("region", reads.visual.encoders["region"])
    for record in records:
        entry = store.find(record.slide)
        for scale, encoder in [*always, *([chooses] if entry.lengths.regions > config.max_regions else [])]:
            if encoder not in entry.widths[scale]:
                what = f"slide '{record.slide}' has no {scale} vectors of {encoder}"
                raise HwsiError(Reason.FEATURES_MISMATCH, what, "encode it with the preset of this model")
    rows = AlignRows(
        records,
        store,
        reads.visual.encoders["region"],
        augment=config.data.augment,
        seed=config.seed,
        max_regions=config.max_regions,
    )
    return AlignSlides(rows, store, reads, units=config.contrast.units)


def _refuse_misfits(built: dict[str, Any], reads: Reads) -> None:
    region, slide = built["region"].spec, built["slide"].spec
    if slide.reads:
        what = f"{slide.id} reads patches, so no gradient would reach the regions through it"
        raise HwsiError(Reason.OPTION_INVALID, what, "name a slide encoder that reads regions, such as vit-wsi-192")
    wanted = getattr(built["slide"], "region_dim", region.dim)
    if wanted != region.dim:
        what = f"{slide.id} reads regions of {wanted} numbers, {region.id} makes {region.dim}"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose encoders that fit one another")
    dims = reads.visual.dims
    for scale, spec in (("region", region), ("slide", slide)):
        if dims[scale] != spec.dim:
            what = f"the model reads {scale} vectors of {dims[scale]} numbers, {spec.id} makes {spec.dim}"
            raise HwsiError(Reason.OPTION_INVALID, what, "choose encoders that fit the model")


def _align_model(
    config: AlignConfig, model: HwsiForConditionalGeneration, built: dict[str, Any], recipe: Recipe
) -> AlignModel:
    visual = model.config.visual_config
    dims = {
        "cell": visual.ccaf_width,
        "patch": visual.dims["patch"],
        "region": built["region"].spec.dim,
        "slide": built["slide"].spec.dim,
        "text": built["text"].spec.dim,
    }
    heads = seeded(lambda: AlignHeads(dims, config.width), config.seed)
    align = recipe.model(visual=model.model.visual, heads=heads, **built)
    for name in ("ccaf", "region", "slide", "text"):
        getattr(align, name).requires_grad_(name in config.learn)
    return align


def _batches(ready: Ready, config: AlignConfig, first: int) -> Iterator[list[AlignSlide]]:
    steps = Steps(ready.buckets, first, ready.steps)
    return iter(DataLoader(ready.train, batch_sampler=steps, num_workers=config.workers, collate_fn=list))


def _figures(ready: Ready, config: AlignConfig) -> dict[str, float]:
    """Of some slides of training and of those held out. Every process measures the same, so that none waits long."""
    found: dict[str, float] = {}
    for name, slides in (("train", ready.train), ("val", ready.val)):
        if slides is not None:
            some = (slides[i] for i in range(min(len(slides), _MEASURED)))
            found |= {f"{name}_{k}": v for k, v in measure(ready.align, some, config).items()}
    return found


def _key(config: AlignConfig, ready: Ready) -> dict[str, Any]:
    """All that the weights depend on."""
    return {
        "config": config.model_dump(mode="json", exclude={"watch", "start", "workers", "device"}),
        "given": ready.given.ancestor.sha256,
        "weights": ready.weights,
        "data": sorted(ready.files.values()),
        "features": ready.train.weights,
        "steps": ready.steps,
        "processes": world_size(),
    }


def _finish(config: AlignConfig, ready: Ready, out: Path, metrics: dict[str, Any]) -> None:
    align = ready.align.cpu()
    gave = {name: save_tower(getattr(align, name), _file(out, name)) for name in ("region", "slide", "text")}
    gave["heads"] = save_heads(align.heads, _file(out, "heads"))
    record = StageRecord(
        stage=config.stage,
        config=config.model_dump(mode="json"),
        started_from=str(ready.given.folder),
        given=ready.given.ancestor,
        gave=write_model(ready.model.cpu(), ready.processor, out),
        parents=ready.given.lineage,
        seed=config.seed,
        steps=ready.steps,
        tasks=dict(ready.given.tasks or {}),
        data=ready.files,
        metrics={**metrics, "encoders_given": ready.weights, "encoders_gave": gave, "told": list(ready.told)},
        versions=versions(),
    )
    write_record(record, out)


def _file(out: Path, name: str) -> Path:
    return out / "encoders" / f"{name}.safetensors"
