"""Measures a drawing: one row of additive sums per 128-um patch, from which every attribute follows.

- Sums add up: a region is the sum of its patches and a slide the sum of all, so the three scales cannot disagree.
- What is neoplastic is decided by the nearest epithelial nucleus; growth patterns by geometry: a lumen makes a
  gland, holes in solid epithelium make it cribriform, and epithelium thinner than 22 um is single file.
- All areas are um2, all thresholds microns; nothing is read from the request (``Spec``).

Notation: n patches of the grid in reading order (rows, then columns), H and W the drawing in um.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hwsi.phantom.drawing import CellKind, Compartment, Drawing

PATCH_UM = 128
REGION_UM = 1024
ARTEFACTS = ("pen", "fold", "blur", "bubble")
PATTERNS = ("none", "glandular", "cribriform", "solid", "single file")
CONTENTS = ("tumour", "benign glands", "lymphoid tissue", "fat", "muscle", "alveoli", "stroma")

STEP_UM = 4  # grid of the derived maps
_TUMOUR_REACH_UM, _GLAND_REACH_UM, _AIR_REACH_UM = 30.0, 26.0, 16.0
_FILE_WIDTH_UM = 22.0  # epithelium that a disc of this diameter does not fit is a single file
_HOLE_UM2 = (60.0, 6000.0)  # punched-out holes of cribriform epithelium
_CRIBRIFORM_REACH_UM = 28.0
_POOL_DIAMETER_UM = 26.0  # larger than any goblet
_NUCLEOLUS = 0.35  # strength of a nucleolus above which it is prominent
_EPITHELIAL = (CellKind.TUMOUR, CellKind.EPITHELIUM, CellKind.MITOSIS)
_STROMA = (Compartment.STROMA, Compartment.DESMOPLASIA, Compartment.MUSCLE)  # the prostate's is of muscle

Map = NDArray[np.bool_]
Sums = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Maps:
    """Derived maps on a 4-um grid, each (ceil(H / 4), ceil(W / 4)).

    Attributes:
        comp: uint8, compartment at the centre of each square.
        tissue, lesion: bool; the lesion is the drawn field inside the tissue.
        neoplastic: bool, neoplastic epithelium.
        pattern: uint8, index into :data:`PATTERNS`, 0 where the epithelium is not neoplastic.
        content: uint8, index into :data:`CONTENTS`, 255 on glass.
        pools: bool, extracellular mucin.
    """

    comp: NDArray[np.uint8]
    tissue: Map
    lesion: Map
    neoplastic: Map
    pattern: NDArray[np.uint8]
    content: NDArray[np.uint8]
    pools: Map


def disc(diameter_um: float, step_um: float) -> NDArray[np.uint8]:
    """A disc as a structuring element on a grid of ``step_um``; at least 3 x 3."""
    side = max(3, 2 * round(diameter_um / step_um / 2) + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def distance_um(mask: Map, step_um: float = STEP_UM) -> NDArray[np.float32]:
    """Distance of each square to the nearest True one, in um; infinite if there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(away, np.float32) * np.float32(step_um)


def is_in(comp: NDArray[np.uint8], *kinds: int) -> Map:
    """Where ``comp`` is one of ``kinds``."""
    table = np.zeros(256, np.bool_)
    table[list(kinds)] = True
    return np.asarray(table[comp], np.bool_)


def _holes(comp: NDArray[np.uint8], step_um: float) -> tuple[Map, Map]:
    """Lumens punched into solid epithelium, and lumens that no epithelium lines (air, empty vessels)."""
    lumen = is_in(comp, Compartment.LUMEN, Compartment.SECRETION).astype(np.uint8)
    n, label, stats, _ = cv2.connectedComponentsWithStats(lumen, connectivity=4)
    ring = cv2.dilate(label.astype(np.float32), disc(3 * step_um, step_um)).astype(np.int64)
    ring[lumen > 0] = 0
    around = np.maximum(np.bincount(ring.ravel(), minlength=n), 1)
    solid = np.bincount(ring.ravel(), (comp == Compartment.SOLID).ravel(), minlength=n) / around
    lined = np.bincount(ring.ravel(), is_in(comp, Compartment.SOLID, Compartment.EPITHELIUM).ravel(), minlength=n)
    area = stats[:, cv2.CC_STAT_AREA] * step_um**2
    hole = (solid > 0.6) & (area > _HOLE_UM2[0]) & (area < _HOLE_UM2[1])
    bare = lined / around < 0.25
    hole[0] = bare[0] = False
    return hole[label], bare[label]


def derive_maps(drawing: Drawing) -> Maps:
    """The maps that compartments and cells imply; about 0.3 s for 2048 x 2048 um."""
    fine = np.ascontiguousarray(drawing.compartments[1::2, 1::2])  # 2 um: single files are ~11 um wide
    comp = np.ascontiguousarray(drawing.compartments[2::STEP_UM, 2::STEP_UM])
    h, w = comp.shape
    tissue = comp != Compartment.GLASS
    lesion = drawing.lesion[2::STEP_UM, 2::STEP_UM] & tissue

    epithelium = is_in(comp, Compartment.EPITHELIUM, Compartment.SOLID)
    cells = drawing.cells[np.isin(drawing.cells["kind"], _EPITHELIAL)]
    neoplastic = np.zeros((h, w), np.bool_)
    if cells["neoplastic"].any() and epithelium.any():
        yx = np.argwhere(epithelium)
        tree = cKDTree(np.stack([cells["x_um"], cells["y_um"]], 1))
        _, nearest = tree.query((yx[:, ::-1] + 0.5) * STEP_UM, distance_upper_bound=60.0)
        known = np.append(cells["neoplastic"], False)[nearest]
        neoplastic[yx[:, 0], yx[:, 1]] = known

    solid = (fine == Compartment.SOLID).astype(np.uint8)
    wide = cv2.dilate(cv2.morphologyEx(solid, cv2.MORPH_OPEN, disc(_FILE_WIDTH_UM, 2)), disc(6, 2))
    hole, bare = _holes(fine, 2)
    cribriform = distance_um(hole, 2) < _CRIBRIFORM_REACH_UM
    at = (slice(0, 2 * h, 2), slice(0, 2 * w, 2))

    def coarse(mask: NDArray[np.generic]) -> Map:
        small = np.zeros((h, w), np.bool_)
        part = mask[at].astype(np.bool_)[:h, :w]
        small[: part.shape[0], : part.shape[1]] = part
        return small

    pattern = np.zeros((h, w), np.uint8)
    pattern[neoplastic] = PATTERNS.index("glandular")
    of_solid = neoplastic & (comp == Compartment.SOLID)
    pattern[of_solid] = PATTERNS.index("single file")
    pattern[of_solid & coarse(wide)] = PATTERNS.index("solid")
    pattern[of_solid & coarse(cribriform)] = PATTERNS.index("cribriform")

    mucin = (fine == Compartment.MUCIN).astype(np.uint8)
    pools = coarse(cv2.dilate(cv2.morphologyEx(mucin, cv2.MORPH_OPEN, disc(_POOL_DIAMETER_UM, 2)), disc(6, 2)))
    pools &= comp == Compartment.MUCIN

    benign = epithelium & ~neoplastic
    air = coarse(bare)
    content = np.full((h, w), CONTENTS.index("stroma"), np.uint8)
    content[comp == Compartment.MUSCLE] = CONTENTS.index("muscle")
    content[distance_um(air) < _AIR_REACH_UM] = CONTENTS.index("alveoli")
    content[is_in(comp, Compartment.LYMPHOID, Compartment.GERMINAL, Compartment.SINUS)] = CONTENTS.index(
        "lymphoid tissue"
    )
    in_gland = is_in(comp, Compartment.LUMEN, Compartment.SECRETION, Compartment.MUCIN) & ~air
    near_benign, near_tumour = distance_um(benign), distance_um(neoplastic)
    of_tumour = is_in(comp, Compartment.NECROSIS, Compartment.KERATIN, Compartment.DESMOPLASIA) | pools
    content[(near_benign < _GLAND_REACH_UM) | (in_gland & (near_benign <= near_tumour))] = CONTENTS.index(
        "benign glands"
    )
    content[comp == Compartment.FAT] = CONTENTS.index("fat")
    ours = (near_tumour < _TUMOUR_REACH_UM) & (near_tumour <= near_benign) & (comp != Compartment.FAT)
    if neoplastic.any():
        ours |= of_tumour & lesion
        ours |= in_gland & (near_tumour < near_benign)
    content[ours] = CONTENTS.index("tumour")
    content[~tissue] = 255
    return Maps(comp, tissue, lesion, neoplastic, pattern, content, pools)


def grid_shape(width_um: int, height_um: int, side_um: int) -> tuple[int, int]:
    """Rows and columns of the grid of squares of ``side_um`` that covers the drawing."""
    return -(-height_um // side_um), -(-width_um // side_um)


def patch_sums(drawing: Drawing, maps: Maps) -> Sums:
    """Additive sums, one row per patch in reading order.

    Returns:
        name -> (n,) float64 (areas um2, counts), and ``compartments`` (n, 16), ``counts`` (n, 11) by
        :class:`CellKind`, ``patterns`` (n, 5), ``contents`` (n, 7), ``covered`` (n, 4) um2 of tissue under
        each of :data:`ARTEFACTS`, ``evaluable`` um2 of tissue under none.
    """
    rows, cols = grid_shape(drawing.width_um, drawing.height_um, PATCH_UM)
    n = rows * cols
    sums: Sums = {}

    def ids(shape: tuple[int, ...], step_um: int) -> NDArray[np.int64]:
        r = np.arange(shape[0]) * step_um // PATCH_UM
        c = np.arange(shape[1]) * step_um // PATCH_UM
        return (r[:, None] * cols + c[None, :]).astype(np.int64)

    exact = ids(drawing.compartments.shape, 1)
    sums["compartments"] = _histogram(exact, drawing.compartments, n, 16)
    of = ids(maps.comp.shape, STEP_UM)
    unit = float(STEP_UM**2)

    def area(mask: Map) -> NDArray[np.float64]:
        return np.bincount(of.ravel(), mask.ravel(), minlength=n).astype(np.float64) * unit

    stroma = is_in(maps.comp, *_STROMA)
    sums["tissue"] = sums["compartments"][:, 1:].sum(1)
    sums["lesion"] = area(maps.lesion)
    sums["lesion_stroma"] = area(maps.lesion & stroma)
    sums["stroma"] = area(stroma)
    sums["pools"] = area(maps.pools)
    sums["patterns"] = _histogram(of, maps.pattern, n, len(PATTERNS)) * unit
    sums["contents"] = _histogram(of, maps.content, n, 256)[:, : len(CONTENTS)] * unit
    sums |= _cell_sums(drawing, maps, n, cols)
    sums["invaded_vessels"] = _invaded_vessels(drawing, n, cols)

    covered = np.zeros((len(ARTEFACTS), *maps.comp.shape), np.bool_)
    for k, name in enumerate(ARTEFACTS):
        mask = drawing.artefacts.get(name)
        if mask is not None:
            size = (maps.comp.shape[1], maps.comp.shape[0])
            covered[k] = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    sums["covered"] = np.stack([area(m & maps.tissue) for m in covered], 1)
    sums["evaluable"] = area(maps.tissue & ~covered.any(0))
    return sums


def _histogram(of: NDArray[np.int64], values: NDArray[np.uint8], n: int, kinds: int) -> NDArray[np.float64]:
    flat = of.ravel() * kinds + values.ravel()
    return np.bincount(flat, minlength=n * kinds).reshape(n, kinds).astype(np.float64)


def _cell_sums(drawing: Drawing, maps: Maps, n: int, cols: int) -> Sums:
    cells = drawing.cells
    x = np.clip(cells["x_um"], 0, drawing.width_um - 1).astype(np.int64)
    y = np.clip(cells["y_um"], 0, drawing.height_um - 1).astype(np.int64)
    of = y // PATCH_UM * cols + x // PATCH_UM
    kind = cells["kind"].astype(np.int64)

    def total(mask: Map, weight: NDArray[np.generic] | None = None) -> NDArray[np.float64]:
        value = None if weight is None else weight[mask].astype(np.float64)
        return np.bincount(of[mask], value, minlength=n).astype(np.float64)

    sums: Sums = {"counts": _histogram(of, kind.astype(np.uint8), n, len(CellKind) + 1)}
    figures, first = np.unique(cells["figure"], return_index=True)
    first = first[(figures > 0) & (kind[first] == CellKind.MITOSIS)]
    in_tumour = cells["neoplastic"][first]
    sums["figures"] = np.bincount(of[first], minlength=n).astype(np.float64)
    sums["tumour_figures"] = np.bincount(of[first[in_tumour]], minlength=n).astype(np.float64)

    # a nucleus cut near its pole tells nothing of its size
    whole = ~cells["grazed"]
    nuclei = cells["neoplastic"] & whole & np.isin(kind, (CellKind.TUMOUR, CellKind.EPITHELIUM))
    area = np.pi * cells["ra_um"].astype(np.float64) * cells["rb_um"]
    sums["nuclei"] = total(nuclei)
    sums["nuclear_area"] = total(nuclei, area)
    sums["nuclear_area_sq"] = total(nuclei, area**2)
    sums["nucleolus"] = total(nuclei, cells["nucleolus"])
    sums["prominent"] = total(nuclei & (cells["nucleolus"] > _NUCLEOLUS))

    at = (np.minimum(y // STEP_UM, maps.comp.shape[0] - 1), np.minimum(x // STEP_UM, maps.comp.shape[1] - 1))
    in_stroma = is_in(maps.comp[at], *_STROMA)
    in_field = in_stroma & maps.lesion[at]
    for name, which in (("lymphocytes", CellKind.LYMPHOCYTE), ("plasma", CellKind.PLASMA)):
        sums[f"stroma_{name}"] = total((kind == which) & in_stroma)
        sums[f"lesion_{name}"] = total((kind == which) & in_field)
    return sums


def _invaded_vessels(drawing: Drawing, n: int, cols: int) -> NDArray[np.float64]:
    """Vessels with an embolus of at least four neoplastic nuclei, counted in the patch of their centre."""
    found = np.zeros(n)
    cells = drawing.cells[drawing.cells["neoplastic"]]
    if len(cells) == 0:
        return found
    xy = np.stack([cells["x_um"], cells["y_um"]], 1).astype(np.float32)
    for structure in drawing.structures:
        if structure.kind != "vessel" or not structure.attrs.get("tumour_embolus"):
            continue
        outline = structure.outline_um.astype(np.float32)
        low, high = outline.min(0), outline.max(0)
        near = xy[((xy >= low) & (xy <= high)).all(1)]
        inside = sum(cv2.pointPolygonTest(outline, (float(px), float(py)), False) > 0 for px, py in near)
        if inside >= 4:
            cx, cy = outline.mean(0).clip(0, (drawing.width_um - 1, drawing.height_um - 1))
            found[int(cy) // PATCH_UM * cols + int(cx) // PATCH_UM] += 1
    return found
