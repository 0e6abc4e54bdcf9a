"""Breast: lobules in loose stroma, ducts, collagen and fat; in-situ and invasive carcinoma.

- A lobule's acini lie in pale intralobular stroma; ducts and acini keep their myoepithelium.
- The benign slide has adenosis and hyperplasia in its lesion field, so that many cells do not mean cancer.
"""

import numpy as np

from hwsi.phantom.canvas import FIELD_UM, Canvas, Stage
from hwsi.phantom.cells import tumour
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.fat import lay_fat
from hwsi.phantom.geometry import Blob, Points, sample
from hwsi.phantom.glands import Lining, gland, nest, punch, ring_of_myoepithelium
from hwsi.phantom.growth import Habit, invade, single_files
from hwsi.phantom.noise import hex_grid, smooth

_ACINUS = Lining("benign", 6.4, 6.0, depth=0.45, myoepithelium=True)
_DUCT = Lining("benign", 9.0, 5.4, depth=0.4, myoepithelium=True)
_CARCINOMA = Habit(60, (20, 33), 10.5, irregularity=0.20, stretch=2.2, cribriform=0.15, clear_um=3.0)


def lay_out(canvas: Canvas) -> None:
    """Lay out a breast of the asked diagnosis."""
    rng = canvas.rng(Stage.ORGAN)
    spec = canvas.spec
    outside = canvas.tissue & ~canvas.lesion
    field = smooth(rng, canvas.coarse_shape, 700 / FIELD_UM, 2)
    fat = np.zeros_like(outside)
    if spec.fat > 0.02 and outside.any():
        fat = outside & (field > np.quantile(field[outside], 1 - min(spec.fat, 0.6)))
        lay_fat(canvas, rng, fat)
    benign = spec.diagnosis == "benign breast tissue"
    for centre in canvas.sites(rng, outside, 290, 0.2, 30):
        if not sample(fat, centre[None], FIELD_UM)[0]:
            lobule(canvas, rng, centre)
    if benign:
        _reactive(canvas, rng)
    elif spec.diagnosis == "ductal carcinoma in situ":
        _in_situ(canvas)
    elif spec.diagnosis == "invasive ductal carcinoma":
        invade(canvas, _CARCINOMA)
    else:
        single_files(canvas)


def lobule(canvas: Canvas, rng: np.random.Generator, centre: Points) -> None:
    """A terminal duct lobular unit: acini in loose stroma, one small duct."""
    radius = rng.uniform(60, 105)
    loose = Blob(rng, centre, radius * rng.uniform(1, 1.3), radius, rng.uniform(0, np.pi), 0.12)
    index = canvas.begin("lobule", loose.at(0))
    canvas.fill(loose.at(0), Compartment.STROMA, index)
    canvas.loosen(loose.at(0), 0.9)
    reach = radius * 1.3
    box = (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
    for point in hex_grid(rng, box, 30, 0.16):
        offset = point - centre
        cos, sin = np.cos(loose.angle), np.sin(loose.angle)
        a, b = offset @ [cos, sin], offset @ [-sin, cos]
        if (a / (loose.long_um - 8)) ** 2 + (b / (loose.short_um - 8)) ** 2 < 1:
            q = rng.uniform(10, 12.5)
            outline = Blob(rng, point, q * rng.uniform(1, 1.3), q * 0.95, rng.uniform(0, np.pi), 0.10)
            gland(canvas, rng, outline, _ACINUS, "benign_gland", clear_um=0, secretion=0.2)
    q = rng.uniform(18, 30)
    away = rng.normal(0, 1, 2)
    place = centre + away / np.hypot(*away) * radius * 0.8
    duct = Blob(rng, place, q * rng.uniform(1, 1.9), q, rng.uniform(0, np.pi), 0.14)
    gland(canvas, rng, duct, _DUCT, "benign_gland", secretion=0.4)


def _reactive(canvas: Canvas, rng: np.random.Generator) -> None:
    """Adenosis, ectasia and usual hyperplasia: crowded, two-layered, benign."""
    for centre in canvas.sites(rng, canvas.lesion, rng.uniform(112, 165), 0.25, 8):
        draw = rng.random()
        q = rng.uniform(19, 36)
        angle = rng.uniform(0, np.pi)
        if draw < 0.45:
            outline = Blob(rng, centre, q * rng.uniform(1, 1.7), q, angle, 0.2)
            gland(canvas, rng, outline, _DUCT, "benign_gland", secretion=0.5)
        elif draw < 0.62:
            outline = Blob(rng, centre, q * 1.5, q * 1.2, angle, 0.14)
            index = nest(canvas, outline, "hyperplasia", "benign", neoplastic=False, myoepithelium=True, clear_um=2)
            ring_of_myoepithelium(canvas, rng, outline, index)
            canvas.structures[index].attrs["lumen"] = punch(canvas, rng, outline, int(rng.integers(1, 4))) > 0
        else:
            box = (centre[0] - 45, centre[1] - 45, centre[0] + 45, centre[1] + 45)
            for point in hex_grid(rng, box, 25, 0.2):
                if rng.random() < 0.8:
                    outline = Blob(rng, point, rng.uniform(11, 19), rng.uniform(9.5, 11), angle, 0.14)
                    gland(canvas, rng, outline, _ACINUS, "benign_gland", clear_um=1, secretion=0.15)


def _in_situ(canvas: Canvas) -> None:
    """Distended ducts with a myoepithelial ring; solid, cribriform or comedo."""
    rng = canvas.rng(Stage.GROWTH)
    spec = canvas.spec
    mixed = ("solid", "cribriform", "comedo") if spec.necrosis else ("solid", "cribriform")
    for centre in canvas.sites(rng, canvas.lesion, rng.uniform(165, 195), 0.14, 40):
        q = rng.uniform(52, 82)
        outline = Blob(rng, centre, q * rng.uniform(1, 1.5), q, rng.uniform(0, np.pi), 0.15)
        pattern = spec.pattern or str(rng.choice(mixed))
        index = nest(canvas, outline, "dcis_duct", tumour(spec.pleomorphism), clear_um=3,
                     myoepithelium=True, pattern=pattern)  # fmt: skip
        ring_of_myoepithelium(canvas, rng, outline, index)
        if pattern == "cribriform":
            holes = punch(canvas, rng, outline, max(4, int(outline.area_um2 / 1100)))
            canvas.structures[index].attrs["lumen"] = holes > 0
        if pattern == "comedo" or (spec.necrosis and rng.random() < 0.25):
            part = rng.uniform(0.35, 0.6)
            core = Blob(rng, centre, outline.long_um * part, q * part, outline.angle, 0.12)
            canvas.fill(core.at(0), Compartment.NECROSIS)
