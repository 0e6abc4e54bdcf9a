"""Nuclei from the maps of HoVer-Net and its descendants: one number per nucleus, its outline, type and tokens.

- A network of this family says for each pixel whether it is nucleus, how far it lies from its nucleus' centre (left to
  right in [-1, 1] and top to bottom), and of which type it is. At the rim between two touching nuclei the distances
  jump, so their gradient is a wall, and watershed from what lies inside the walls tells the two apart.
- Source: Graham et al., HoVer-Net (10.1016/j.media.2019.101563), section 3.2, with the numbers that CellViT
  (10.1016/j.media.2024.103143) uses. They are in pixels and belong to 0.25 um/px.
- Everything here is numpy on the CPU; no CuPy.

Notation: H, W an image, m nuclei, D width of a token, h, w the grid of tokens.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure
from skimage.segmentation import watershed

Labels = NDArray[np.int32]
Float = NDArray[np.float32]

_MIN_PX = 10  # what is smaller is no nucleus, and no marker of one
_KERNEL_PX = 21  # of the gradient: about a nucleus at 0.25 um/px
_WALL = 0.4  # height from which the gradient is a wall
_OPENING_PX = 5
_OUTLINE_PX = 0.5  # outlines may lie this far from the rim


@dataclass(frozen=True)
class Nucleus:
    """One nucleus of a label map.

    Attributes:
        number: in the label map.
        box: first row, first column, and the row and column behind the last.
        centroid: x, y in pixels (centre of the first pixel is 0, 0).
        contour: (v, 2) int32 x, y, the pixels along the rim, v >= 3, not closed.
        type: class of most of its pixels; background (0) only if no pixel has another.
        share: of its pixels that have this class.
    """

    number: int
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    contour: NDArray[np.int32]
    type: int
    share: float

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        r0, c0, r1, c1 = self.box
        return slice(r0, r1), slice(c0, c1)


def segment(inside: NDArray[np.bool_], hv: Float) -> Labels:
    """Nuclei told apart.

    Args:
        inside: (H, W), the pixel is nucleus.
        hv: (2, H, W), horizontal and vertical distance from the own nucleus' centre, about [-1, 1].

    Returns:
        (H, W) int32, 0 for none; the numbers may have gaps.
    """
    nuclei = _without_small(ndimage.label(inside)[0]) > 0
    if not nuclei.any():
        return np.zeros(inside.shape, np.int32)
    wall = np.maximum(_drop(hv[0], 1, 0), _drop(hv[1], 0, 1))
    wall = np.maximum(wall - ~nuclei, 0)
    basin = -cv2.GaussianBlur((1 - wall) * nuclei, (3, 3), 0)

    core = ndimage.binary_fill_holes(nuclei & ~(wall >= _WALL))
    assert core is not None  # for the type checker: only with output= there is no result
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_OPENING_PX, _OPENING_PX))
    opened = cv2.morphologyEx(core.astype(np.uint8), cv2.MORPH_OPEN, ellipse)
    markers = _without_small(ndimage.label(opened)[0])
    return watershed(basin, markers, mask=nuclei).astype(np.int32)  # type: ignore[no-untyped-call,no-any-return]


def describe(labels: Labels, types: NDArray[np.integer[Any]]) -> list[Nucleus]:
    """The nuclei of a label map, by their numbers; those with no outline of three points are left out.

    Args:
        labels: (H, W), from :func:`segment`.
        types: (H, W), class of each pixel, 0 for background.
    """
    found = []
    boxes = ndimage.find_objects(labels)
    for number in np.unique(labels[labels > 0]).tolist():
        box = boxes[number - 1]
        mask = (labels[box] == number).astype(np.uint8)
        lines, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        contour = lines[0].reshape(-1, 2)
        if len(contour) < 3:
            continue
        corner = np.array([box[1].start, box[0].start], np.int32)
        moments = cv2.moments(mask)
        x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
        type_, share = _vote(types[box][mask > 0])
        found.append(
            Nucleus(
                number=number,
                box=(box[0].start, box[1].start, box[0].stop, box[1].stop),
                centroid=(x + corner[0], y + corner[1]),
                contour=contour + corner,
                type=type_,
                share=share,
            )
        )
    return found


def mean_tokens(labels: Labels, tokens: Float, nuclei: list[Nucleus]) -> Float:
    """A vector for each nucleus: the mean of the tokens whose square of the image its mask touches.

    Args:
        labels: (H, W). tokens: (D, h, w), H and W being multiples of h and w.

    Returns:
        (m, D) float32, a row for each of ``nuclei``.
    """
    d, h, w = tokens.shape
    rows, cols = labels.shape[0] // h, labels.shape[1] // w
    y, x = np.nonzero(labels)
    touched = np.unique(np.stack([labels[y, x], y // rows, x // cols]), axis=1)
    total = np.zeros((int(labels.max(initial=0)) + 1, d), np.float64)
    np.add.at(total, touched[0], tokens[:, touched[1], touched[2]].T)
    number = np.bincount(touched[0], minlength=len(total))
    wanted = np.array([nucleus.number for nucleus in nuclei], np.int64)
    return np.asarray(total[wanted] / number[wanted, None], np.float32)


def outline(mask: NDArray[np.bool_]) -> Float:
    """The rim of a mask (H, W) of one nucleus, (v, 2) float32 as x, y, v >= 3, not closed.

    It runs between the pixels inside and outside. :attr:`Nucleus.contour` runs through the outermost pixels' centres
    and so loses a ring of half a pixel: 6 % of a nucleus of 45 um2 at 0.25 um/px.
    """
    lines = measure.find_contours(np.pad(mask, 1).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    line = max(lines, key=len)[:-1, ::-1] - 1
    simpler = cv2.approxPolyDP(line.astype(np.float32)[:, None], _OUTLINE_PX, True).reshape(-1, 2)
    return np.asarray(simpler if len(simpler) >= 3 else line, np.float32)


def _drop(distance: Float, dx: int, dy: int) -> Float:
    """How steeply a distance falls along x or y, in [0, 1]: inside a nucleus it rises, at the rim to the next it falls.

    Both stretches to [0, 1] are over the whole image, so this depends on what else is in it: hand in windows of the
    size that the network was trained on.
    """
    slope = cv2.Sobel(_stretched(distance), cv2.CV_64F, dx, dy, ksize=_KERNEL_PX)
    return 1 - _stretched(slope)


def _stretched(plane: NDArray[Any]) -> Float:
    empty = np.empty(plane.shape, np.float32)
    return np.asarray(cv2.normalize(plane, empty, 0, 1, cv2.NORM_MINMAX, cv2.CV_32F), np.float32)


def _without_small(labels: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    keep = np.bincount(labels.ravel()) >= _MIN_PX
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _vote(types: NDArray[np.integer[Any]]) -> tuple[int, float]:
    counts = np.bincount(types)
    if counts[0] < counts.sum():
        counts[0] = 0
    # of equally frequent classes the first
    winner = int(counts.argmax())
    return winner, float(counts[winner] / len(types))
