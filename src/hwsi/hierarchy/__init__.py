"""Slide > regions > patches > cells: the tree, the grid that makes it, selection, and citable labels."""

from hwsi.hierarchy.grid import build_grid
from hwsi.hierarchy.labels import parse_patch_label, parse_region_label, patch_label, region_label
from hwsi.hierarchy.selection import select_patches, select_regions
from hwsi.hierarchy.tree import CELL_TYPES, Cells, Hierarchy, Patches, Regions

__all__ = [
    "CELL_TYPES",
    "Cells",
    "Hierarchy",
    "Patches",
    "Regions",
    "build_grid",
    "parse_patch_label",
    "parse_region_label",
    "patch_label",
    "region_label",
    "select_patches",
    "select_regions",
]
