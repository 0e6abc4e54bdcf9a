"""Which backend opens a path, and what is said of a path that none opens. The content decides, not the name."""

import hashlib
import logging
import string
from pathlib import Path

from hwsi.errors import HwsiError, Reason
from hwsi.slide.backend import Backend

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".svslide", ".qptiff")
_FORMATS = "hand in SVS, NDPI, MRXS, SCN, BIF, DICOM, (OME-)TIFF, PNG or JPEG"
_BLOCK = 1 << 20

# tifffile logs what it finds odd; what matters is raised, and stderr belongs to the command line
logging.getLogger("tifffile").addHandler(logging.NullHandler())


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
    if (mirax := directory.with_name(directory.name + ".mrxs")).is_file():
        return mirax
    for file in sorted(p for p in directory.iterdir() if p.is_file()):
        with file.open("rb") as opened:
            if opened.read(132)[128:] == b"DICM":
                return file
    raise HwsiError(
        Reason.SLIDE_UNSUPPORTED, f"the directory {directory.name} holds no DICOM slide", "hand in the slide's file"
    )


def open_backend(path: Path) -> Backend:
    """The backend for a file that :func:`locate` gave.

    Raises:
        HwsiError: SLIDE_UNSUPPORTED, SLIDE_CORRUPT.
    """
    from hwsi.slide import openslide_backend

    with path.open("rb") as file:
        head = file.read(512)
    is_tiff = head[:4] in _TIFF_MAGIC
    if is_tiff and _is_ome(path):
        # OpenSlide would see only the first of its levels
        from hwsi.slide.tiff_backend import TiffBackend

        return TiffBackend(path)
    if openslide_backend.detect(path) is not None:
        return openslide_backend.OpenSlideBackend(path)
    if is_tiff:
        from hwsi.slide.tiff_backend import TiffBackend

        return TiffBackend(path)
    from hwsi.slide.image_backend import ImageBackend, is_picture

    if is_picture(path):
        return ImageBackend(path)
    raise _unknown(path, head)


def _is_ome(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return bool(tif.is_ome)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
        return False  # the backend that is tried next says what is wrong


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
    """Content fingerprint: sha256 over size, first and last MiB, and the identity of a series of files; 32 hex.

    Args:
        path: the slide's file.
        series: for formats of many files, what identifies all of them; '' else.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n{series}\n".encode())
    with path.open("rb") as file:
        digest.update(file.read(_BLOCK))
        file.seek(max(0, size - _BLOCK))
        digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:32]
