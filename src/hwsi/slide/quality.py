"""How sharp a region is.

- Sharpness is a ratio: fine detail (1 to 2 pixels) against coarser detail (2 to 6 pixels) of the luminance, at
  1 µm/px. The ratio knows nothing of contrast or stain; blur takes the fine detail first.
- A few small windows stand for a region, so that measuring costs little beside encoding. Windows without tissue
  say nothing; a region without any gets 0.
- A region is as sharp as the lower quartile of its windows: blur comes in clouds smaller than a region, and a
  region of which a third is blurred must not pass for sharp.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsi.slide.backend import Image
from hwsi.slide.slide import Slide

FOCUS_MPP = 1.0
_WINDOW_PX = 128
_PER_SIDE = 3
_HALF = 0.08
"""The ratio of fine to coarse detail that counts as half sharp: a blur of about 2 µm on H&E."""
_QUANTILE = 25
"""Percent. A single window of a fold, of fat or of mucin does not make a region blurred; three of nine do."""
_MIN_CONTRAST = 2.0
"""Grey levels of coarse detail below which a window is blank."""


def region_focus(slide: Slide, xy: ArrayLike, size0: float) -> NDArray[np.float32]:
    """Sharpness of regions.

    Args:
        slide: with a known pixel size.
        xy: (n, 2) top-left corners in level-0 pixels.
        size0: side of the regions in level-0 pixels.

    Returns:
        (n,) float32 in [0, 1]; 0 is out of focus or blank, above 0.5 is sharp. A blur of 2 µm gives 0.2 to 0.35, a
        region of which a third is blurred so 0.4 to 0.6, sharp H&E 0.7 to 0.9.

    Raises:
        HwsiError: MPP_MISSING or MPP_INVALID, SLIDE_CORRUPT.
    """
    corners = np.asarray(xy, np.float64).reshape(-1, 2)
    mpp = max(FOCUS_MPP, slide.mpp)
    window0 = _WINDOW_PX * mpp / slide.mpp
    per_side = _PER_SIDE if size0 > window0 * _PER_SIDE else max(1, int(size0 // window0))
    offsets = (np.arange(per_side) + 0.5) * size0 / per_side - window0 / 2
    result = np.zeros(len(corners), np.float32)
    for k, (x, y) in enumerate(corners):
        scores = [
            score
            for dy in offsets
            for dx in offsets
            if (score := sharpness(slide.read(round(x + dx), round(y + dy), _WINDOW_PX, mpp))) is not None
        ]
        result[k] = np.percentile(scores, _QUANTILE) if scores else 0.0
    return result


def sharpness(image: Image) -> float | None:
    """Sharpness in [0, 1] of an RGB image (h, w, 3) at about 1 µm/px; None if it is blank."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    coarse = smooth - cv2.GaussianBlur(grey, (0, 0), 4.0)
    spread = float(coarse.std())
    if spread < _MIN_CONTRAST:
        return None
    ratio = float((grey - smooth).var()) / spread**2
    return ratio / (ratio + _HALF)
