"""Stage 3 of nano: questions, descriptions, reports; the stage that anybody runs, with lessons and readers of nano.

- The batches are those of ``lessons.py``: whole slides and tops of trees, parts of them hidden.
- Every sentence of an answer counts by the root of its length: a yes is not drowned by a report, nor is a report's word
  on artefacts by the rest of it, which a model may else never learn to look for where it writes reports.
- Linear readers, thrown away afterwards, ask of CCAF what its cells are and of the projected tokens what slide and
  regions are: the language loss alone reaches each through one token in hundreds.
- It proves that the encoders of regions and slides are those that ``align`` gave, two stages before.

Run: ``python -m hwsi.training.nano.instruct --start RUN/project --align RUN/align --cohort COHORT --features JOB
--out RUN/instruct``
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwsi.errors import HwsiError, Reason
from hwsi.training.nano.cell_truth import CellReader
from hwsi.training.nano.cohort import held_out, slides_of
from hwsi.training.nano.language import by_length
from hwsi.training.nano.lessons import TOLD, HeldOut, Lessons, Slides, collate_with
from hwsi.training.nano.token_truth import TokenReader
from hwsi.training.stages.align_encoders import seeded
from hwsi.training.stages.checkpoint import Given, StageRecord, file_sha256, open_given, read_record
from hwsi.training.stages.config import Batch, Data, InstructConfig, Learn, Optimiser, Placement, Watch
from hwsi.training.stages.material import Material
from hwsi.training.stages.run import run_stage
from hwsi.training.stages.trainer import IGNORE, StageTrainer, answer_logits
from hwsi.training.stages.watch import Progress, silent

_TOKENS = 0.05  # weight of what slide and region tokens must tell: the sum of some forty losses
_READERS = "readers.pt"


class LessonTrainer(StageTrainer):
    """Trains on items of ``lessons.py``; readers learn beside the model and stay out of it.

    Args:
        seed: of the readers' first weights. others: of the trainer.
    """

    loss_is_scaled_for_ga = False  # a mean over the answers of each pass

    def __init__(self, *, seed: int, **others: Any) -> None:
        tokenizer = others["collate"].processor.tokenizer
        self._stop, self._end = tokenizer.convert_tokens_to_ids("."), tokenizer.eos_token_id
        others["collate"] = collate_with(others["collate"])
        super().__init__(**others)
        self.model_accepts_loss_kwargs = False
        model: Any = self.model
        self._cells, self._tokens = seeded(lambda: (CellReader(model), TokenReader(model)), seed)
        # of the cell reader only its own layer: the rest of it is the model
        self.readers = nn.ModuleDict({"cells": self._cells.read, "tokens": self._tokens})

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross entropy of the answers, and what the readers ask."""
        inputs = dict(inputs)
        told = inputs.pop(TOLD)
        logits, labels, columns = answer_logits(model, inputs)
        known = labels != IGNORE
        row = torch.arange(len(labels), device=labels.device)[:, None] * (1 << 20)
        sentence = row + inputs["segment_ids"][:, columns] + stops_before(labels, stop=self._stop, end=self._end)
        loss, _ = by_length(logits.float()[known], labels[known], sentence[known])
        with torch.autocast(labels.device.type, enabled=False):
            loss = loss + _TOKENS * self._tokens.loss([told["slide"]], [told["region"]])
            if len(told["cells"]):
                loss = loss + self._cells.loss(told["cells"])
        return (loss, logits) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One step; the Trainer clears the gradients of the model alone."""
        self.readers.zero_grad(set_to_none=True)
        return super().training_step(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's, with the readers."""
        made = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if made:
            optimizer.add_param_group({"params": [*self.readers.parameters()], "weight_decay": self.args.weight_decay})
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if output_dir is not None and self.args.should_save:
            torch.save(self.readers.state_dict(), Path(output_dir) / _READERS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.readers.load_state_dict(torch.load(Path(resume_from_checkpoint) / _READERS, weights_only=True))


def stops_before(labels: Tensor, *, stop: int, end: int) -> Tensor:
    """How many sentences of its row were over before each label (B, C): those that a full stop ends.

    Args:
        stop: the full stop. end: what ends an answer; it belongs to the sentence before it.
    """
    over = (labels == stop) & (labels.roll(-1, 1) != end)
    return over.cumsum(1) - over.long()


def encoders_of(align: Path, given: Given) -> dict[str, Path]:
    """Region and slide encoders of the very stage 1 that a model comes from.

    Raises:
        HwsiError: STAGE_MISSING (no finished ``align``, or another one), WEIGHTS_MISMATCH (other encoders).
    """
    stage = open_given(align, "align")
    if stage.ancestor not in given.lineage:
        what = f"{given.folder} does not come from the stage in {align}"
        raise HwsiError(Reason.STAGE_MISSING, what, "name the align that this run went through")
    gave = read_record(align).metrics["encoders_gave"]
    found = {}
    for scale in ("region", "slide"):
        found[scale] = align / "encoders" / f"{scale}.safetensors"
        if not found[scale].is_file() or file_sha256(found[scale]) != gave[scale]:
            what = f"{found[scale]} is not the encoder that its stage.json names"
            raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "restore the folder, or run align again")
    return found


def run(
    config: InstructConfig, out: Path, *, cohorts: Sequence[Path], align: Path, rows: int = 2,
    progress: Progress = silent,
) -> StageRecord:  # fmt: skip
    """Train stage 3 of nano into ``out``.

    Args:
        config: see :func:`config_of`. cohorts: phantom slides with their truth; features by ``config.data``.
        align: output of stage 1. rows: whole slides of a step.

    Raises:
        HwsiError: as :func:`encoders_of`, :func:`hwsi.training.stages.run.run_stage`; FEATURES_MISSING.
    """

    def gather(config: Any, processor: Any, given: Given, listing: Path | None) -> Material:
        (job,) = config.data.features
        encoders = encoders_of(align, given)
        of = Slides(slides_of(cohorts, job), job, **encoders, processor=processor)
        apart = held_out(s.patient for s in of.slides)
        learn, test = np.flatnonzero(~apart).tolist(), np.flatnonzero(apart).tolist()
        questions = config.batch.questions
        lessons = Lessons(of, learn, rows=rows, questions=questions, seed=config.seed)
        files = [*encoders.values(), *(cohort / "manifest.csv" for cohort in cohorts)]
        told = (f"{len(learn)} slides to learn from, {len(test)} held out",)
        return Material(
            lessons, {"phantom": HeldOut(of, test, questions=questions)}, told, {str(f): file_sha256(f) for f in files}
        )

    return run_stage(config, out, gather, LessonTrainer, progress=progress, extra={"seed": config.seed})


def config_of(start: Path, features: Path, *, steps: int, bf16: bool = False, questions: int = 12) -> InstructConfig:
    """Stage 3 as nano runs it: all of the visual part and of the language model learns."""
    return InstructConfig(
        stage="instruct",
        start=start,
        task="phantom",
        steps=steps,
        data=Data(features=(features,)),
        learn=Learn(visual="all", language="full"),
        optimiser=Optimiser(lr=1.5e-3, warmup=0.05, weight_decay=0.05),
        batch=Batch(rows=1, questions=questions, workers=1),
        placement=Placement(precision="bf16" if bf16 else "fp32"),
        watch=Watch(log_every=20, eval_every=max(1, steps // 3), save_every=200),
    )


def _say(stage: str, done: int, total: int | None) -> None:
    if done % 50 == 0 or done == total:
        print(f"{stage} {done}/{total}", flush=True)


def _figures(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, float))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("start", "align", "features", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--bf16", action="store_true", help="mixed precision: faster where the CPU has bf16")
    args = parser.parse_args()
    config = config_of(args.start, args.features, steps=args.steps, bf16=args.bf16, questions=args.questions)
    record = run(config, args.out, cohorts=args.cohort, align=args.align, rows=args.rows, progress=_say)
    print(f"{args.out} is trained: {_figures(record.metrics)}", flush=True)


if __name__ == "__main__":
    main()
