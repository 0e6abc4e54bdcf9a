"""The whole recipe of nano on a handful of tiny slides: every step reads what the former wrote."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwsi.model import load
from hwsi.phantom.cohort import write_cohort
from hwsi.phantom.wordings import KINDS
from hwsi.training.nano.cohort import read_cohort
from hwsi.training.nano.dialogues import Teacher, answer_counts


def step(name: str, *args: object) -> str:
    call = [sys.executable, "-m", f"hwsi.training.nano.{name}", *map(str, args)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_recipe_runs_from_slides_to_a_model_that_loads(tmp_path: Path) -> None:
    cohort, run = tmp_path / "cohort", tmp_path
    write_cohort(cohort, 3, 9, split="train", sides_um=(768, 1024))
    step("pixels", cohort, run / "pixels", "--per-slide", 8, "--workers", 1)
    step("patch", run / "pixels", run / "patch", "--steps", 2, "--batch", 4)
    step("cell", cohort, run / "cell", "--steps", 2, "--windows", 1, "--batch", 16, "--workers", 1)
    step("features", cohort, run / "patch", run / "cell", run / "features", "--workers", 1)
    step("context", cohort, run / "features", run / "patch", run / "context", "--steps", 2, "--batch", 2)
    step("language", cohort, run / "features", run / "context", run / "language", "--steps", 2, "--questions", 3)
    for file in ("patch/patch", "cell/cell", "context/region", "context/slide", "context/text"):
        assert (run / f"{file}.safetensors").stat().st_size > 1000
    model, _ = load(run / "language" / "model")
    assert model.config.visual_mixing == "hier"

    slides = read_cohort(cohort)
    counts = answer_counts(s.truth() for s in slides)
    from hwsi.features import read_features

    tree = read_features(run / "features" / "features" / f"{slides[0].name}.h5").hierarchy
    teacher = Teacher(slides[0].truth(), tree, counts)
    import numpy as np

    kept = {k.templates[-1].split("{")[0] for k in KINDS.values()}
    said = [d for seed in range(30) for d in teacher.draw(np.random.default_rng(seed), 20)]
    asked = {d[0]["content"].split("\n")[0] for d in said}
    assert not any(q == k for q in asked for k in kept)
    assert not any("{R:" in turn["content"] for d in said for turn in d), "places are written as labels"
    assert json.dumps(said)
