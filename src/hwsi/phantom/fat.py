"""Fat: whole adipocytes as the cells of a Voronoi diagram with thin walls."""

import cv2
import numpy as np

from hwsi.phantom.canvas import Canvas, Mask
from hwsi.phantom.cells import nuclei
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.geometry import sample
from hwsi.phantom.noise import hex_grid

_WALL_UM = 2.2


def lay_fat(canvas: Canvas, rng: np.random.Generator, field: Mask) -> None:
    """Fill a coarse field with adipocytes; cells that would be cut by its border are left out."""
    points = hex_grid(rng, canvas.box, rng.uniform(46, 62), 0.14)
    seeds = np.ones((canvas.height, canvas.width), np.uint8)
    whole = points.astype(np.intp)
    seeds[whole[:, 1], whole[:, 0]] = 0
    label = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)[1]
    edge = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    inside = canvas.fine(field, 8) & (canvas.compartments == Compartment.STROMA)
    n = int(label.max()) + 1
    size = np.bincount(label.ravel(), minlength=n)
    covered = np.bincount(label.ravel(), inside.ravel(), minlength=n)
    whole_cell = (covered / np.maximum(size, 1) > 0.85)[label]
    room = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 3)
    # rounding the corners: adipocytes press against each other but stay plump
    plump = cv2.GaussianBlur((room > _WALL_UM).astype(np.float32), (0, 0), 3.0) > 0.5
    canvas.compartments[whole_cell & plump & inside] = Compartment.FAT
    beside = points[sample(whole_cell & inside, points) & (rng.random(len(points)) < 0.5)]
    canvas.add(nuclei(rng, "fibroblast", beside + np.array([24, 8]), rng.uniform(0, np.pi, len(beside))))
