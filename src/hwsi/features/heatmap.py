"""Evidence as a picture that lines up with its slide: a pyramidal OME-TIFF of scores, for QuPath and its like.

- One channel of float32, the score itself in nats; no colours are burnt in, the viewer chooses them.
- A pixel is a whole number of level-0 pixels wide and the first one lies at the slide's origin, so its physical size is
  exact and a viewer that overlays by microns puts every box where it belongs. The last row and column may reach over
  the slide's border.
- Where boxes lie within one another the finest says more: regions are drawn first, patches over them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.features.atomic import atomic_path

Float32 = NDArray[np.float32]
Box = tuple[int, int, int, int]

_TILE = (256, 256)
_SMALLEST_PX = 256
_LONGEST_PX = 4096


def heat_image(scores: Iterable[tuple[Box, float]], width0: int, height0: int) -> tuple[Float32, int]:
    """Scores on a grid over the slide.

    Args:
        scores: (x0, y0, x1, y1) in level-0 pixels with a score; larger boxes are drawn first.

    Returns:
        (h, w) float32, zero where there is no score, and how many level-0 pixels a pixel is wide.
    """
    step = max(1, -(-max(width0, height0) // _LONGEST_PX))
    image = np.zeros((-(-height0 // step), -(-width0 // step)), np.float32)
    largest_first = sorted(scores, key=lambda s: -(s[0][2] - s[0][0]) * (s[0][3] - s[0][1]))
    for (x0, y0, x1, y1), score in largest_first:
        image[y0 // step : -(-y1 // step), x0 // step : -(-x1 // step)] = score
    return image, step


def write_heatmap(path: str | Path, scores: Iterable[tuple[Box, float]], width0: int, height0: int, mpp: float) -> None:
    """Write the scores of a slide, wholly or not at all.

    Args:
        path: ``.ome.tiff`` or ``.tif``. mpp: microns per pixel of level 0.

    Raises:
        HwsiError: DISK_FULL, OUTPUT_UNWRITABLE.
    """
    import tifffile

    image, step = heat_image(scores, width0, height0)
    levels = [image]
    while min(levels[-1].shape) >= 2 * _SMALLEST_PX:
        levels.append(_halved(levels[-1]))
    size = mpp * step
    about: dict[str, Any] = {"axes": "YX", "Name": "HWSI evidence, nats"}
    for axis in ("X", "Y"):
        about |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    tiled: dict[str, Any] = {"tile": _TILE, "compression": "zlib", "photometric": "minisblack"}
    with atomic_path(Path(path)) as temporary, tifffile.TiffWriter(temporary, ome=True) as writer:
        for n, level in enumerate(levels):
            per_cm = 1e4 / (size * 2**n)
            more: dict[str, Any] = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            first = {"subifds": len(levels) - 1, "metadata": about} if n == 0 else {"subfiletype": 1, "metadata": None}
            writer.write(level, **tiled, **more, **first)


def _halved(image: Float32) -> Float32:
    """Half the size by the mean of four; an odd border is repeated, so that a level is half as wide, rounded up."""
    padded = np.pad(image, [(0, s % 2) for s in image.shape], mode="edge")
    return np.asarray(padded.reshape(padded.shape[0] // 2, 2, -1, 2).mean((1, 3)), np.float32)
