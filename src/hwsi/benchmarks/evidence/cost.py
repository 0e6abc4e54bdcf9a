"""Passes and seconds of an answer and of what it rests on, in each of the three modes."""

import time

import numpy as np

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Material
from hwsi.inference.evidence.attribution import Mode


def measure(material: Material, seed: int) -> list[Line]:
    """Mean passes over the words, with the seconds of the answer alone beside."""
    cases = material.some(1, seed)
    patients = [c.patient for c in cases]
    words = []
    for case in cases:
        # the slide is read without its own token once, by whoever asks first
        case.slide.session.ask(case.words, case.choices, evidence=Mode.VERIFY)
        start = time.perf_counter()
        case.slide.session.ask(case.words, case.choices, evidence=False)
        words.append(time.perf_counter() - start)
    lines = []
    for mode in Mode:
        passes, seconds = [], []
        for case in cases:
            start = time.perf_counter()
            passes.append(float(case.slide.session.ask(case.words, case.choices, evidence=mode).passes))
            seconds.append(time.perf_counter() - start)
        beside = {"seconds": float(np.mean(seconds)), "seconds of the answer alone": float(np.mean(words))}
        lines.append(line("cost", f"passes per answer, {mode.value}", passes, patients, beside=beside))
    return lines
