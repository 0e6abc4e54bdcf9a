"""Lymph node: capsule, subcapsular and medullary sinuses, follicles; metastatic carcinoma.

- The reactive node has sheets of pale histiocytes in its lesion field: pale areas alone do not mean metastasis.
"""

import cv2
import numpy as np

from hwsi.phantom.canvas import FIELD_UM, Canvas, Stage
from hwsi.phantom.cells import nuclei
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.fat import lay_fat
from hwsi.phantom.geometry import Blob, sample
from hwsi.phantom.growth import Habit, invade
from hwsi.phantom.noise import Field, smooth

_METASTASIS = Habit(82, (24, 46), 12.5, irregularity=0.2, cribriform=0.12, clear_um=2.5)


def lay_out(canvas: Canvas) -> None:
    """Lay out a node of the asked diagnosis."""
    rng = canvas.rng(Stage.ORGAN)
    depth = _depth(canvas, rng)
    stroma = canvas.compartments == Compartment.STROMA
    wavy = depth + 2.5 * _large(canvas, smooth(rng, canvas.coarse_shape, 40 / FIELD_UM * 2, 1))
    capsule = rng.uniform(12, 24)
    canvas.compartments[stroma & (wavy > capsule)] = Compartment.SINUS
    canvas.compartments[stroma & (wavy > capsule + rng.uniform(10, 18))] = Compartment.LYMPHOID
    lymphoid = canvas.compartments == Compartment.LYMPHOID
    veins = np.abs(_large(canvas, smooth(rng, canvas.coarse_shape, 300 / FIELD_UM, 2)))
    canvas.compartments[lymphoid & (veins < 0.045)] = Compartment.STROMA
    deep = depth > rng.uniform(330, 480)
    sinuses = np.abs(_large(canvas, smooth(rng, canvas.coarse_shape, 170 / FIELD_UM, 2)))
    canvas.compartments[lymphoid & deep & (sinuses < 0.14)] = Compartment.SINUS
    _follicles(canvas, rng, depth)
    if canvas.spec.diagnosis == "lymph node metastasis":
        invade(canvas, _METASTASIS)
    else:
        _histiocytes(canvas)
    _sinus_cells(canvas, rng)


def _large(canvas: Canvas, field: Field) -> Field:
    return np.asarray(cv2.resize(field, (canvas.width, canvas.height), interpolation=cv2.INTER_CUBIC))


def _depth(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Distance in microns below the capsule; what lies outside it is fat."""
    half = (canvas.width // 2, canvas.height // 2)
    inside = cv2.resize(canvas.outline.astype(np.uint8), half, interpolation=cv2.INTER_NEAREST)
    if canvas.spec.fat > 0.05:
        coarse = cv2.distanceTransform(canvas.tissue.astype(np.uint8), cv2.DIST_L2, 3) * FIELD_UM
        outer = coarse + 120 * smooth(rng, canvas.coarse_shape, 800 / FIELD_UM, 2)
        free = canvas.tissue & ~canvas.lesion
        if free.any():
            limit = np.quantile(outer[free], min(canvas.spec.fat, 0.5))
            rim = free & (outer < min(limit, 190))
            lay_fat(canvas, rng, rim)
            gone = cv2.resize(canvas.fine(rim, 10).astype(np.uint8), half, interpolation=cv2.INTER_NEAREST)
            inside = np.where(np.asarray(gone) > 0, 0, np.asarray(inside)).astype(np.uint8)
    far = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 3)[1:-1, 1:-1] * 2
    return np.asarray(cv2.resize(far, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR))


def _follicles(canvas: Canvas, rng: np.random.Generator, depth: Field) -> None:
    metastasis = canvas.spec.diagnosis == "lymph node metastasis"
    for centre in canvas.sites(rng, canvas.tissue, rng.uniform(255, 330), 0.2, 90):
        below = float(sample(depth, centre[None])[0])
        if below > 420 or below < 90 or (metastasis and sample(canvas.lesion, centre[None], FIELD_UM)[0]):
            continue
        q = rng.uniform(55, 130)
        outline = Blob(rng, centre, q * rng.uniform(1, 1.3), q, rng.uniform(0, np.pi), 0.08)
        germinal = bool(rng.random() < 0.85)
        index = canvas.begin("follicle", outline.at(-24), germinal=germinal)
        canvas.fill(outline.at(-24), Compartment.LYMPHOID, index)
        if germinal:
            canvas.fill(outline.at(0), Compartment.GERMINAL, index)


def _histiocytes(canvas: Canvas) -> None:
    """Sinus histiocytosis: widened sinuses full of pale cells, the look-alike of a metastasis."""
    rng = canvas.rng(Stage.GROWTH)
    # as much of the lesion as a metastasis takes: otherwise the number of nuclei alone tells the two apart
    for centre in canvas.sites(rng, canvas.lesion, 105, 0.25, 16):
        if rng.random() < 0.9:
            q = rng.uniform(34, 62)
            outline = Blob(rng, centre, q * rng.uniform(1.2, 2.0), q, rng.uniform(0, np.pi), 0.25)
            inside = canvas.here(outline.at(0))
            if np.isin(inside, (Compartment.LYMPHOID, Compartment.SINUS)).mean() > 0.6:
                canvas.fill(outline.at(0), Compartment.SINUS, canvas.begin("histiocytes", outline.at(0)))
                if rng.random() < 0.25:  # a dilated, empty sinus
                    canvas.fill(outline.at(rng.uniform(8, 16)), Compartment.LUMEN)


def _sinus_cells(canvas: Canvas, rng: np.random.Generator) -> None:
    xy = canvas.sites(rng, canvas.tissue, 9.2, 0.26)
    xy = xy[(canvas.here(xy) == Compartment.SINUS) & (rng.random(len(xy)) < 0.66)]
    pale = rng.random(len(xy)) < 0.62
    canvas.add(nuclei(rng, "macrophage", xy[pale]))
    canvas.add(nuclei(rng, "lymphocyte", xy[~pale]))
