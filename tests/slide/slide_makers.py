"""Slides that the tests write themselves."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name} is not there: no `shared` folder beside the checkout")
    return path


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 250, (max(2, height // 8), max(2, width // 8), 3)).astype(np.uint8)
    return np.clip(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def halve(pixels: np.ndarray) -> np.ndarray:
    h, w = pixels.shape[0] // 2, pixels.shape[1] // 2
    return cv2.resize(pixels[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)


def generic(path: Path, pixels: np.ndarray, *, mpp: float | None = 0.5, levels: int = 1, tile: int = 64, **kw) -> Path:
    """A tiled pyramid of plain pages; pixel size by the resolution tags."""
    options = {"photometric": "rgb", "compression": "deflate", **kw}
    if options["compression"] == "jpeg":
        options.setdefault("compressionargs", {"level": 90})
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            unit = {} if mpp is None else {"resolution": (1e4 / mpp / 2**level,) * 2, "resolutionunit": "CENTIMETER"}
            tif.write(pixels, tile=(tile, tile), subfiletype=int(level > 0), metadata=None, **unit, **options)
            pixels = halve(pixels)
    return path


def svs(path: Path, pixels: np.ndarray, *, fields: str = "|AppMag = 40|MPP = 0.25", levels: int = 2, **kw) -> Path:
    """An Aperio-like file: base, thumbnail in strips, further levels, label."""
    options = {"photometric": "rgb", "compression": "jpeg", **kw}
    h, w = pixels.shape[:2]
    text = f"Aperio Image Library v12.0.15\n{w}x{h} [0,0 {w}x{h}] (64x64) JPEG/RGB Q=90{fields}"
    with tifffile.TiffWriter(path) as tif:
        base = {"tile": (64, 64), "metadata": None, "description": text, **options}
        tif.write(pixels, **base)
        tif.write(pixels[::8, ::8], photometric="rgb", rowsperstrip=16, metadata=None, description=text)
        for _ in range(levels - 1):
            pixels = halve(pixels)
            tif.write(pixels, **base)
        label = pixels[:32, :32]
        tif.write(
            label, photometric="rgb", rowsperstrip=16, subfiletype=1, metadata=None, description=f"{text}\nlabel 32x32"
        )
    return path


def ome(
    path: Path, pixels: np.ndarray, *, levels: int = 3, axes: str = "YXS", unit: str = "µm", size=0.5, **kw
) -> Path:
    """An OME-TIFF whose lower levels are SubIFDs."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", **kw}
    meta = {
        "axes": axes,
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": size,
        "PhysicalSizeYUnit": unit,
    }
    first = {"YXS": lambda a: a, "SYX": lambda a: np.moveaxis(a, 2, 0), "CYX": lambda a: np.moveaxis(a, 2, 0)}[axes]
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(first(pixels), subifds=levels - 1, metadata=meta, **options)
        for _ in range(levels - 1):
            pixels = halve(pixels)
            tif.write(first(pixels), subfiletype=1, **options)
    return path


def h_and_e(width: int, height: int, shapes: list[tuple[int, int, int]], colour=(205, 120, 175)) -> np.ndarray:
    """Glass with discs (x, y, radius) of tissue, with nuclei-like noise."""
    image = np.full((height, width, 3), (243, 242, 245), np.float32)
    rng = np.random.default_rng(3)
    image += rng.normal(0, 1.5, image.shape)
    where = np.zeros((height, width), np.uint8)
    for x, y, r in shapes:
        cv2.circle(where, (x, y), r, 1, -1)
    grain = rng.normal(0, 14, (height, width, 1))
    image[where == 1] = (np.array(colour, np.float32) + grain)[where == 1]
    return np.clip(image, 0, 255).astype(np.uint8)
