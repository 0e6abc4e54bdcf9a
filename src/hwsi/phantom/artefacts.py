"""Pen, fold, blur and bubble: where they lie, as soft maps that the developer applies and truth reads.

- An artefact hides tissue, so it is placed on tissue; its mask goes into the drawing before anything is asked.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hwsi.phantom.canvas import Stage
from hwsi.phantom.drawing import Compartment, Drawing
from hwsi.phantom.noise import Field, smooth
from hwsi.phantom.spec import Spec

STEP_UM = 4
_MASK_UM = 8
_PEN_COLOURS = ((0.12, 0.24, 0.62), (0.08, 0.45, 0.25), (0.13, 0.13, 0.16), (0.65, 0.10, 0.14))


@dataclass
class Artefacts:
    """Soft maps (h//4, w//4) float32 in [0, 1], or None where there is none.

    Attributes:
        pen, fold, blur: coverage; pen_colour: transmission by channel.
        bubble: x, y, radius in microns, or None.
    """

    pen: Field | None = None
    pen_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fold: Field | None = None
    blur: Field | None = None
    bubble: tuple[float, float, float] | None = None


def plan_artefacts(drawing: Drawing, spec: Spec) -> Artefacts:
    """Place the artefacts of a request and write their masks into ``drawing.artefacts``."""
    rng = np.random.default_rng([spec.seed, int(Stage.ARTEFACTS)])
    shape = (drawing.height_um // STEP_UM, drawing.width_um // STEP_UM)
    tissue = (drawing.compartments != Compartment.GLASS)[::STEP_UM, ::STEP_UM]
    rows, columns = np.nonzero(tissue)
    # all are drawn always, so that asking for one more does not move the others
    anchors = [int(i) for i in rng.integers(0, max(len(rows), 1), 4)]
    spots = [(float(columns[i]), float(rows[i])) if len(rows) else (0.0, 0.0) for i in anchors]
    made = Artefacts(
        pen=_stroke(rng, shape, spots[0], rng.uniform(90, 200) / STEP_UM, 0.10),
        pen_colour=_PEN_COLOURS[int(rng.integers(len(_PEN_COLOURS)))],
        fold=_stroke(rng, shape, spots[1], rng.uniform(36, 70) / STEP_UM, 0.03) * tissue,
        blur=_cloud(rng, shape, spots[2]),
        bubble=(spots[3][0] * STEP_UM, spots[3][1] * STEP_UM, rng.uniform(0.10, 0.20) * min(shape) * STEP_UM),
    )
    asked = set(spec.artefacts)
    for name in ("pen", "fold", "blur", "bubble"):
        if name not in asked:
            setattr(made, name, None)
    size = (drawing.width_um // _MASK_UM, drawing.height_um // _MASK_UM)
    drawing.artefacts = {}
    for name in ("pen", "fold", "blur"):
        field = getattr(made, name)
        if field is not None:
            drawing.artefacts[name] = np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_AREA) > 0.35)
    if made.bubble is not None:
        x, y, radius = made.bubble
        yy, xx = np.mgrid[0 : size[1], 0 : size[0]] * _MASK_UM + _MASK_UM / 2
        drawing.artefacts["bubble"] = np.hypot(xx - x, yy - y) < radius
    return made


def _stroke(
    rng: np.random.Generator, shape: tuple[int, int], spot: tuple[float, float], width: float, wander: float
) -> Field:
    """A wavy stroke through a spot, long enough to cross the slide."""
    reach = float(np.hypot(*shape))
    turn = rng.uniform(0, np.pi)
    s = np.linspace(-1, 1, 80) * reach * rng.uniform(0.35, 0.8)
    drift = np.cumsum(np.cumsum(rng.normal(0, 1, 80))) / 80
    drift = (drift - drift[40]) * wander * reach / 8
    path = np.stack(
        [spot[0] + s * np.cos(turn) - drift * np.sin(turn), spot[1] + s * np.sin(turn) + drift * np.cos(turn)], 1
    )
    mask = np.zeros(shape, np.uint8)
    cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 255, max(2, round(width)))
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.2).astype(np.float32) / 255)


def _cloud(rng: np.random.Generator, shape: tuple[int, int], spot: tuple[float, float]) -> Field:
    """A soft patch around a spot."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    radius = rng.uniform(0.18, 0.34) * min(shape)
    distance = np.hypot(x - spot[0], y - spot[1]) / radius + 0.25 * smooth(rng, shape, min(shape) / 4, 2)
    return np.asarray(np.clip((1.15 - distance) * 4, 0, 1), np.float32)
