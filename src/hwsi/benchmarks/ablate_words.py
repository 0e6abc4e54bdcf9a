"""What every run of the ablation begins with: a language model that has learned to read.

- From random weights a small budget goes into what words are, whatever stands in the prompt, and the variants look
  alike. So questions are first answered from notes in words, as in nano's recipe (``training/nano/words.py``).
- It is done once and shared by all variants and seeds: no pixel and no feature is read, no variant gains by it.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from hwsi.benchmarks.ablate_data import Course
from hwsi.benchmarks.ablate_model import build_processor
from hwsi.features.atomic import write_atomic
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.training.nano.language import answer_loss
from hwsi.training.nano.loop import Plan, fit
from hwsi.training.nano.words import note_of

_VISUAL = "model.visual."


def reading_weights(
    course: Course, out: Path, *, steps: int, notes: int, questions: int, lr: float
) -> dict[str, Tensor]:
    """The language model's weights after so many steps of reading; read from ``out`` if they are there.

    Args:
        course: its slides to train on. out: ``words-KEY.safetensors``, and a checkpoint while it runs.
        steps: 0 for none: then there are no weights. notes: of a step, each with so many ``questions``.
    """
    if not steps:
        return {}
    of = json.dumps([steps, notes, questions, lr, [s.slide.name for s in course.train], len(course.texts)])
    key = sha256(of.encode()).hexdigest()[:8]
    path = out / f"words-{key}.safetensors"
    if path.is_file():
        return load_file(path)
    config, processor = build_processor(train_nano_tokenizer(course.texts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = HwsiForConditionalGeneration(config)
    model.model.visual.requires_grad_(False)
    teachers = [course.teacher(s, s.features.hierarchy, 0) for s in course.train]

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([0, step])
        made = []
        for i in rng.choice(len(teachers), min(notes, len(teachers)), replace=False):
            prefix = processor.prefix(None, system=note_of(teachers[int(i)], rng))
            made.append(processor.encode(prefix, teachers[int(i)].draw(rng, questions, reported=0)))
        loss, right = answer_loss(model, dict(processor.pad(made)))
        return loss, {"right": right}

    work = out / "work" / path.stem
    fit(model, loss_of, Plan(steps, lr, checkpoint_s=60), work)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith(_VISUAL)}
    weights.pop("lm_head.weight", None)  # tied to the embedding
    write_atomic(path, save(weights))
    shutil.rmtree(work, ignore_errors=True)
    return weights


def take(model: HwsiForConditionalGeneration, weights: dict[str, Tensor]) -> None:
    """Put them into a model; its visual part stays as it is.

    Raises:
        RuntimeError: weights of another model.
    """
    missing, unexpected = model.load_state_dict(weights, strict=False)
    wrong = [k for k in missing if not k.startswith(_VISUAL) and k != "lm_head.weight"]
    if weights and (wrong or unexpected):
        raise RuntimeError(f"weights of another language model: {[*wrong, *unexpected]}")
