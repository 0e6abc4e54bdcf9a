"""The Trainer of all language stages: Hugging Face's, with our batches, our loss and our evaluation.

- The batches of the whole run are one list (``Visits``): what a step reads follows from the step alone, so a run that
  was stopped goes on exactly, also in the middle of an epoch.
- Logits are computed where an answer is learned, not along the slide's thousands of tokens.
- The loss is a sum over ``num_items_in_batch``, the answers' tokens of all processes and passes of a step. The Trainer
  averages gradients over processes, hence the factor in ``compute_loss``; without it they are too small by the number
  of processes, and AdamW hides that in the loss curve.
- Evaluation counts every token and every answer once, however batches fall on processes.

Notation: B rows, T tokens, C columns in which some row learns, V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainingArguments

from hwsi.model.config import HwsiResampleConfig
from hwsi.training.data.buckets import LengthBuckets, Visit
from hwsi.training.stages.placement import gather_no_longer, is_spread, whole_state

IGNORE = -100
Batch = dict[str, Tensor]
_WEIGHTS = "spread.pt"
_OPTIMIZER = "optimizer"
_SCHEDULER = "scheduler.pt"


class Visits(Sampler[list[Visit]]):
    """All batches of this process, one after another over the epochs.

    Args:
        buckets: of one epoch. steps: of the run, or None. epochs: as many, if steps is None; a part counts in steps.
        accumulate: passes of a step.
    """

    def __init__(self, buckets: LengthBuckets, *, steps: int | None, epochs: float | None, accumulate: int) -> None:
        self.buckets = buckets
        if steps is None:
            assert epochs is not None
            whole = sum(buckets.steps(epoch) for epoch in range(int(epochs)))
            passes = whole + round((epochs % 1) * buckets.steps(int(epochs)))
            steps = max(1, passes // accumulate)
        self.steps = steps
        self._passes = steps * accumulate

    def __len__(self) -> int:
        return self._passes

    def __iter__(self) -> Iterator[list[Visit]]:
        left, epoch = self._passes, 0
        while left:
            mine = self.buckets.plan(epoch).batches[self.buckets.rank :: self.buckets.ranks][:left]
            yield from ([(epoch, index) for index in batch] for batch in mine)
            left, epoch = left - len(mine), epoch + 1

    @property
    def digest(self) -> str:
        """Of all that decides the batches but the rank."""
        return str(self.buckets.state(0, 0)["batches"])


def answer_logits(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits where some row learns.

    Args:
        model: of either fusion, wrapped or not. batch: its inputs with ``labels`` (B, T).

    Returns:
        logits (B, C, V) of the tokens that labels (B, C) name (-100: none), and the columns (C,) of these in T.
    """
    inputs = dict(batch)
    labels = inputs.pop("labels")
    columns = (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0] + 1
    config = _config(model)
    # with fusion 'resample' the slide's tokens stand before all words
    shift = config.queries if isinstance(config, HwsiResampleConfig) else 0
    logits = model(**inputs, use_cache=False, logits_to_keep=columns - 1 + shift).logits
    return logits, labels[:, columns], columns


def _config(model: Any) -> Any:
    while not hasattr(model, "config"):  # DistributedDataParallel
        model = model.module
    return model.config


class StageTrainer(Trainer):
    """Trains on rows of ``training/data/rows.py``.

    Args:
        model: prepared by ``placement.py``. args: of the Trainer.
        rows: to learn from. visits: the batches. collate: items to a batch.
        held_out: task -> rows to evaluate.
        others: of the Trainer.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        model: Any,
        args: TrainingArguments,
        rows: Any,
        visits: Visits,
        collate: Callable[[Sequence[Any]], Any],
        held_out: Mapping[str, Any],
        **others: Any,
    ) -> None:
        self.visits, self.collate, self.held_out = visits, collate, dict(held_out)
        saving = args.save_strategy
        if is_spread(model):
            args.save_strategy = "no"  # the Trainer would refuse: it cannot save shares, we can
        super().__init__(model=model, args=args, train_dataset=rows, eval_dataset=rows, data_collator=collate, **others)
        args.save_strategy = saving
        self.model.config.__dict__.pop("use_cache", None)  # type: ignore[union-attr]  # the Trainer's, not the model's
        self.model_accepts_loss_kwargs = True  # so that num_items_in_batch is counted

    @property
    def rows(self) -> Any:
        """What is learned from."""
        return self.train_dataset

    # --- data ---------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The batches of this process; Accelerate must not deal them out once more."""
        return DataLoader(
            self.rows,
            batch_sampler=self.visits,
            collate_fn=self.collate,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    # --- loss ---------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy of the answers' tokens, see above."""
        logits, labels, _ = answer_logits(model, inputs)
        total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum")
        assert num_items_in_batch is not None
        loss = total / num_items_in_batch * (self.accelerator.num_processes // self.get_tp_size())
        return (loss, logits) if return_outputs else loss

    @property
    def live(self) -> Any:
        """The model as it can be called outside of a step."""
        return self.model_wrapped if self.is_deepspeed_enabled else self.model

    # --- evaluation ---------------------------------------------------------------------------------

    def tally(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over a batch, each of shape (): ``loss`` over ``tokens``, ``right`` over ``answers`` (an answer is right
        if every token of it was the likeliest behind the true ones before)."""
        logits, labels, columns = answer_logits(self.live, batch)
        known = labels != IGNORE
        each = F.cross_entropy(logits.float()[known], labels[known], reduction="none")
        rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
        of = rows * (1 << 20)
        if "segment_ids" in batch:  # independent dialogues in one row
            of = of + batch["segment_ids"][:, columns]
        _, which = torch.unique(of[known], return_inverse=True)
        wrong = torch.zeros(int(which.max()) + 1, device=labels.device)
        wrong.index_add_(0, which, (logits.argmax(-1) != labels)[known].float())
        return {
            "loss": each.sum(),
            "tokens": known.sum().float(),
            "right": (wrong == 0).sum().float(),
            "answers": torch.tensor(float(len(wrong)), device=labels.device),
        }

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums of :meth:`tally` to what is told."""
        return {"loss": sums["loss"] / sums["tokens"], "right": sums["right"] / sums["answers"]}

    @torch.no_grad()
    def measure(self, rows: Any) -> dict[str, float]:
        """Figures on all of some rows."""
        was = self.live.training
        self.live.eval()
        order = sorted(range(len(rows)), key=lambda i: rows.costs[i])
        size, ranks = self.args.per_device_train_batch_size, self.visits.buckets.ranks
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        sums: dict[str, Tensor] = {}
        for start in range(0, len(batches), ranks):
            mine = start + self.visits.buckets.rank
            counts = mine < len(batches)
            # a spread model needs every process at every pass, also one that has nothing left to do
            batch = self._prepare_inputs(dict(self.collate([rows[i] for i in batches[mine if counts else 0]])))
            with self.accelerator.autocast():
                for name, value in self.tally(batch).items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value * counts
        self.live.train(was)
        gather_no_longer(self.live)
        names = sorted(sums)
        total: Any = self.accelerator.reduce(torch.stack([sums[n].double() for n in names]), reduction="sum")
        if self.get_tp_size() > 1:
            total = total / self.get_tp_size()
        return self.figures(dict(zip(names, total.tolist(), strict=True)))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Figures on all held-out rows, by task and (the mean over tasks) in all."""
        found = {task: self.measure(rows) for task, rows in self.held_out.items() if len(rows)}
        metrics: dict[str, float] = {}
        for name in next(iter(found.values()), {}):
            metrics[f"eval_{name}"] = sum(figures[name] for figures in found.values()) / len(found)
            metrics |= {f"eval_{task}_{name}": figures[name] for task, figures in found.items() if len(found) > 1}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # --- checkpoints of a model in shares -----------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not is_spread(self.model):
            super()._save(output_dir, state_dict)
            return
        state = whole_state(self.model)
        if self.args.should_save and output_dir is not None:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            torch.save(state, Path(output_dir) / _WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_spread(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        from transformers.distributed.checkpoint import save_optimizer_distributed

        save_optimizer_distributed(self.model, self._inner_optimizer(), str(Path(output_dir) / _OPTIMIZER))
        if self.args.should_save:
            assert self.lr_scheduler is not None
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not is_spread(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        state = torch.load(Path(resume_from_checkpoint) / _WEIGHTS, map_location="cpu", weights_only=True)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, state, options=options)  # type: ignore[arg-type]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_spread(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        from transformers.distributed.checkpoint import load_optimizer_distributed

        load_optimizer_distributed(self.model, self._inner_optimizer(), str(Path(checkpoint) / _OPTIMIZER))
        assert self.lr_scheduler is not None
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / _SCHEDULER, weights_only=True))

    def _inner_optimizer(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)
