"""Nuclei in any H&E image, without weights: stain separation, local background, Otsu, watershed.

- Haematoxylin is read in the red channel, where eosin and red cells hardly absorb, less a fifth of the eosin of a
  fixed deconvolution. Nothing is fitted to the image's colours: such fits (Macenko) fail where the stains are
  nearly collinear, and the red channel held on all the stains tried.
- Most of the local mean is subtracted, so that what counts is nucleus against its own cytoplasm; Otsu's
  threshold then needs one number per image, with a floor for images without nuclei.
- All lengths are in microns and the work is done at 0.5 um/px, whatever comes in: at 0.25 it was not better.
- The values come from one random search for F1 and Dice over ten NuCLS tiles, with four DSB tiles of another stain
  at a small weight: neither set is unseen. Values chosen on nine NuCLS tiles do as well on the tenth
  (``benchmarks/cells.py``); the choice of the red channel itself was made on all.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

WORK_MPP = 0.5

# optical density (log10) of pure stains in R, G, B: mean of those measured on real slides
_HAEMATOXYLIN = (0.65, 0.70, 0.29)
_EOSIN = (0.20, 0.93, 0.30)
_GLASS = 245.0  # light that passes glass
_RED_WEIGHT = 1.5  # of the red density: 1 / 0.65, so that pure haematoxylin counts as itself
_EOSIN_WEIGHT = 0.2
_TISSUE_OD = 0.08  # of green: below this is glass, which says nothing about the threshold

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Settings:
    """What segmentation depends on; the defaults are used everywhere, others only to see what a choice is worth.

    Attributes:
        smooth_um, background_um: sigmas of the two Gaussians whose difference is thresholded.
        background_weight: share of the local mean that is subtracted.
        clip: quantile at which Otsu's histogram ends: the darkest mitoses and specks must not lift the threshold.
        floor: lowest threshold, in units of stain.
        hole_um2: larger holes stay open (a lumen ringed by nuclei is no nucleus).
        min_area_um2, max_area_um2: of a nucleus.
        split_distance_um, split_stain_um: sigmas of the two maps whose sum has one summit per nucleus.
        split_stain_weight: um of depth for one unit of stain.
        split_window_um: summits are at least half of this apart.
        min_radius_um: a summit's least distance to the rim.
    """

    smooth_um: float = 0.35
    background_um: float = 8.0
    background_weight: float = 0.9
    clip: float = 0.99
    floor: float = 0.04
    hole_um2: float = 20.0
    min_area_um2: float = 5.0
    max_area_um2: float = 600.0
    split_distance_um: float = 0.5
    split_stain_um: float = 1.0
    split_stain_weight: float = 12.0
    split_window_um: float = 2.5
    min_radius_um: float = 1.1


_DEFAULT = Settings()


def stains(image: Image) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin (H, W) float32 >= 0, in units of optical density, of RGB uint8 (H, W, 3)."""
    density = np.maximum(_DENSITY[image], 0)
    eosin = density @ _TO_EOSIN
    haematoxylin = np.maximum(_RED_WEIGHT * density[..., 0] - _EOSIN_WEIGHT * eosin, 0)
    return haematoxylin, np.maximum(eosin, 0)


def segment(image: Image, settings: Settings = _DEFAULT) -> Labels:
    """Nuclei of RGB uint8 (H, W, 3) at 0.5 um/px -> int32 (H, W), 0 for none, each nucleus its own number 1..m."""
    stain, _ = stains(image)
    lifted = _blur(stain, settings.smooth_um) - settings.background_weight * _blur(stain, settings.background_um)
    tissue = _DENSITY[image[..., 1]] > _TISSUE_OD
    if not tissue.any():
        return np.zeros(image.shape[:2], np.int32)
    nuclei = (lifted > max(otsu(lifted[tissue], clip=settings.clip), settings.floor)).astype(np.uint8)
    _fill_holes(nuclei, settings)
    return _number(_split(nuclei, stain, settings), settings)


def otsu(values: Plane, *, clip: float = 1.0) -> float:
    """Otsu's threshold of any values, those above the quantile ``clip`` counted as that quantile."""
    counts, edges = np.histogram(values, bins=512, range=(-0.5, 1.5))
    total = counts.cumsum()
    top = int(np.searchsorted(total, clip * total[-1]))
    counts[top] += counts[top + 1 :].sum()
    counts[top + 1 :] = 0
    centres = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    mass = (counts * centres).cumsum()
    gap = mass / np.maximum(below, 1) - (mass[-1] - mass) / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * gap**2)])


def _split(nuclei: Image, stain: Plane, settings: Settings) -> Labels:
    """Touching nuclei apart: watershed from the summits of distance to the rim plus stain."""
    depth = cv2.distanceTransform(nuclei, cv2.DIST_L2, 5) * np.float32(WORK_MPP)
    height = _blur(depth, settings.split_distance_um)
    height += settings.split_stain_weight * _blur(stain, settings.split_stain_um) * nuclei
    side = round(settings.split_window_um / WORK_MPP) | 1
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    summits = (height >= cv2.dilate(height, window)) & (depth > settings.min_radius_um)
    _, markers = cv2.connectedComponents(summits.astype(np.uint8), connectivity=8)
    return watershed(-height, markers, mask=nuclei > 0).astype(np.int32)  # type: ignore[no-untyped-call,no-any-return]


def _fill_holes(nuclei: Image, settings: Settings) -> None:
    """Fill, in place, holes small enough to be pale chromatin; a lumen ringed by nuclei stays open."""
    n, holes, stats, _ = cv2.connectedComponentsWithStats(1 - nuclei, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] * WORK_MPP**2 <= settings.hole_um2
    if n > 1:
        nuclei |= small[holes].astype(np.uint8) & (1 - nuclei)


def _number(labels: Labels, settings: Settings) -> Labels:
    """Drop what is too small or too large for a nucleus and count the others from 1."""
    area = np.bincount(labels.ravel()) * WORK_MPP**2
    keep = (area >= settings.min_area_um2) & (area <= settings.max_area_um2)
    keep[0] = False
    renamed = np.where(keep, keep.cumsum(), 0).astype(np.int32)
    return renamed[labels]


def _blur(plane: Plane, sigma_um: float) -> Plane:
    return cv2.GaussianBlur(plane, (0, 0), sigma_um / WORK_MPP).astype(np.float32, copy=False)


def _eosin_of_density() -> Plane:
    h, e = (np.array(v) / np.linalg.norm(v) for v in (_HAEMATOXYLIN, _EOSIN))
    rest = np.cross(h, e)
    return np.linalg.inv(np.stack([h, e, rest / np.linalg.norm(rest)]))[:, 1].astype(np.float32)


_TO_EOSIN = _eosin_of_density()
_DENSITY: Plane = (-np.log10(np.maximum(np.arange(256), 1) / _GLASS)).astype(np.float32)
