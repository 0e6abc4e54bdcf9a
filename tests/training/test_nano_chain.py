"""The steps of nano's recipe below its stages, on a handful of tiny slides; ``nano/test_nano_stages.py`` goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
def test_the_recipe_runs_from_slides_to_features(tmp_path: Path) -> None:
    cohort, run = tmp_path / "cohort", tmp_path
    write_cohort(cohort, 3, 9, split="train", sides_um=(768, 1024))
    step("pixels", cohort, run / "pixels", "--per-slide", 8, "--workers", 1)
    step("patch", run / "pixels", run / "patch", "--steps", 2, "--batch", 4)
    step("cell", cohort, run / "cell", "--steps", 2, "--windows", 1, "--batch", 16, "--workers", 1)
    step("features", cohort, run / "patch", run / "cell", run / "features", "--workers", 1)
    for file in ("patch/patch", "patch/text", "cell/cell"):
        assert (run / f"{file}.safetensors").stat().st_size > 1000

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
