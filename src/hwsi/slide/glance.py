"""What a region looks like at low magnification: enough to tell which are worth a closer look, for a hundredth of it.

- The slide is read once at 4 um/px; nothing is encoded.
- Haematoxylin and eosin are parted by the usual vectors of Ruifrok and Johnston (2001). Much haematoxylin is many
  nuclei; how unevenly it lies is the texture of the tissue.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.color import rgb2hed

from hwsi.slide.slide import Slide

GLANCE_MPP = 4.0
_DENSE = 0.08
"""Haematoxylin (of ``rgb2hed``) above which a pixel of 4 um is mostly nucleus."""

COLUMNS = ("haematoxylin", "its spread", "nuclei", "its edges", "eosin", "its spread", "glass")


def region_glance(slide: Slide, xy: ArrayLike, size0: float) -> NDArray[np.float64]:
    """Regions at low magnification.

    Args:
        slide: with a known pixel size.
        xy: (n, 2) top-left corners in level-0 pixels. size0: side of the regions in level-0 pixels.

    Returns:
        (n, 7) of :data:`COLUMNS`: means and standard deviations of stains, the share of pixels that are mostly nucleus,
        the mean change of haematoxylin from pixel to pixel, the share without stain.

    Raises:
        HwsiError: MPP_MISSING or MPP_INVALID, SLIDE_CORRUPT.
    """
    corners = np.asarray(xy, np.float64).reshape(-1, 2)
    mpp = max(GLANCE_MPP, slide.mpp)
    side = max(2, round(size0 * slide.mpp / mpp))
    rows = np.zeros((len(corners), len(COLUMNS)))
    for k, (x, y) in enumerate(corners):
        stains = rgb2hed(slide.read(round(x), round(y), side, mpp))
        h, e = np.clip(stains[..., 0], 0, None), np.clip(stains[..., 1], 0, None)
        edges = (np.abs(np.diff(h, axis=0)).mean() + np.abs(np.diff(h, axis=1)).mean()) / 2
        rows[k] = h.mean(), h.std(), (h > _DENSE).mean(), edges, e.mean(), e.std(), (h + e < _DENSE / 4).mean()
    return rows
