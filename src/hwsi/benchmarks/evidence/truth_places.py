"""Where on a phantom slide the thing lies that a question is about, in the nodes of the model's prompt.

- The truth lists up to six patches where the thing is most; a patch with a little of it holds it too. So each kind of
  question has the quantity that tells, and a patch *holds* the thing where there is at least a tenth of the most.
- A region holds what one of its patches holds; a question that names a region is about that region.
- Chance is the share of the slide's tissue that holds it: what a random box of that scale would hit.
"""

import numpy as np
from numpy.typing import NDArray

from hwsi.benchmarks.evidence.material import Case, HeldOut
from hwsi.phantom.truth import cited

Bool = NDArray[np.bool_]

_SHARE = 0.1
_QUANTITY = {
    "necrosis": "necrosis", "where_necrosis": "necrosis", "mitosis": "mitoses", "infiltrate": "til_per_mm2",
    "where_infiltrate": "til_per_mm2", "inflammatory_cell": "til_per_mm2", "mucin": "mucin",
    "where_tumour": "lesion", "pleomorphism": "lesion", "nucleoli": "lesion", "tubules": "lesion", "pattern": "lesion",
    "in_situ": "lesion",
}  # fmt: skip


def holding(case: Case) -> Bool | None:
    """Which nodes (N,) of the slide's prompt hold what the question is about; None where the whole slide does.

    A patch's cell node holds what the patch does; text and slide hold nothing.
    """
    slide, session = case.slide, case.slide.session
    named = set(cited(case.question["question"]))
    if not named and (case.question["kind"] not in _QUANTITY or not case.question["patches"]):
        return None
    tree = session.features.hierarchy
    cols = tree.region_px // tree.patch_px
    region_of = tree.patches.region
    grid = tree.regions.grid[region_of] * cols + tree.patches.row_col
    if named:
        rows = np.array([tuple(g) in named for g in tree.regions.grid.tolist()])
        patches = rows[region_of]
    else:
        there = {tuple(g) for g in _places(slide, _QUANTITY[case.question["kind"]])}
        patches = np.array([tuple(g) in there for g in grid.tolist()]) & ~tree.patches.background
        rows = np.bincount(region_of[patches], minlength=len(tree.regions)) > 0
    out = np.zeros(len(session.nodes), bool)
    for i, node in enumerate(session.nodes):
        if node.scale == "region":
            out[i] = rows[node.index]
        elif node.scale in ("patch", "cell"):
            out[i] = patches[node.index]
    return out


def _places(slide: HeldOut, quantity: str) -> list[list[int]]:
    """Patches (row, column) with at least a tenth of the most of a quantity, weighed by their tissue."""
    table = slide.patches
    value = np.nan_to_num(np.asarray(table[quantity], np.float64)) * np.asarray(table["tissue"], np.float64)
    top = float(value.max(initial=0.0))
    found: list[list[int]] = table["grid"][(value > 0) & (value >= _SHARE * top)].tolist()
    return found
