"""How an answer cites tissue: ``R3`` is a region, ``R3.P7`` a patch of it.

- Counting starts at one, since people read these.
- A patch is numbered row by row over the full grid of its region, background included, so that its label
  says where it lies and does not depend on which patches were encoded or kept.
"""

import re

LABEL = re.compile(r"\bR([1-9]\d*)(?:\.P([1-9]\d*))?\b")
"""Finds labels in text; group 1 is the region's number, group 2 the patch's (or None)."""


def region_label(region: int) -> str:
    """Label of the region with this index (from zero)."""
    if region < 0:
        raise ValueError(f"a region's index is not negative, got {region}")
    return f"R{region + 1}"


def patch_label(region: int, row: int, col: int, cols: int) -> str:
    """Label of the patch at (row, col) of a region whose grid has ``cols`` columns."""
    if row < 0 or not 0 <= col < cols:
        raise ValueError(f"no patch at row {row}, column {col} of a grid with {cols} columns")
    return f"{region_label(region)}.P{row * cols + col + 1}"


def parse_region_label(label: str) -> int:
    """Index of the region that a label names; the region of the patch, if it names a patch.

    Raises:
        ValueError: it is no label.
    """
    return int(_match(label).group(1)) - 1


def parse_patch_label(label: str, cols: int) -> tuple[int, int, int]:
    """(region, row, col) of a patch's label.

    Raises:
        ValueError: it is no label of a patch.
    """
    found = _match(label)
    if found.group(2) is None:
        raise ValueError(f"{label!r} names a region, not a patch")
    row, col = divmod(int(found.group(2)) - 1, cols)
    return int(found.group(1)) - 1, row, col


def _match(label: str) -> re.Match[str]:
    found = LABEL.fullmatch(label)
    if found is None:
        raise ValueError(f"{label!r} is no label such as R3 or R3.P7")
    return found
