"""Whether the cells that are cited for a question about cells are the true ones.

- Of answers that are right: the outlines of the evidence's cells, against the true cells of the patches that it cites.
  A cited cell is a true one if its centre lies within 4 um of one; each true cell counts once.
- What all cells of these patches would score stands beside it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, Material
from hwsi.inference.evidence.attribution import Mode
from hwsi.phantom.drawing import CellKind

_REACH_UM = 4.0
_INFLAMMATORY = {"lymphocytes": (CellKind.LYMPHOCYTE,), "plasma cells": (CellKind.PLASMA,)}


def measure(material: Material, seed: int) -> list[Line]:
    """F1 of cited cells, the mean over questions."""
    scores, everything, patients = [], [], []
    for case in material.some(12, seed):
        if case.question["scale"] != "cell" or not case.question["patches"]:
            continue
        answer = case.slide.session.ask(case.words, case.choices, evidence=Mode.VERIFY)
        pieces = [e for e in answer.evidence if e.scale == "cell"]
        if answer.text != case.answer or not pieces:
            continue
        truth, reach = case.slide.cells, _REACH_UM / case.slide.features.hierarchy.mpp
        inside = np.zeros(len(truth["xy"]), bool)
        for e in pieces:
            low, high = np.array(e.box[:2]), np.array(e.box[2:])
            inside |= ((truth["xy"] >= low) & (truth["xy"] < high)).all(1)
        meant = truth["xy"][inside & ~truth["ignored"] & _meant(case, truth)]
        if not len(meant):
            continue
        cited = np.array([np.mean(c, 0) for e in pieces for c in e.contours]).reshape(-1, 2)
        scores.append(_f1(cited, meant, reach))
        everything.append(_f1(truth["xy"][inside], meant, reach))
        patients.append(case.patient)
    beside = {"all cells of the patches": float(np.mean(everything)) if everything else float("nan")}
    return [line("cells", "cells cited, F1", scores, patients, floor=0.7, aim=0.85, beside=beside)]


def _meant(case: Case, truth: dict[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Which cells (m,) of the truth the question is about."""
    kind = case.question["kind"]
    if kind == "mitosis":
        return np.asarray(truth["kind"] == CellKind.MITOSIS)
    if kind == "inflammatory_cell":
        kinds = _INFLAMMATORY.get(case.answer, (CellKind.LYMPHOCYTE, CellKind.PLASMA))
        return np.isin(truth["kind"], [int(k) for k in kinds])
    return np.asarray(truth["neoplastic"], bool)


def _f1(cited: NDArray[np.floating], true: NDArray[np.floating], reach: float) -> float:
    """F1 of points against points; each true one is found at most once."""
    if not len(cited):
        return 0.0
    distance, at = cKDTree(true).query(cited, distance_upper_bound=reach)
    found = len(np.unique(np.asarray(at)[np.isfinite(distance)]))
    return 2 * found / (len(cited) + len(true))
