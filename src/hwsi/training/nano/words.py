"""Before stage 1 (``words``): the language model learns to read, from words alone.

- A language model that begins with random weights has nothing that a projector could speak to. Here it answers the
  questions about a slide from a note that stands where the slide will stand: what the report, the caption and its
  regions' sentences say, shuffled, some left out. Later the projectors have only to write such notes.
- Now and then there is no note: then the honest prior is asked for.
- No pixel and no feature is read but the place of the regions, from which labels (``R3``) are made.
- It gives ``OUT/model/`` and ``OUT/stage.json``, so that ``align`` can prove what it starts from.

Run: ``python -m hwsi.training.nano.words --cohort COHORT --features JOB --out OUT``
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwsi.features import read_features
from hwsi.model.nano import build_nano
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.training.nano.cohort import features_file, held_out, slides_of
from hwsi.training.nano.dialogues import Teacher, answer_counts
from hwsi.training.nano.language import answer_loss, texts_of
from hwsi.training.nano.loop import Plan, fit
from hwsi.training.stages.checkpoint import (
    STAGE_FILE,
    Ancestor,
    StageRecord,
    file_sha256,
    versions,
    write_model,
    write_record,
)

STAGE = "words"
_NOTED = 0.8  # of the visits have a note
_LEFT_OUT = 0.3  # up to this share of a note's sentences


def note_of(teacher: Teacher, rng: np.random.Generator) -> str:
    """What a note says of a slide: some of the sentences about it and its regions, in any order; empty for no note."""
    if rng.random() >= _NOTED:
        return ""
    sentences = teacher.sentences(rng)
    stay = rng.random(len(sentences)) >= rng.uniform(0, _LEFT_OUT)
    return " ".join(sentences[int(i)] for i in rng.permutation(len(sentences)) if stay[int(i)])


def train(
    cohorts: list[Path], job: Path, out: Path, *, steps: int, rows: int = 8, questions: int = 10, lr: float = 2e-3,
    mixing: str = "hier", seed: int = 0, bf16: bool = False,
) -> StageRecord | None:  # fmt: skip
    """Train the language model on notes and questions; None if ``out`` is finished.

    Args:
        cohorts: folders of phantom slides. job: with their features. out: of this stage.
        rows: notes of a step, each with so many ``questions``.
    """
    if (out / STAGE_FILE).is_file():
        return None
    slides = slides_of(cohorts, job)
    truths = [s.truth() for s in slides]
    counts = answer_counts(truths)
    teachers = [
        Teacher(truth, read_features(features_file(job, s)).hierarchy, counts)
        for s, truth in zip(slides, truths, strict=True)
    ]
    apart = held_out(s.patient for s in slides)
    learn, test = np.flatnonzero(~apart), np.flatnonzero(apart)
    model, processor = build_nano(train_nano_tokenizer(texts_of(slides)), visual_mixing=mixing, seed=seed)
    model.model.visual.requires_grad_(False)
    print(f"{len(learn)} slides to read about, {len(test)} held out; {len(processor.tokenizer)} words", flush=True)

    def batch_of(of: Any, rng: np.random.Generator) -> dict[str, Tensor]:
        made = []
        for i in of:
            prefix = processor.prefix(None, system=note_of(teachers[int(i)], rng))
            made.append(processor.encode(prefix, teachers[int(i)].draw(rng, questions)))
        return dict(processor.pad(made))

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([seed, step])
        batch = batch_of(rng.choice(learn, min(rows, len(learn)), replace=False), rng)
        loss, right = answer_loss(model, batch, bf16=bf16)
        return loss, {"right": right}

    def evaluate() -> dict[str, float]:
        if not len(test):
            return {}
        with torch.no_grad():
            found = [answer_loss(model, batch_of([i], np.random.default_rng([7, int(i)]))) for i in test]
        loss, right = (float(np.mean([float(f[k]) for f in found])) for k in (0, 1))
        return {"loss": round(loss, 4), "right": round(right, 4)}

    fit(model, loss_of, Plan(steps, lr, seed=seed), out, evaluate=evaluate, evaluate_every=max(1, steps // 4))
    record = StageRecord(
        stage=STAGE,
        config={"steps": steps, "rows": rows, "questions": questions, "lr": lr, "mixing": mixing, "bf16": bf16},
        started_from="random weights",
        given=Ancestor(stage="none", sha256="0" * 64),
        gave=write_model(model, processor, out),
        parents=(),
        seed=seed,
        steps=steps,
        data={str(c / "manifest.csv"): file_sha256(c / "manifest.csv") for c in cohorts},
        metrics=evaluate(),
        versions=versions(),
    )
    write_record(record, out)
    return record


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cohort", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--bf16", action="store_true", help="mixed precision: faster where the CPU has bf16")
    args = parser.parse_args()
    torch.manual_seed(0)
    record = train(args.cohort, args.features, args.out, steps=args.steps, rows=args.rows, bf16=args.bf16)
    print("nothing to do" if record is None else f"{args.out} is trained: {record.metrics}", flush=True)


if __name__ == "__main__":
    main()
