"""Slides behind URLs: what a folder of a storage holds, by fsspec.

- A URL that ends as a slide does is one; with ``*`` it is a pattern; any other is a folder, searched all the way down.
- Sizes come with the listing, so that time left and bytes are known of slides that nobody has opened.
"""

from pathlib import PurePosixPath
from typing import Any

from hwsi.errors import HwsiError, Reason

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it.

    Raises:
        HwsiError: EXTRA_MISSING without fsspec or what it needs for this kind of URL; OPTION_INVALID for no URL.
    """
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        what = f"{url} is read by fsspec: {error}"
        raise HwsiError(Reason.EXTRA_MISSING, what, "pip install 'hwsi[remote]', and what it names") from error
    except ValueError as error:
        what = f"{url} cannot be reached: {error}"
        raise HwsiError(Reason.OPTION_INVALID, what, "give a URL such as s3://bucket/folder") from error
    return system, str(path).rstrip("/")


def is_one_slide(url: str, suffixes: frozenset[str]) -> bool:
    """Whether a URL names one slide, by how it ends."""
    return "*" not in url and PurePosixPath(url).suffix.lower() in suffixes | _PICTURES


def list_slides(url: str, suffixes: frozenset[str]) -> list[tuple[str, int]]:
    """The slides of a folder or pattern: (URL, bytes), by name.

    Raises:
        HwsiError: SLIDE_MISSING if there is none or it can't be listed; what :func:`file_system` says.
    """
    system, path = file_system(url)
    try:
        found = system.glob(path, detail=True) if "*" in path else system.find(path, detail=True)
    except Exception as error:  # each kind of storage has errors of its own
        what = f"{url} cannot be listed: {type(error).__name__}: {error}"
        raise HwsiError(Reason.SLIDE_MISSING, what, "check the address and that you may read it") from error
    slides = [
        (str(system.unstrip_protocol(name)), int(told.get("size") or 0))
        for name, told in sorted(found.items())
        if told.get("type") == "file" and PurePosixPath(name).suffix.lower() in suffixes
    ]
    if not slides:
        todo = f"slides are found by their names: {' '.join(sorted(suffixes))}"
        raise HwsiError(Reason.SLIDE_MISSING, f"there is no slide in {url}", todo)
    return slides
