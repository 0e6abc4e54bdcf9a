"""Lung: alveoli of varied aeration, bronchioles; adenocarcinoma and squamous cell carcinoma.

- Aeration varies from open to nearly collapsed, so that white area does not tell the organ.
- A squamous carcinoma keratinises only if asked; it never forms tubules.
"""

import cv2
import numpy as np

from hwsi.phantom.canvas import FIELD_UM, Canvas, Mask, Stage
from hwsi.phantom.cells import nuclei, tumour
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.geometry import Blob, along
from hwsi.phantom.glands import Lining, gland, nest
from hwsi.phantom.growth import Habit, invade, make_stroma
from hwsi.phantom.noise import hex_grid, smooth

_ADENOCARCINOMA = Habit(74, (21, 38), 12.0, irregularity=0.24, cribriform=0.12, secretion=0.3)
_BRONCHIOLE = Lining("benign", 18.0, 5.2, layers=2)


def lay_out(canvas: Canvas) -> None:
    """Lay out a lung of the asked diagnosis."""
    rng = canvas.rng(Stage.ORGAN)
    outside = canvas.tissue & ~canvas.lesion
    squamous = canvas.spec.diagnosis == "lung squamous cell carcinoma"
    # alveoli trapped between solid nests make up for the lumens of an adenocarcinoma
    trapped = canvas.lesion & (smooth(rng, canvas.coarse_shape, 220 / FIELD_UM, 1) > 0.75) & squamous
    _alveoli(canvas, rng, outside | trapped)
    for centre in canvas.sites(rng, outside, 620, 0.25, 110)[:6]:
        radius = rng.uniform(45, 95)
        outline = Blob(rng, centre, radius * rng.uniform(1, 1.5), radius, rng.uniform(0, np.pi), 0.12)
        canvas.fill(outline.at(-26), Compartment.STROMA, -1)
        canvas.fill(outline.at(-16), Compartment.MUSCLE, -1)
        for depth in (-13.0, -8.0):
            xy, normal = along(rng, outline.at(depth), 22)
            canvas.add(nuclei(rng, "smooth_muscle", xy, normal + np.pi / 2))
        gland(canvas, rng, outline, _BRONCHIOLE, "bronchiole", clear_um=3, secretion=0.4)
    if squamous:
        _squamous(canvas)
    else:
        invade(canvas, _ADENOCARCINOMA)


def _alveoli(canvas: Canvas, rng: np.random.Generator, field: Mask) -> None:
    """Air spaces as Voronoi cells with thin, nucleated walls; some parts collapsed, with macrophages."""
    points = hex_grid(rng, canvas.box, rng.uniform(95, 140), 0.24)
    seeds = np.ones((canvas.height, canvas.width), np.uint8)
    whole = points.astype(np.intp)
    seeds[whole[:, 1], whole[:, 0]] = 0
    label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)[1]
    n = int(label.max()) + 1
    # neighbours that share a number share their air: alveoli open into ducts
    merged = np.arange(n)
    shared = rng.random(n) < 0.3
    merged[shared] = np.maximum(np.flatnonzero(shared) - 1, 0)
    full = (canvas.height, canvas.width)
    bend = [12 * smooth(rng, full, 60, 1) for _ in range(2)]
    rows, columns = np.mgrid[0 : canvas.height, 0 : canvas.width].astype(np.float32)
    bent = cv2.remap(merged[label].astype(np.float32), columns + bend[0], rows + bend[1], cv2.INTER_NEAREST,
                     borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    flat = cv2.morphologyEx(bent, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
    label = bent.astype(np.intp)
    from_wall = cv2.distanceTransform(flat.astype(np.uint8), cv2.DIST_L2, 3)
    half = (canvas.height // 4, canvas.width // 4)
    ragged = cv2.resize(1.4 * smooth(rng, half, 12, 1), (canvas.width, canvas.height))
    aeration = rng.uniform(0.25, 1)
    collapse = cv2.resize(smooth(rng, half, 110, 2), (canvas.width, canvas.height))
    wall_um = 3.2 + 3.0 * (1 - aeration) + np.clip(collapse + 0.9 - 2.2 * aeration, 0, 1.5) * 22
    is_open = rng.random(n) < 0.6 + 0.4 * aeration
    air = canvas.fine(field) & (from_wall + ragged > wall_um) & is_open[label]
    air = np.asarray(cv2.GaussianBlur(air.astype(np.float32), (0, 0), 4.5) > 0.5)
    air &= canvas.compartments == Compartment.STROMA
    canvas.compartments[air] = Compartment.LUMEN
    soft = cv2.GaussianBlur(air.astype(np.float32), (0, 0), 3)
    gy, gx = np.gradient(soft)
    xy = canvas.sites(rng, field, 8.2, 0.3)
    column, row = xy[:, 0].astype(int), xy[:, 1].astype(int)
    lined = (canvas.here(xy) == Compartment.STROMA) & (soft[row, column] > 0.12) & (rng.random(len(xy)) < 0.75)
    xy, turn = xy[lined], np.arctan2(gy[row, column], gx[row, column])[lined] + np.pi / 2
    flat_cell = rng.random(len(xy)) < 0.5
    canvas.add(nuclei(rng, "endothelium", xy[flat_cell], turn[flat_cell], elongation=2.4))
    canvas.add(nuclei(rng, "pneumocyte", xy[~flat_cell], turn[~flat_cell]))
    loose = canvas.sites(rng, field, 60, 0.3)
    loose = loose[(canvas.here(loose) == Compartment.LUMEN) & (rng.random(len(loose)) < 0.4)]
    for point in loose:
        foam = Blob(rng, point, rng.uniform(6, 8.5), rng.uniform(5.5, 7), rng.uniform(0, np.pi), 0.08)
        canvas.fill(foam.at(0), Compartment.SECRETION)
    canvas.add(nuclei(rng, "macrophage", loose + rng.normal(0, 1, loose.shape)))


def _squamous(canvas: Canvas) -> None:
    """Large angular nests; pearls and single keratinised cells if the tumour keratinises."""
    rng = canvas.rng(Stage.GROWTH)
    spec = canvas.spec
    part = smooth(rng, canvas.coarse_shape, 400 / FIELD_UM, 1)
    for centre in canvas.sites(rng, canvas.lesion, rng.uniform(108, 130), 0.18):
        stretch = rng.uniform(1, 1.45)
        q = rng.uniform(42, 70) / stretch
        angle = float(canvas.direction(centre[None])[0] + rng.normal(0, 0.5))
        outline = Blob(rng, centre, q * stretch**2, q, angle, 0.2)
        index = nest(canvas, outline, "tumour_nest", tumour(spec.pleomorphism), clear_um=4)
        keratin = spec.keratin and q > 38 and rng.random() < 0.65 + 0.1 * float(part.std())
        if keratin:
            for _ in range(int(rng.integers(1, 3))):
                r = rng.uniform(11, 24)
                pearl = Blob(rng, centre + rng.normal(0, q * 0.2, 2), r * rng.uniform(1, 1.5), r, angle, 0.14)
                canvas.fill(pearl.at(0), Compartment.KERATIN)
                for depth in (-2.5, -7.0):  # flattened cells whorl around a pearl
                    xy, normal = along(rng, pearl.at(depth), 13)
                    canvas.add(nuclei(rng, tumour(spec.pleomorphism), xy, normal + np.pi / 2, elongation=2.2,
                                      neoplastic=True, structure=index))  # fmt: skip
        elif spec.necrosis and rng.random() < 0.35:
            core = Blob(rng, centre, outline.long_um * 0.45, outline.short_um * 0.45, angle, 0.15)
            canvas.fill(core.at(0), Compartment.NECROSIS)
        canvas.structures[index].attrs["keratin"] = keratin
    make_stroma(canvas, canvas.lesion)
