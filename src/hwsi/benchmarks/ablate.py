"""``hwsi bench ablate phantom``: the same small budget for every variant, and what each scale and loss was worth.

- The cohort is drawn and encoded once by the packaged patch and cell encoders; every variant reads the same features.
- All runs begin with one language model that can read (``ablate_words.py``); all else begins anew.
- A run is one variant and one seed; its result is a file, and what is there is not run again. A run that was killed
  goes on from its checkpoint.
- Closed questions of slides of another split: the option with the largest log-probability of its words and their end.
- The table has mean and standard deviation over seeds. With small budgets differences below the spread say nothing.
"""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hwsi.benchmarks.ablate_data import SEVERAL, Course, Studied, deciding, read_course
from hwsi.benchmarks.ablate_model import AblationModel, ScaledProcessor, build_processor
from hwsi.benchmarks.ablate_variants import VARIANTS, Variant
from hwsi.benchmarks.ablate_words import reading_weights, take
from hwsi.features.atomic import write_atomic
from hwsi.model.prompt import question_text
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.phantom.questions import majority_accuracy
from hwsi.phantom.truth import fill_labels
from hwsi.training.nano.dialogues import labels_of
from hwsi.training.nano.loop import Plan, fit

COLUMNS = ("cell", "patch", "region", "slide", SEVERAL)
Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Budget:
    """What every run may spend.

    Attributes:
        steps: of the optimizer. slides: of a batch; questions: to each. lr: peak. align: weight of L_HCA.
        words: steps of reading, once, before all runs.
    """

    steps: int = 400
    slides: int = 6
    questions: int = 10
    lr: float = 1.5e-3
    align: float = 0.3
    words: int = 400


def run(
    out: Path, *, cohort: Path, test: Path, features: Path, budget: Budget, seeds: int = 3, device: str = "cpu",
    variants: Sequence[Variant] = tuple(VARIANTS.values()), say: Say | None = None,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Train and ask every variant with every seed, write ``ablation.md``; what is done already is read.

    Args:
        out: ``runs/VARIANT-SEED.json``, one for each run. cohort, test, features: see ``read_course``.
        device: torch's name of it. say: called with (what, done, total).

    Returns:
        variant -> results, one for each seed.
    """
    course = read_course(cohort, test, features)
    tell = say or (lambda what, done, total: None)
    names = {"slides": [len(course.train), len(course.test)]}
    tell("words", 0, 1)
    words = reading_weights(
        course, out, steps=budget.words, notes=budget.slides, questions=budget.questions, lr=budget.lr
    )
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    todo = [(v, seed) for seed in range(seeds) for v in variants]
    for done, (variant, seed) in enumerate(todo):
        tell("runs", done, len(todo))
        path = out / "runs" / f"{variant.name}-{seed}.json"
        of = {"variant": asdict(variant), "seed": seed, "budget": asdict(budget), **names}
        result = _stored(path, of)
        if result is None:
            # a checkpoint of another budget is another run's
            work = out / "work" / f"{variant.name}-{seed}-{sha256(json.dumps(of).encode()).hexdigest()[:8]}"
            result = of | _one(course, variant, seed, budget, words, work, device)
            write_atomic(path, json.dumps(result, indent=1).encode())
            shutil.rmtree(work, ignore_errors=True)
        found[variant.name].append(result)
    tell("runs", len(todo), len(todo))
    write_atomic(out / "ablation.md", table(course, found, budget).encode())
    return dict(found)


def _stored(path: Path, of: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a run, if it was of the same variant, seed, budget and cohort."""
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    same = json.loads(json.dumps(of))
    return result if {name: result.get(name) for name in same} == same else None


def _one(
    course: Course, variant: Variant, seed: int, budget: Budget, words: dict[str, Tensor], work: Path, device: str
) -> dict[str, Any]:
    """Train one variant, and ask."""
    started = time.monotonic()
    config, processor = build_processor(train_nano_tokenizer(course.texts), variant.mixing)
    model = AblationModel(variant, config, course.texts, seed).to(device)
    take(model.language, words)
    model.region.fit(torch.zeros(2, model.region.mean.shape[0]))  # regions read no cells here

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([seed, step])
        picked = rng.choice(len(course.train), min(budget.slides, len(course.train)), replace=False)
        slides = [course.train[int(i)] for i in picked]
        seen = [
            s.visit(processor, variant.scales, lambda tree, code, s=s: course.teacher(s, tree, code).draw(
                rng, budget.questions, reported=0), rng)
            for s in slides
        ]  # fmt: skip
        batch = {k: v.to(device) for k, v in processor.pad([s.row for s in seen]).items()}
        states, vectors, visual = model.read(batch, seen)
        answers = answer_loss(model, states, batch)
        aligned, parts = model.hca(vectors, visual, seen, [s.units for s in slides])
        return answers + budget.align * aligned, {"answers": float(answers.detach()), **parts}

    plan = Plan(budget.steps, budget.lr, seed=seed, checkpoint_s=60)
    fit(model, loss_of, plan, work)
    right = ask(model, processor, course)
    of_scale: dict[str, list[bool]] = defaultdict(list)
    kinds: dict[str, list[bool]] = defaultdict(list)
    for slide, questions in course.questions.items():
        for q, ok in zip(questions, right[slide], strict=True):
            of_scale[deciding(q)].append(ok)
            kinds[q["kind"]].append(ok)
    every = [ok for oks in of_scale.values() for ok in oks]
    return {
        "accuracy": {s: float(np.mean(v)) for s, v in of_scale.items()} | {"all": float(np.mean(every))},
        "kinds": {k: float(np.mean(v)) for k, v in sorted(kinds.items())},
        "questions": len(every),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
    }


def answer_loss(model: AblationModel, states: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Cross entropy of the answers, each weighed by the fourth root of its length; states (B, T, D)."""
    target, segment = batch["labels"][:, 1:], batch["segment_ids"][:, 1:]
    known = target >= 0
    each = F.cross_entropy(model.language.lm_head(states[:, :-1][known]), target[known], reduction="none")
    row = torch.arange(len(target), device=target.device)[:, None] * int(segment.max() + 1)
    _, of, length = torch.unique((row + segment)[known], return_inverse=True, return_counts=True)
    weight = length[of].float() ** -0.75
    loss: Tensor = (each * weight).sum() / weight.sum()
    return loss


@torch.no_grad()
def ask(model: AblationModel, processor: ScaledProcessor, course: Course) -> dict[str, list[bool]]:
    """Slide id -> which of its questions are answered rightly."""
    model.eval()
    return {s.record["slide_id"]: _ask(model, processor, s, course.questions[s.record["slide_id"]])
            for s in course.test if s.record["slide_id"] in course.questions}  # fmt: skip


def _ask(model: AblationModel, processor: ScaledProcessor, slide: Studied, questions: list[Any]) -> list[bool]:
    """All options of all questions about a slide behind one reading of it, each a segment of its own."""
    labels = labels_of(slide.features.hierarchy)
    dialogues, owner = [], []
    for n, q in enumerate(questions):
        words = question_text(fill_labels(q["question"], lambda row, col: labels.get((row, col))), q["choices"])
        for choice in q["choices"]:
            dialogues.append([{"role": "user", "content": words}, {"role": "assistant", "content": choice}])
            owner.append(n)
    seen = slide.visit(processor, model.variant.scales, lambda tree, code: dialogues, None)
    device = model.region.cls.device
    batch = {k: v.to(device) for k, v in processor.pad([seen.row]).items()}
    states, _, _ = model.read(batch, [seen])
    target, segment = batch["labels"][0, 1:], batch["segment_ids"][0, 1:]
    known = target >= 0
    log_p = model.language.lm_head(states[0, :-1][known]).float().log_softmax(-1)
    each = log_p.gather(1, target[known][:, None])[:, 0]
    score = torch.zeros(len(dialogues) + 1, device=device).index_add(0, segment[known], each)[1:].cpu().numpy()
    right = []
    for n, q in enumerate(questions):
        ours = [i for i, o in enumerate(owner) if o == n]
        right.append(q["choices"][int(np.argmax(score[ours]))] == q["answer"])
    return right


def table(course: Course, found: dict[str, list[dict[str, Any]]], budget: Budget) -> str:
    """The Markdown table: accuracy per deciding scale, mean and standard deviation over seeds."""
    organ_of = {s.record["slide_id"]: s.record["organ"] for s in course.test}
    questions = [q for qs in course.questions.values() for q in qs]
    groups = {c: [q for q in questions if deciding(q) == c] for c in COLUMNS} | {"all": questions}
    seeds = max(len(results) for results in found.values())
    lines = [
        f"Accuracy on closed questions of {len(course.test)} held-out phantom slides after {budget.steps} steps on "
        f"{len(course.train)} slides; mean and standard deviation over {seeds} seeds. Synthetic tissue only.",
        "",
        "| what the model reads and learns | " + " | ".join(f"decided by {c}" for c in COLUMNS) + " | all |",
        "|---" * (len(COLUMNS) + 2) + "|",
        "| *questions* | " + " | ".join(str(len(g)) for g in groups.values()) + " |",
        "| *majority answer* | "
        + " | ".join(f"{majority_accuracy(g, organ_of):.3f}" if g else "-" for g in groups.values())
        + " |",
    ]
    for name, results in found.items():
        cells = []
        for column in (*COLUMNS, "all"):
            values = [r["accuracy"][column] for r in results if column in r["accuracy"]]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "-")
        lines.append(f"| {VARIANTS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
