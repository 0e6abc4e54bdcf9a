"""The truth of a phantom slide: attributes at four scales, measured from what was drawn.

- ``attributes`` turns additive sums into attributes by the same rules for a region and for the slide.
- A value that lies within a margin of a threshold has no class (None): it is not asked.
- The diagnosis is the one thing taken from the request; everything else is measured.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from re import Match, compile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.drawing import Compartment, Drawing
from hwsi.phantom.measure import (
    ARTEFACTS,
    CONTENTS,
    PATCH_UM,
    PATTERNS,
    REGION_UM,
    Maps,
    Sums,
    derive_maps,
    distance_um,
    grid_shape,
    patch_sums,
)
from hwsi.phantom.spec import Spec

SCHEMA = "hwsi.phantom/1"
NEOPLASTIC_BENIGN = frozenset({"tubular adenoma"})
IN_SITU = frozenset({"ductal carcinoma in situ"})
WITHOUT_TUBULES = frozenset({"lung squamous cell carcinoma", "ductal carcinoma in situ", "tubular adenoma"})

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")

# thresholds and margins; a value v has no class if |v - t| < margin (relative margins are factors)
TUBULES, TUBULE_MARGIN = (0.75, 0.10), 0.04
PLEOMORPHISM, PLEOMORPHISM_MARGIN = (9.9, 13.9), 0.04
MITOSES_PER_MM2, MITOSIS_MARGIN = (4.0, 16.0), 0.15
TIL_PER_MM2, TIL_MARGIN = (600.0, 2600.0), 0.12
_EXTENT, _EXTENT_MARGIN = (1 / 3, 2 / 3), 0.03
GOBLETS = 0.145  # share of gland epithelium that is goblet mucin
_MIN_NUCLEI, _MIN_LESION_UM2, _MIN_STROMA_UM2, _MIN_INFLAMMATORY = 60, 150_000.0, 20_000.0, 25
_GERMINAL_UM2 = (400.0, 6000.0)
_NECROSIS_UM2, _KERATIN_UM2, _POOL_UM2 = (400.0, 4000.0), (200.0, 1500.0), (300.0, 2500.0)


def band(value: float, thresholds: Sequence[float], margin: float, *, relative: bool = False) -> int | None:
    """The class of a value: how many thresholds it exceeds; None within the margin of one, or if nan."""
    if not np.isfinite(value):
        return None
    if any(abs(value - t) < (margin * t if relative else margin) for t in thresholds):
        return None
    return int(sum(value > t for t in thresholds))


def _present(value: float, none_some: tuple[float, float]) -> bool | None:
    """False up to the first bound, True from the second on, None between."""
    return None if none_some[0] < value < none_some[1] else bool(value >= none_some[1])


def _predominant(areas: NDArray[np.float64], least: float, lead: float = 2.0) -> int | None:
    """Index of the part that holds ``least`` of the whole and ``lead`` times the next; None if none does."""
    whole = float(areas.sum())
    if whole <= 0:
        return None
    order = np.argsort(-areas, kind="stable")
    best, second = areas[order[0]], areas[order[1]]
    return int(order[0]) if best / whole >= least and best >= lead * second else None


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")


def add_up(sums: Sums, rows: NDArray[np.int64]) -> Sums:
    """The sums of some patches as one row (arrays without their first axis)."""
    return {name: value[rows].sum(0) for name, value in sums.items()}


def attributes(total: Sums) -> dict[str, Any]:
    """Attributes that follow from additive sums; None (or absent evidence) where there is no clear class.

    Keys: measured numbers (``*_um2``, ``*_per_mm2``, ``*_fraction``, ``*_index``) and their classes
    ``tubule_score``, ``pleomorphism_score``, ``mitosis_score`` (1 to 3), ``nucleoli``, ``necrosis``, ``keratin``,
    ``mucin``, ``vascular_invasion`` (bool), ``til`` (0 to 2), ``inflammatory``, ``pattern``, ``content``.
    """
    compartments, patterns, contents = total["compartments"], total["patterns"], total["contents"]
    tissue, lesion = float(total["tissue"]), float(total["lesion"])
    neoplastic = float(patterns[1:].sum())
    nuclei = float(total["nuclei"])
    enough = nuclei >= _MIN_NUCLEI
    mean_area = _ratio(float(total["nuclear_area"]), nuclei)
    variance = _ratio(float(total["nuclear_area_sq"]), nuclei) - mean_area**2
    cv = float(np.sqrt(max(variance, 0.0)) / mean_area) if nuclei else float("nan")
    index = 2 * float(np.sqrt(mean_area / np.pi)) * (1 + cv) if nuclei else float("nan")
    with_lumen = patterns[PATTERNS.index("glandular")] + patterns[PATTERNS.index("cribriform")]
    tubules = _ratio(float(with_lumen), neoplastic)
    per_mm2 = _ratio(float(total["tumour_figures"]), lesion / 1e6)

    stroma = float(total["lesion_stroma"])
    lymphocytes, plasma = float(total["lesion_lymphocytes"]), float(total["lesion_plasma"])
    inflammatory = lymphocytes + plasma
    til_per_mm2 = _ratio(inflammatory, stroma / 1e6) if stroma >= _MIN_STROMA_UM2 else float("nan")
    plasma_fraction = _ratio(plasma, inflammatory)
    kind = band(plasma_fraction, (0.5,), 0.12) if inflammatory >= _MIN_INFLAMMATORY else None

    pattern = _predominant(patterns[1:], 0.6) if neoplastic >= 5000 else None
    content = _predominant(contents, 0.5) if tissue >= 50_000 else None
    measurable = neoplastic > 5000 and enough
    score = {
        "tubule_score": band(1 - tubules, [1 - t for t in TUBULES], TUBULE_MARGIN) if measurable else None,
        "pleomorphism_score": band(index, PLEOMORPHISM, PLEOMORPHISM_MARGIN, relative=True) if measurable else None,
        "mitosis_score": band(per_mm2, MITOSES_PER_MM2, MITOSIS_MARGIN, relative=True)
        if measurable and lesion >= _MIN_LESION_UM2
        else None,
    }
    in_cells = float(compartments[Compartment.MUCIN] - total["pools"])
    lining = float(compartments[Compartment.EPITHELIUM])
    goblets = _ratio(in_cells, in_cells + lining) if lining > 20_000 else float("nan")
    prominent = _ratio(float(total["prominent"]), nuclei)
    many = band(prominent, (0.5,), 0.15) if measurable else None
    nucleoli = None if many is None else many == 1
    necrosis = float(compartments[Compartment.NECROSIS])
    return {
        "tissue_um2": tissue,
        "lesion_um2": lesion,
        "neoplastic_um2": neoplastic,
        "tubule_fraction": tubules,
        "pleomorphism_index": index,
        "nuclear_area_um2": mean_area,
        "nuclear_area_cv": cv,
        "mitoses": int(total["tumour_figures"]),
        "mitoses_per_mm2": per_mm2,
        **{name: None if value is None else value + 1 for name, value in score.items()},
        "prominent_fraction": prominent,
        "nucleoli": nucleoli,
        "necrosis_um2": necrosis,
        "necrosis": _present(necrosis, _NECROSIS_UM2),
        "keratin": _present(float(compartments[Compartment.KERATIN]), _KERATIN_UM2),
        "mucin": _present(float(total["pools"]), _POOL_UM2),
        "germinal": _present(float(compartments[Compartment.GERMINAL]), _GERMINAL_UM2),
        "goblet_fraction": goblets,
        "goblet_cells": band(goblets, (GOBLETS,), 0.015),
        "vascular_invasion": bool(total["invaded_vessels"] > 0),
        "til_per_mm2": til_per_mm2,
        "til": band(til_per_mm2, TIL_PER_MM2, TIL_MARGIN, relative=True),
        "plasma_fraction": plasma_fraction,
        "inflammatory": None if kind is None else ("lymphocytes", "plasma cells")[kind],
        "pattern": None if pattern is None else PATTERNS[1 + pattern],
        "contents": {name: _ratio(float(a), tissue) for name, a in zip(CONTENTS, contents, strict=True)},
        "content": None if content is None else CONTENTS[content],
        "covered_fraction": 1 - _ratio(float(total["evaluable"]), tissue) if tissue else 0.0,
        "artefacts": [a for a, um2 in zip(ARTEFACTS, total["covered"], strict=True) if um2 > 0.02 * tissue],
    }


def grade_of(tubules: int, pleomorphism: int, mitoses: int) -> int:
    """Nottingham-like grade 1 to 3 of three scores 1 to 3: bands 3-5, 6-7, 8-9 of their sum."""
    total = tubules + pleomorphism + mitoses
    return 1 if total <= 5 else 2 if total <= 7 else 3


def _components(mask: NDArray[np.bool_], close_um: float, least: float) -> int:
    """Connected parts after bridging gaps of ``close_um``, each at least ``least`` of the whole."""
    closed = mask.astype(np.uint8)
    if close_um > 0:
        closed = (distance_um(mask) <= close_um / 2).astype(np.uint8)
    n, label = cv2.connectedComponents(closed, connectivity=8)
    areas = np.bincount(label[mask], minlength=n)[1:]
    return int((areas >= least * max(1, mask.sum())).sum())


def _agreed(*counts: int) -> int | None:
    """The count on which all measurements agree, else None."""
    return counts[0] if len(set(counts)) == 1 else None


def _quadrant(sums: Sums, name: NDArray[np.float64], rows: int, cols: int, least: float) -> str | None:
    """The quarter of the slide that holds clearly most (``least``) of what ``name`` sums."""
    r, c = np.divmod(np.arange(rows * cols), cols)
    quarter = np.zeros(4)
    for dr in (0, 1):
        for dc in (0, 1):
            # a middle row or column belongs half to either side
            wr = np.clip((r + 1) - rows / 2, 0, 1) if dr else np.clip(rows / 2 - r, 0, 1)
            wc = np.clip((c + 1) - cols / 2, 0, 1) if dc else np.clip(cols / 2 - c, 0, 1)
            quarter[2 * dr + dc] = (name * wr * wc).sum()
    best = _predominant(quarter, least, 1.25)
    return None if best is None else QUADRANTS[best]


def slide_attributes(drawing: Drawing, spec: Spec, maps: Maps, sums: Sums) -> dict[str, Any]:
    """Attributes of the whole slide: those that add up, and those that need its layout."""
    rows, cols = grid_shape(drawing.width_um, drawing.height_um, PATCH_UM)
    found = attributes(add_up(sums, np.arange(rows * cols)))
    neoplastic = bool(found["neoplastic_um2"] > 5000)
    in_lesion = maps.content == CONTENTS.index("tumour")
    fragments = _agreed(_components(maps.tissue, 0, 0.015), _components(maps.tissue, 60, 0.04))
    foci = None
    if neoplastic:  # the drawn fields and what grew in them must tell the same
        foci = _agreed(_components(maps.lesion, 30, 0.05), _components(in_lesion, 0, 0.05))
    fraction = _ratio(float(in_lesion.sum()), float(maps.tissue.sum()))
    scores = (found["tubule_score"], found["pleomorphism_score"], found["mitosis_score"])
    graded = spec.malignant and spec.diagnosis not in WITHOUT_TUBULES and None not in scores
    edge = distance_um(~maps.tissue | _border(maps.tissue.shape))
    inflammatory = sums["stroma_lymphocytes"] + sums["stroma_plasma"]
    found |= {
        "neoplastic": neoplastic,
        "invasive": spec.malignant if neoplastic else False,
        "grade": grade_of(*scores) if graded else None,
        "fragments": fragments if fragments in (1, 2, 3) else None,
        "foci": foci,
        "focality": None if not foci else "one focus" if foci == 1 else "several foci",
        "lesion_fraction": fraction,
        "extent": band(fraction, _EXTENT, _EXTENT_MARGIN) if neoplastic else None,
        "margin_um": float(edge[in_lesion].min()) if neoplastic and in_lesion.any() else None,
        "where_necrosis": _quadrant(sums, sums["compartments"][:, Compartment.NECROSIS], rows, cols, 0.42)
        if found["necrosis"]
        else None,
        "where_infiltrate": _quadrant(sums, inflammatory, rows, cols, 0.36)
        if float(inflammatory.sum()) >= 4 * _MIN_INFLAMMATORY and spec.organ != "lymph node"
        else None,
        "where_tumour": _quadrant(sums, sums["contents"][:, CONTENTS.index("tumour")], rows, cols, 0.36)
        if neoplastic
        else None,
        "cells": len(drawing.cells),
        "figures": int(sums["figures"].sum()),
    }
    if spec.diagnosis in WITHOUT_TUBULES:
        found["tubule_score"] = None
    return found


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    edge = np.ones(shape, np.bool_)
    edge[1:-1, 1:-1] = False
    return edge


@dataclass(frozen=True)
class Region:
    """One square of the 1024-um grid: ``grid`` (row, column), its attributes, the patches that show it."""

    grid: tuple[int, int]
    box_um: tuple[int, int, int, int]
    tissue: float
    attrs: dict[str, Any]
    patches: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Measured:
    """What was measured: attributes of the slide, of its regions, and sums and classes of its patches."""

    slide: dict[str, Any]
    regions: tuple[Region, ...]
    patches: dict[str, NDArray[np.generic]]
    region_grid: tuple[int, int] = (1, 1)


def measure(drawing: Drawing, spec: Spec) -> Measured:
    """Measure a drawing at all scales. Artefacts count if the developer has filled ``drawing.artefacts``."""
    maps = derive_maps(drawing)
    sums = patch_sums(drawing, maps)
    rows, cols = grid_shape(drawing.width_um, drawing.height_um, PATCH_UM)
    grid = np.stack(np.divmod(np.arange(rows * cols), cols), 1)
    per_region = REGION_UM // PATCH_UM
    regions = []
    shape = grid_shape(drawing.width_um, drawing.height_um, REGION_UM)
    for r in range(shape[0]):
        for c in range(shape[1]):
            ours = np.flatnonzero((grid // per_region == (r, c)).all(1))
            x0, y0 = c * REGION_UM, r * REGION_UM
            x1, y1 = min(x0 + REGION_UM, drawing.width_um), min(y0 + REGION_UM, drawing.height_um)
            total = add_up(sums, ours)
            shown = [tuple(map(int, grid[i])) for i in _showing(sums, ours)]
            tissue = float(total["tissue"]) / ((x1 - x0) * (y1 - y0))
            regions.append(Region((r, c), (x0, y0, x1, y1), tissue, attributes(total), tuple(shown)))  # type: ignore[arg-type]
    return Measured(slide_attributes(drawing, spec, maps, sums), tuple(regions), patch_table(sums, grid), shape)


def _showing(sums: Sums, ours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to three patches of a region that hold most of its predominant tissue."""
    contents = sums["contents"][ours]
    best = np.argsort(-contents[:, int(contents.sum(0).argmax())], kind="stable")[:3]
    return ours[best[sums["tissue"][ours[best]] > 0]]


def patch_table(sums: Sums, grid: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``patches.npz`` but ``phrase``, one row per patch of the grid (docs/architecture.md)."""
    tissue = sums["tissue"]
    full = float(PATCH_UM**2)
    nuclei = np.where(sums["nuclei"] >= 3, sums["nuclei"], np.nan)
    area = sums["nuclear_area"] / nuclei
    spread = np.sqrt(np.maximum(sums["nuclear_area_sq"] / nuclei - area**2, 0))
    stroma = np.where(sums["stroma"] >= 1500, sums["stroma"], np.nan)
    inflammatory = sums["stroma_lymphocytes"] + sums["stroma_plasma"]
    some = np.where(inflammatory >= 5, inflammatory, np.nan)
    safe = np.maximum(tissue, 1.0)
    patterns = sums["patterns"].copy()
    patterns[:, 0] = 0
    has_lesion = patterns.sum(1) >= 0.05 * full
    f4 = np.float32
    return {
        "grid": grid.astype(np.int64),
        "tissue": (tissue / full).astype(f4),
        "compartments": (sums["compartments"] / full).astype(f4),
        "counts": sums["counts"].astype(np.int32),
        "mitoses": sums["figures"].astype(np.int32),
        "nuclear_area_um2": area.astype(f4),
        "nuclear_area_cv": (spread / area).astype(f4),
        "nucleolus": (sums["nucleolus"] / nuclei).astype(f4),
        "pattern": np.where(has_lesion, patterns.argmax(1), 0).astype(np.int32),
        "content": np.where(tissue >= 0.1 * full, sums["contents"].argmax(1), -1).astype(np.int32),
        "contents": (sums["contents"] / safe[:, None]).astype(f4),
        "necrosis": (sums["compartments"][:, Compartment.NECROSIS] / safe).astype(f4),
        "til_per_mm2": (inflammatory / stroma * 1e6).astype(f4),
        "plasma_fraction": (sums["stroma_plasma"] / some).astype(f4),
        "lesion": (sums["contents"][:, CONTENTS.index("tumour")] / safe).astype(f4),
        "mucin": (sums["pools"] / safe).astype(f4),
        "invaded_vessels": sums["invaded_vessels"].astype(np.int32),
        "artefact": (sums["covered"] / safe[:, None]).astype(f4),
        "evaluable": (sums["evaluable"] / safe).astype(f4),
    }


@dataclass(frozen=True)
class Truth:
    """All that is known of one phantom slide.

    Attributes:
        record: what ``truth.json`` holds (docs/architecture.md).
        patches: arrays of ``patches.npz``; cells: arrays of ``cells.npz``.
    """

    record: dict[str, Any]
    patches: dict[str, NDArray[np.generic]] = field(repr=False)
    cells: dict[str, NDArray[np.generic]] = field(repr=False)


_CITATION = compile(r"\{R:(\d+),(\d+)\}")


def load_truth(path: str | Path) -> dict[str, Any]:
    """Read ``NAME.truth.json``, given itself or its slide. Raises: slide_missing, slide_corrupt."""
    path = Path(path)
    if not path.name.endswith(".truth.json"):
        path = path.with_name(path.stem + ".truth.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HwsiError(Reason.SLIDE_MISSING, f"no truth at {path}", "make it with hwsi phantom") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise HwsiError(Reason.SLIDE_CORRUPT, f"{path}: {error}", "make the slide again") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise HwsiError(Reason.SLIDE_CORRUPT, f"{path} is not of schema {SCHEMA}", "make the slide again")
    return record


def fill_labels(text: str, label_of: Callable[[int, int], str | None]) -> str:
    """Replace each ``{R:row,col}`` by the label of that region; a region that has none is called so."""

    def label(match: Match[str]) -> str:
        return label_of(int(match[1]), int(match[2])) or "a region without tissue"

    return _CITATION.sub(label, text)


def cited(text: str) -> list[tuple[int, int]]:
    """The regions (row, col) that a text cites as ``{R:row,col}``, in order."""
    return [(int(r), int(c)) for r, c in _CITATION.findall(text)]
