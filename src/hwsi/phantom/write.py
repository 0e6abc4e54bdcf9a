"""Phantom slides on disk: Aperio's SVS layout or a plain pyramidal TIFF, whole or not at all.

- SVS: tiled level 0, stripped thumbnail, tiled levels x4 and x16, label and macro. The label says PHANTOM, and so
  does the description: nobody shall take the file for a patient's.
- Written under a temporary name in the same folder, synced, renamed.
"""

import errno
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason

Image = NDArray[np.uint8]
_TILE = (256, 256)
_SMALLEST_LEVEL_PX = 256


def write_slide(path: Path | str, image: Image, *, mpp: float = 0.5, quality: int = 80, description: str = "") -> Path:
    """Write an image as a slide that OpenSlide opens.

    Args:
        path: ends in ``.svs`` (Aperio layout) or ``.tif``/``.tiff`` (generic pyramid).
        image: (H, W, 3) uint8 RGB at ``mpp`` microns per pixel.
        mpp: of level 0; quality: of the JPEG tiles, 1 to 100.
        description: a few words for the header.

    Raises:
        HwsiError: option_invalid for another ending or a bad quality; output_unwritable, disk_full.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".svs", ".tif", ".tiff"):
        raise HwsiError(Reason.OPTION_INVALID, f"cannot write {path.name}", "use .svs, .tif or .tiff")
    if not 1 <= quality <= 100:
        raise HwsiError(Reason.OPTION_INVALID, f"JPEG quality is {quality}", "from 1 to 100")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        (_write_svs if suffix == ".svs" else _write_tiff)(partial, image, mpp, quality, description)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = Reason.DISK_FULL if full else Reason.OUTPUT_UNWRITABLE
        raise HwsiError(reason, f"{path}: {error.strerror or error}", "choose a folder you can write to") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _levels(image: Image, factor: int) -> list[Image]:
    levels = [image]
    while min(levels[-1].shape[:2]) // factor >= _SMALLEST_LEVEL_PX:
        last = levels[-1]
        size = (last.shape[1] // factor, last.shape[0] // factor)
        levels.append(np.asarray(cv2.resize(last, size, interpolation=cv2.INTER_AREA)))
    return levels


def _tiled(quality: int, mpp: float) -> dict[str, Any]:
    return {
        "tile": _TILE,
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": quality},
        "resolution": (1e4 / mpp, 1e4 / mpp),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }


def _write_tiff(path: Path, image: Image, mpp: float, quality: int, description: str) -> None:
    import tifffile

    text = _ascii(f"HWSI phantom, synthetic tissue; {description}")
    with tifffile.TiffWriter(path, bigtiff=image.nbytes > 2**31) as writer:
        for number, level in enumerate(_levels(image, 2)):
            writer.write(
                level,
                subfiletype=int(number > 0),
                description=text if number == 0 else None,
                software="hwsi phantom",
                **_tiled(quality, mpp * image.shape[1] / level.shape[1]),
            )


def _write_svs(path: Path, image: Image, mpp: float, quality: int, description: str) -> None:
    import tifffile

    height, width = image.shape[:2]
    head = "Aperio Image Library v12.0.15 (layout only; HWSI phantom, synthetic tissue)"
    tail = f"AppMag = {round(10 / mpp)}|MPP = {mpp:g}|ScanScope ID = HWSI-PHANTOM|Title = {_ascii(description)}"

    def text(level: Image) -> str:
        h, w = level.shape[:2]
        tiles = f"({_TILE[1]}x{_TILE[0]}) JPEG/RGB Q={quality}"
        size = f"{width}x{height} [0,0 {width}x{height}] -> {w}x{h} {tiles}"
        if level is image:
            size = f"{width}x{height} [0,0 {width}x{height}] {tiles}"
        return f"{head}\r\n{size}|{tail}"

    strip: dict[str, Any] = {"photometric": "rgb", "rowsperstrip": 16, "metadata": None}
    jpeg: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 80}}
    levels = _levels(image, 4)
    with tifffile.TiffWriter(path, bigtiff=image.nbytes > 2**31) as writer:
        writer.write(image, description=text(image), **_tiled(quality, mpp))
        thumbnail = _fit(image, 768)
        h, w = thumbnail.shape[:2]
        note = f"{head}\r\n{width}x{height} -> {w}x{h} - |{tail}"
        writer.write(thumbnail, description=note, **strip, **jpeg)
        for level in levels[1:]:
            writer.write(level, description=text(level), **_tiled(quality, mpp * width / level.shape[1]))
        label = _label(description)
        note = f"{head}\r\nlabel {label.shape[1]}x{label.shape[0]}"
        writer.write(label, description=note, subfiletype=1, compression="lzw", **strip)
        macro = _macro(image)
        note = f"{head}\r\nmacro {macro.shape[1]}x{macro.shape[0]}"
        writer.write(macro, description=note, subfiletype=9, **strip, **jpeg)


def _ascii(text: str) -> str:
    """Header text: ASCII without the separators of the format."""
    plain = text.encode("ascii", "replace").decode().replace("|", "/").replace("=", ":")
    return " ".join(plain.split())


def _fit(image: Image, side: int) -> Image:
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _label(description: str) -> Image:
    label = np.full((400, 400, 3), 250, np.uint8)
    cv2.rectangle(label, (6, 6), (393, 393), (160, 30, 30), 4)
    cv2.putText(label, "PHANTOM", (48, 150), cv2.FONT_HERSHEY_DUPLEX, 2.0, (160, 30, 30), 3, cv2.LINE_AA)
    cv2.putText(label, "synthetic tissue", (78, 215), cv2.FONT_HERSHEY_DUPLEX, 0.9, (30, 30, 30), 1, cv2.LINE_AA)
    cv2.putText(label, "not a patient", (102, 260), cv2.FONT_HERSHEY_DUPLEX, 0.9, (30, 30, 30), 1, cv2.LINE_AA)
    line = _ascii(description)[:34]
    cv2.putText(label, line, (24, 330), cv2.FONT_HERSHEY_DUPLEX, 0.55, (30, 30, 30), 1, cv2.LINE_AA)
    return label


def _macro(image: Image) -> Image:
    """The slide as a whole: label at the left, tissue at the right."""
    macro = np.full((420, 1280, 3), 240, np.uint8)
    macro[10:410, 10:410] = _label("")
    small = _fit(image, 380)
    top, left = (420 - small.shape[0]) // 2, 480
    macro[top : top + small.shape[0], left : left + small.shape[1]] = small
    return macro
