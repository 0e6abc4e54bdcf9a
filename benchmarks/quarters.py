"""In which quarter of a slide something lies: how often its exact amounts name the right one, around three middles.

No model is asked: amounts are those of the truth of every patch. What this gives is what an encoder could reach that
adds up amounts with their places around the middle of the tissue's box, of its mass, or of its regions. The embedded
slide encoder adds up around the first (``hwsi/encoders/sides.py``).

Run: ``python benchmarks/quarters.py COHORT JOB``, behind
``python -m hwsi.training.nano.regenerate COHORT JOB --slides 800 --seed 1`` (slides whose features are there count)
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsi.features import SlideFeatures, read_features
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.truth import QUADRANTS
from hwsi.training.nano.attributes import PLACED
from hwsi.training.nano.cohort import CohortSlide, features_file, slides_of

_SIGNS = np.array([(1, -1, -1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, 1, 1, 1)])
"""Of 1, x, y, xy in each quarter: what lies there has these signs."""


def right(slide: CohortSlide, features: SlideFeatures) -> dict[str, list[bool]]:
    """Middle -> whether the quarter with most is the true one, for each thing whose place the truth tells."""
    truth, table, tree = slide.truth()["slide"], slide.patches(), features.hierarchy
    side = tree.region_px // tree.patch_px
    grid = (tree.regions.grid[tree.patches.region] * side + tree.patches.row_col)[~tree.patches.background]
    row_of = {tuple(g): i for i, g in enumerate(table["grid"].tolist())}
    known = np.array([tuple(g) in row_of for g in grid.tolist()])
    rows = np.array([row_of[tuple(g)] for g in grid[known].tolist()])
    at = grid + 0.5
    middles = {
        "box": (at.min(0) + at.max(0)) / 2,
        "mass": at.mean(0),
        "regions": (tree.regions.grid.mean(0) + 0.5) * side,
    }
    areas = table["compartments"]
    stroma = areas[:, Compartment.STROMA] + areas[:, Compartment.DESMOPLASIA]
    amounts = (areas[:, Compartment.NECROSIS], np.nan_to_num(table["til_per_mm2"]) * stroma,
               table["contents"][:, CONTENTS.index("tumour")])  # fmt: skip
    found: dict[str, list[bool]] = {name: [] for name in middles}
    for what, amount in zip(PLACED, amounts, strict=True):
        place = truth[f"where_{what}"]
        if place is None or not amount[rows].any():
            continue
        for name, middle in middles.items():
            found[name].append(_quarter(at[known] - middle, amount[rows]) == place)
    return found


def _quarter(away: NDArray[np.float64], amount: NDArray[np.float64]) -> str:
    y, x = (away / np.abs(away).max()).T
    means = np.stack([np.ones_like(x), x, y, x * y]) @ amount / amount.sum()
    return QUADRANTS[int((_SIGNS @ means).argmax())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("job", type=Path)
    args = parser.parse_args()
    every = [right(s, read_features(features_file(args.job, s))) for s in slides_of([args.cohort], args.job)]
    for name in ("box", "mass", "regions"):
        answers = [ok for one in every for ok in one[name]]
        print(f"middle of the {name}: {np.mean(answers):.3f} of {len(answers)} quarters named rightly")


if __name__ == "__main__":
    main()
