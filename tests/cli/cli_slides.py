"""A small slide file that looks enough like H&E."""

from pathlib import Path

import numpy as np
import tifffile

SIDE_PX, MPP = 1400, 0.5


def tissue_pixels(seed: int = 0, side: int = SIDE_PX) -> np.ndarray:
    """Something that looks enough like H&E: glass, pink stroma, purple nuclei."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:side, :side]
    image = np.full((side, side, 3), 244, np.uint8)
    inside = np.hypot(yy - side / 2, xx - side / 2) < side * 0.46
    image[inside] = np.clip(rng.normal((226, 160, 190), 6, (int(inside.sum()), 3)), 0, 255)
    for y, x in rng.uniform(side * 0.2, side * 0.8, (500, 2)):
        y0, x0 = int(y) - 10, int(x) - 10
        patch = image[y0 : y0 + 21, x0 : x0 + 21]
        dot = np.hypot(*np.mgrid[-10:11, -10:11]) < rng.uniform(6, 9.5)
        patch[dot] = np.clip(rng.normal((92, 56, 132), 9, (int(dot.sum()), 3)), 0, 255)
    return image


def write_image(path: Path, image: np.ndarray, mpp: float | None = MPP) -> Path:
    """A tiled TIFF, with microns per pixel in its resolution tags or without."""
    where = {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", compression="jpeg", **where)
    return path
