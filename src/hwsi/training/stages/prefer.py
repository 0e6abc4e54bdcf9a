"""Stage 4, ``prefer``: human feedback, as pairs of answers, by direct preference optimisation.

- The former stage's adapters are part of its saved weights, so switching this stage's adapter off gives exactly the
  policy that is to be improved: that is the reference, and no second model is held.
- Or the reference is worked out once, before the first step (``precompute``): twice as fast, and the only way to train
  all weights.
- Dropout is off: policy and reference are compared, and noise in one would be learned.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.records import PreferenceRecord
from hwsi.training.data.rows import PreferenceRows
from hwsi.training.data.writing import write_records
from hwsi.training.objectives.preference import Preference, dpo_loss
from hwsi.training.stages.checkpoint import Given, StageRecord
from hwsi.training.stages.config import PreferConfig
from hwsi.training.stages.feedback import read_feedback
from hwsi.training.stages.material import Material, digests, open_store, read_split
from hwsi.training.stages.run import run_stage
from hwsi.training.stages.trainer import IGNORE, Batch, StageTrainer, answer_logits
from hwsi.training.stages.watch import Progress, silent

FEEDBACK = "feedback.jsonl"
_REFERENCE = "reference"


def gather_preferences(config: PreferConfig, processor: Any, given: Given, listing: Path | None) -> Material:
    """Pairs of answers, from files and from a feedback store; what the store gave is kept as ``OUT/feedback.jsonl``.

    Raises:
        HwsiError: DATA_MISSING, and as :func:`hwsi.training.stages.material.read_split`.
    """
    data = config.data
    if not config.texts:
        todo = "name a JSONL of preferences, or the viewer's feedback store (data.feedback)"
        raise HwsiError(Reason.DATA_MISSING, "no preferences are named (data.preferences)", todo)
    files = digests(data, config.texts)
    store = open_store(data)
    with tempfile.TemporaryDirectory() as nowhere:
        paths = list(data.preferences)
        if data.feedback is not None:
            paths.append((listing.parent if listing else Path(nowhere)) / FEEDBACK)
            write_records(paths[-1], read_feedback(data.feedback))
        split = read_split(PreferenceRecord, paths, data, store, processor, listing=listing)
    rows = PreferenceRows(split.train, store, processor, augment=data.augment, seed=config.seed)
    return Material(rows, {"preferences": PreferenceRows(split.val, store, processor)}, split.told, files)


class WithReference(Dataset[Any]):
    """Pairs with the reference's log-probabilities (n, 2) of the chosen and the rejected answer."""

    def __init__(self, rows: Any, reference: Tensor) -> None:
        self._rows, self._reference = rows, reference
        self.costs = rows.costs

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: int | tuple[int, int]) -> Any:
        index = at[1] if isinstance(at, tuple) else at
        return {**self._rows[at], _REFERENCE: self._reference[index]}


def collate_with(collate: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    """The same collation; reference log-probabilities, where items have them, are stacked: (n, 2)."""

    def batch_of(items: Sequence[Any]) -> Any:
        bare = [{side: item[side] for side in ("chosen", "rejected")} for item in items]
        batch = collate(bare)
        if _REFERENCE in items[0]:
            batch[_REFERENCE] = torch.stack([item[_REFERENCE] for item in items])
        return batch

    return batch_of


class PreferTrainer(StageTrainer):
    """DPO on batches of n chosen rows, then the n rejected ones.

    Args:
        beta: as of :class:`hwsi.training.stages.config.PreferConfig`.
        reference: file for the reference's log-probabilities, worked out before the first step; None to switch the
            adapter off instead.
    """

    loss_is_scaled_for_ga = False  # a mean over the pairs of each pass

    def __init__(self, *, beta: float, reference: Path | None, **others: Any) -> None:
        for module in others["model"].modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        others["collate"] = collate_with(others["collate"])
        super().__init__(**others)
        self.model_accepts_loss_kwargs = False
        self.beta = beta
        if reference is not None:
            self._precompute(reference)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The DPO loss, a mean over pairs."""
        found = self._compare(model, inputs)
        return (found.loss, found) if return_outputs else found.loss

    def tally(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over pairs: ``loss``, ``right`` (the chosen answer has the larger reward), ``margin``, ``pairs``."""
        found = self._compare(self.live, batch)
        margin = found.chosen - found.rejected
        return {
            "loss": -F.logsigmoid(margin).sum(),
            "right": (margin > 0).float().sum(),
            "margin": margin.sum(),
            "pairs": torch.tensor(float(len(margin)), device=margin.device),
        }

    def figures(self, sums: Any) -> dict[str, float]:
        """Means over pairs."""
        return {name: sums[name] / sums["pairs"] for name in ("loss", "right", "margin")}

    def _compare(self, model: Any, inputs: Any) -> Preference:
        inputs = dict(inputs)
        known = inputs.pop(_REFERENCE, None)
        policy = sequence_log_probs(model, inputs).chunk(2)
        if known is None:
            inner = self.accelerator.unwrap_model(model)
            with torch.no_grad(), inner.disable_adapter():
                known = torch.stack(sequence_log_probs(inner, inputs).chunk(2), 1)
        return dpo_loss(policy[0], policy[1], known[:, 0], known[:, 1], self.beta)

    @torch.no_grad()
    def _precompute(self, file: Path) -> None:
        tasks = {"train": self.rows, **self.held_out}
        tasks = {name: rows for name, rows in tasks.items() if len(rows)}
        if file.is_file():
            found = load_file(file)
        else:
            found = {name: self._reference_of(rows) for name, rows in tasks.items()}
            if self.args.should_save:
                save_file(found, file)
        for name, rows in tasks.items():
            if name == "train":
                self.train_dataset = WithReference(rows, found[name])
            else:
                self.held_out[name] = WithReference(rows, found[name])

    def _reference_of(self, rows: Any) -> Tensor:
        """(n, 2) float32 of all pairs; every process works out its share."""
        self.live.eval()
        rank, ranks = self.visits.buckets.rank, self.visits.buckets.ranks
        mine = []
        for start in range(0, len(rows), ranks):
            batch = self.collate([rows[min(start + rank, len(rows) - 1)]])
            with self.accelerator.autocast():
                mine.append(sequence_log_probs(self.live, self._prepare_inputs(dict(batch))))
        told: Any = self.accelerator.gather(torch.stack(mine)[:, None])  # ranks one after another
        return told.reshape(ranks, len(mine), 2).transpose(0, 1).reshape(-1, 2)[: len(rows)].contiguous().cpu()  # type: ignore[no-any-return]


def sequence_log_probs(model: Any, batch: Any) -> Tensor:
    """Summed log-probability of each row's answer: (B,) float32."""
    logits, labels, _ = answer_logits(model, batch)
    each = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return each.masked_fill(labels == IGNORE, 0).sum(-1)


def run_prefer(config: PreferConfig, out: Path, *, progress: Progress = silent) -> StageRecord:
    """Train stage 4 into ``out``. Raises as :func:`hwsi.training.stages.run.run_stage`."""
    reference = out / "reference.safetensors" if config.precompute else None
    extra = {"beta": config.beta, "reference": reference}
    return run_stage(config, out, gather_preferences, PreferTrainer, progress=progress, extra=extra)
