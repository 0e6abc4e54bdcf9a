"""Prostate: glands in fibromuscular stroma; benign of every calibre, and adenocarcinoma.

- Benign glands are folded, atrophic, cystic or crowded; malignant ones small or dilated: lumen area does not tell.
- What tells is the second cell layer, the infoldings, and how glands lie to each other.
"""

import numpy as np

from hwsi.phantom.canvas import Canvas, Stage
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.geometry import Blob, Points
from hwsi.phantom.glands import Lining, flattened, gland
from hwsi.phantom.growth import Habit, invade
from hwsi.phantom.noise import hex_grid

_BENIGN = Lining("benign", 12.0, 5.1, depth=0.36, elongation=1.35, myoepithelium=True)


def lay_out(canvas: Canvas) -> None:
    """Lay out a prostate of the asked diagnosis."""
    rng = canvas.rng(Stage.ORGAN)
    cancer = canvas.spec.diagnosis == "prostatic adenocarcinoma"
    canvas.compartments[canvas.compartments == Compartment.STROMA] = Compartment.MUSCLE
    outside = canvas.tissue & ~canvas.lesion
    for centre in canvas.sites(rng, outside, rng.uniform(140, 185), 0.2, 24):
        _benign_gland(canvas, rng, centre, rng.uniform(26, 52))
    if cancer:
        dilated = rng.uniform(24, 46)
        habit = Habit(rng.uniform(51, 68), (15, dilated), 10.0, irregularity=0.13, stretch=1.5, cribriform=0.25,
                      desmoplasia=False, clear_um=1.0, secretion=0.45)  # fmt: skip
        invade(canvas, habit)
    else:
        _crowded(canvas)


def _benign_gland(canvas: Canvas, rng: np.random.Generator, centre: Points, size: float) -> None:
    angle = rng.uniform(0, np.pi)
    draw = rng.random()
    if draw < 0.3:  # atrophic or cystic: a flat lining
        outline = Blob(rng, centre, size * rng.uniform(0.5, 1), size * rng.uniform(0.4, 0.8), angle, 0.16)
        gland(canvas, rng, outline, flattened(_BENIGN, 6.5), "benign_gland", clear_um=1, secretion=0.5)
        return
    outline = Blob(rng, centre, size * rng.uniform(1, 1.5), size, angle, 0.22, folds=rng.uniform(0, 0.34))
    index = gland(canvas, rng, outline, _BENIGN, "benign_gland", clear_um=1, secretion=0.3)
    if rng.random() < 0.25 and outline.room_um > 30:
        stone = Blob(rng, centre + rng.normal(0, 4, 2), rng.uniform(7, 13), rng.uniform(6, 11), angle, 0.05)
        canvas.fill(stone.at(0), Compartment.SECRETION)
        canvas.structures[index].attrs["corpora_amylacea"] = True


def _crowded(canvas: Canvas) -> None:
    """Benign crowding in the lesion field (hyperplasia, adenosis): small glands with both layers."""
    rng = canvas.rng(Stage.GROWTH)
    small = Lining("benign", 10.0, 5.1, depth=0.4, elongation=1.25, myoepithelium=True)
    for centre in canvas.sites(rng, canvas.lesion, rng.uniform(150, 190), 0.2, 10):
        if rng.random() < 0.5:
            _benign_gland(canvas, rng, centre, rng.uniform(34, 58))
            continue
        reach = rng.uniform(55, 80)
        box = (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
        for point in hex_grid(rng, box, rng.uniform(40, 56), 0.2):
            q = rng.uniform(14, 25)
            outline = Blob(rng, point, q * rng.uniform(1, 1.6), q, rng.uniform(0, np.pi), 0.18)
            gland(canvas, rng, outline, small, "benign_gland", clear_um=1, secretion=0.35)
