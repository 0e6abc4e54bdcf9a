"""A language stage from its configuration to its folder: what project, instruct and prefer share.

- Order: open the former stage, read and check the data, go on from the last whole checkpoint or begin, prove the
  weights, train, measure, write the model, write ``stage.json`` last.
- The same call after a kill goes on where the run stopped and gives the same loss curve; after the end it does nothing.
- On several processes all do the same, and the first one writes.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainingArguments

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic
from hwsi.training.data.buckets import LengthBuckets
from hwsi.training.data.rows import Collate
from hwsi.training.stages.checkpoint import (
    STAGE_FILE,
    Given,
    StageRecord,
    claim,
    open_given,
    prove,
    read_record,
    versions,
    write_model,
    write_record,
)
from hwsi.training.stages.config import InstructConfig, PreferConfig, ProjectConfig
from hwsi.training.stages.material import PROBLEMS, Material
from hwsi.training.stages.placement import (
    DTYPES,
    ZERO3,
    load_given,
    plain_model,
    prepare,
    require_machine,
    whole_state,
)
from hwsi.training.stages.trainer import StageTrainer, Visits
from hwsi.training.stages.watch import Progress, Watcher, silent

Config = ProjectConfig | InstructConfig | PreferConfig
BEFORE = "before.json"


@dataclass(frozen=True)
class Ready:
    """All that a run needs before its first step.

    Attributes:
        config: of the stage. given: what it starts from. model, processor: loaded and prepared.
        material: rows. visits: the batches of this process. processes: of the run.
    """

    config: Config
    given: Given
    model: Any
    processor: Any
    material: Material
    visits: Visits
    processes: int


Gather = Callable[[Any, Any, Given, Path | None], Material]
"""(config, processor, given, where problems are listed) -> material; each stage has its own."""


def make_ready(config: Config, gather: Gather, listing: Path | None) -> Ready:
    """Open the former stage and the data.

    Raises:
        HwsiError: as :func:`open_given`, :func:`load_given` and the stage's own ``gather``; EXTRA_MISSING.
    """
    require_machine(config.placement)
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    given = open_given(config.start, config.former)
    place = config.placement
    model, processor = load_given(given, place, state.num_processes)
    material = gather(config, processor, given, listing)
    model = prepare(model, config.learn, seed=config.seed)
    buckets = LengthBuckets(
        material.rows.costs,
        config.batch.rows,
        max_cost=config.batch.max_tokens,
        seed=config.seed,
        rank=state.process_index // place.tensor_parallel,
        ranks=state.num_processes // place.tensor_parallel,
    )
    visits = Visits(buckets, steps=config.steps, epochs=config.epochs, accumulate=config.batch.accumulate)
    return Ready(config, given, model, processor, material, visits, state.num_processes)


def run_stage(
    config: Config,
    out: Path,
    gather: Gather,
    trainer_of: type[StageTrainer] = StageTrainer,
    *,
    progress: Progress = silent,
    extra: Mapping[str, Any] | None = None,
    measure_before: bool = False,
) -> StageRecord:
    """Train a stage.

    Args:
        config: of it. out: its folder. gather: what it learns from. trainer_of: its loss.
        progress: is told how far it is. extra: arguments of the trainer.
        measure_before: also evaluate the model that was given, as ``metrics["before"]``.

    Returns:
        What was written to ``out/stage.json``.

    Raises:
        HwsiError: as :func:`make_ready` and :func:`claim`.
    """
    ready = make_ready(config, gather, out / PROBLEMS)
    from accelerate import PartialState

    with PartialState().main_process_first():
        last = claim(out, _key(ready))
    if (out / STAGE_FILE).is_file():
        return read_record(out)
    state = whole_state(ready.model)
    if PartialState().is_main_process:
        prove(state, ready.given)
    del state
    since = int(last.name.rpartition("-")[2]) if last else 0
    trainer = make_trainer(ready, out, trainer_of, progress=progress, since=since, extra=extra)
    before = _before(trainer, out) if measure_before else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own; what a user should know is said by us
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    metrics = trainer.evaluate() if ready.material.held_out else {}
    metrics = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    return _finish(ready, trainer, out, metrics if before is None else {**metrics, "before": before})


def make_trainer(
    ready: Ready, out: Path, trainer_of: type[StageTrainer], *, progress: Progress, since: int,
    extra: Mapping[str, Any] | None = None,
) -> StageTrainer:  # fmt: skip
    """The trainer of a run. Raises HwsiError(EXTRA_MISSING) for a log that is not installed."""
    config = ready.config
    watch = config.watch
    for package in watch.report_to:
        if find_spec(package) is None:
            what = f"{package} is not installed"
            raise HwsiError(Reason.EXTRA_MISSING, what, f"pip install {package}, or leave watch.report_to out")
    if "tensorboard" in watch.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out / "tensorboard"))
    early = watch.patience is not None
    args = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=ready.visits.steps,
        per_device_train_batch_size=config.batch.rows,
        gradient_accumulation_steps=config.batch.accumulate,
        dataloader_num_workers=config.batch.workers,
        learning_rate=config.optimiser.lr,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(
            config.optimiser.schedule, config.optimiser.schedule
        ),
        warmup_steps=round(config.optimiser.warmup * ready.visits.steps),
        weight_decay=config.optimiser.weight_decay,
        adam_beta2=config.optimiser.beta2,
        max_grad_norm=config.optimiser.clip,
        bf16=config.placement.precision == "bf16",
        fp16=config.placement.precision == "fp16",
        activation_checkpointing=config.placement.recompute,
        activation_checkpointing_kwargs={"use_reentrant": False} if config.placement.recompute else None,
        deepspeed=str(ZERO3) if config.placement.strategy == "zero3" else None,
        logging_steps=watch.log_every,
        eval_strategy="steps" if watch.eval_every and ready.material.held_out else "no",
        eval_steps=watch.eval_every,
        save_strategy="steps" if watch.save_every else "no",
        save_steps=watch.save_every or 1,
        save_total_limit=watch.keep,
        load_best_model_at_end=early,
        metric_for_best_model="loss" if early else None,
        greater_is_better=False if early else None,
        seed=config.seed,
        report_to=list(watch.report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_nan_inf_filter=False,
        use_cpu=not torch.cuda.is_available(),
    )
    callbacks: list[Any] = [Watcher(out, config.stage, progress, since)]
    if watch.patience is not None:
        callbacks.append(EarlyStoppingCallback(watch.patience))
    trainer = trainer_of(
        model=ready.model,
        args=args,
        rows=ready.material.rows,
        visits=ready.visits,
        collate=Collate(ready.processor),
        held_out=ready.material.held_out,
        callbacks=callbacks,
        **(extra or {}),
    )
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    return trainer


def _key(ready: Ready) -> dict[str, Any]:
    """All that the weights depend on."""
    told = ready.config.model_dump(mode="json", exclude={"watch": True, "start": True, "batch": {"workers"}})
    return {
        "config": told,
        "given": ready.given.ancestor.sha256,
        "data": sorted(ready.material.files.values()),
        "batches": ready.visits.digest,
        "steps": ready.visits.steps,
    }


def _before(trainer: StageTrainer, out: Path) -> dict[str, dict[str, float]]:
    """Figures by task of the model as it was given; kept, since a run that goes on has another one."""
    file = out / BEFORE
    if not file.is_file():
        found = {task: trainer.measure(rows) for task, rows in trainer.held_out.items() if len(rows)}
        if trainer.args.should_save:
            write_atomic(file, json.dumps(found, indent=2).encode())
        return found
    kept: dict[str, dict[str, float]] = json.loads(file.read_text("utf-8"))
    return kept


def _finish(ready: Ready, trainer: StageTrainer, out: Path, metrics: dict[str, Any]) -> StageRecord:
    from accelerate import PartialState

    config, given = ready.config, ready.given
    if trainer.is_deepspeed_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    else:
        state = whole_state(trainer.model)
    if PartialState().is_main_process:
        dtype = DTYPES[config.placement.weights]
        model = plain_model(trainer.model, given, config.learn, state, dtype)
        record = StageRecord(
            stage=config.stage,
            config=config.model_dump(mode="json"),
            started_from=str(given.folder),
            given=given.ancestor,
            gave=write_model(model, ready.processor, out),
            parents=given.lineage,
            seed=config.seed,
            steps=trainer.state.global_step,
            tasks={**(given.tasks or {}), **ready.material.tasks},
            data=ready.material.files,
            metrics=metrics,
            notes=ready.material.told,
            versions=versions(),
        )
        write_record(record, out)
    PartialState().wait_for_everyone()
    return read_record(out)
