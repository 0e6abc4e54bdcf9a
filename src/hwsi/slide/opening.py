"""Which backend opens a path, and what is said of a path that none opens. The content decides, not the name."""

import hashlib
import os
import string
from contextlib import suppress
from pathlib import Path

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Backend

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".svslide", ".qptiff")
_FORMATS = "hand in SVS, NDPI, MRXS, SCN, BIF, DICOM, (OME-)TIFF, PNG or JPEG"
_BLOCK, _SAMPLE, _SAMPLES = 1 << 20, 1 << 16, 16


def locate(path: Path) -> Path:
    """The file to open: the path itself, or the slide's file of a DICOM or MIRAX directory.

    Raises:
        HwsiError: SLIDE_MISSING, SLIDE_EMPTY, SLIDE_UNSUPPORTED (a directory without a slide).
    """
    try:
        if path.is_dir():
            path = _inside(path)
        if not path.exists():
            raise HwsiError(Reason.SLIDE_MISSING, f"there is no file {path}", "check the path")
        if not path.is_file():
            raise HwsiError(Reason.SLIDE_UNSUPPORTED, f"{path} is not a regular file", _FORMATS)
        with path.open("rb") as file:
            if not file.read(1):
                raise HwsiError(Reason.SLIDE_EMPTY, f"{path.name} has no bytes", "copy it again")
    except OSError as error:
        raise HwsiError(
            Reason.SLIDE_MISSING, f"{path} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    return path


def _inside(directory: Path) -> Path:
    whole = Path(os.path.abspath(directory))
    if whole.name and (mirax := whole.with_name(whole.name + ".mrxs")).is_file():
        return mirax
    found = [file for file in sorted(directory.iterdir()) if file.is_file() and _is_dicom(file)]
    if not found:
        raise HwsiError(
            Reason.SLIDE_UNSUPPORTED,
            f"the directory {whole.name or whole} holds no DICOM slide",
            "hand in a slide's file",
        )
    # a series also has files of its label and overview, which open no slide; if none does, the first says why
    return next((file for file in found if _opens(file)), found[0])


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _opens(file: Path) -> bool:
    import openslide

    try:
        openslide.OpenSlide(str(file)).close()
    except openslide.OpenSlideError:
        return False
    return True


def open_backend(path: Path) -> Backend:
    """The backend for a file that :func:`locate` gave.

    Raises:
        HwsiError: SLIDE_UNSUPPORTED, SLIDE_CORRUPT.
    """
    from hwsi.slide import openslide_backend

    with path.open("rb") as file:
        head = file.read(512)
    is_tiff = head[:4] in _TIFF_MAGIC
    if is_tiff and _look_into(path):
        # OpenSlide would see only the first of its levels
        from hwsi.slide.tiff_backend import TiffBackend

        return TiffBackend(path)
    if openslide_backend.detect(path) is not None:
        return openslide_backend.OpenSlideBackend(path)
    if is_tiff:
        from hwsi.slide.tiff_backend import TiffBackend

        return TiffBackend(path)
    if path.suffix.lower() == ".mrxs":
        # by itself it is a small JPEG, and would pass for a picture
        raise HwsiError(
            Reason.SLIDE_CORRUPT,
            f"{path.name} is only the cover of a MIRAX slide, and its folder {path.stem} is not beside it or not whole",
            f"copy the folder {path.stem} to the same place",
        )
    from hwsi.slide.image_backend import ImageBackend, is_picture

    if is_picture(path):
        return ImageBackend(path)
    raise _unknown(path, head)


def _look_into(path: Path) -> bool:
    """Whether a TIFF is an OME-TIFF.

    Raises:
        HwsiError: SLIDE_CORRUPT, its tiles are impossibly large; OpenSlide would end the process over them.
    """
    from hwsi.slide.tiff_file import BROKEN, absurd_tile, open_tiff

    absurd, is_ome = "", False
    with suppress(*BROKEN), open_tiff(path) as tif:  # the backend that is tried next says what is wrong
        is_ome = bool(tif.is_ome)
        absurd = absurd_tile(tif)
    if absurd:
        raise HwsiError(
            Reason.SLIDE_CORRUPT, f"{path.name}: {absurd}, which cannot be", "the file is damaged: copy it again"
        )
    return is_ome


def check_whole(path: Path) -> None:
    """See that a TIFF has all the bytes that its tables name; a copy that broke off has not.

    Raises:
        HwsiError: SLIDE_CORRUPT.
    """
    from hwsi.slide.tiff_file import BROKEN, cut_short

    try:
        missing = cut_short(path)
    except BROKEN as error:
        missing = f"its tables cannot be read: {error}"
    if missing:
        raise HwsiError(
            Reason.SLIDE_CORRUPT,
            f"{path.name} is damaged or cut short: {missing}",
            "copy it again from the scanner or archive",
        )


def _unknown(path: Path, head: bytes) -> HwsiError:
    if all(chr(byte) in string.printable for byte in head) or _is_text(head):
        return HwsiError(Reason.SLIDE_UNSUPPORTED, f"{path.name} is a text file, not a slide", _FORMATS)
    if path.suffix.lower() in _TIFF_SUFFIXES:
        return HwsiError(
            Reason.SLIDE_CORRUPT,
            f"{path.name} is named {path.suffix}, but its first bytes are not those of a TIFF file",
            "the file is damaged, encrypted or something else renamed: copy it again",
        )
    return HwsiError(Reason.SLIDE_UNSUPPORTED, f"{path.name} is of no known slide or image format", _FORMATS)


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    for cut in range(4):  # the block may end inside a character
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False


def fingerprint(path: Path, series: str) -> str:
    """Content fingerprint: sha256 over size, first and last MiB, samples between, and what identifies a series; 32 hex.

    The samples tell exports apart that are not compressed, of equal size and white at their borders.

    Args:
        path: the slide's file.
        series: for formats of many files, what identifies all of them; '' else.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n{series}\n".encode())
    with path.open("rb") as file:
        digest.update(file.read(_BLOCK))
        for part in range(1, _SAMPLES if size > 2 * _BLOCK else 0):
            file.seek(size * part // _SAMPLES)
            digest.update(file.read(_SAMPLE))
        file.seek(max(0, size - _BLOCK))
        digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:32]
