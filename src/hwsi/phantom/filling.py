"""Cells that all organs share: nests and stroma are filled, clashes resolved, figures put in.

- Order is rank: where two nuclei clash, the later one goes.
- Mitoses are set to a rate per mm2 of lesion inside the band of the asked score. The rates are scaled up openly
  against practice ("phantom mitotic rate"), so that they can be told on a slide of 2 mm.
- Benign tissue divides too (crypt bases, germinal centres, rarely ducts), and dies everywhere.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hwsi.phantom.canvas import FIELD_UM, Canvas, Stage
from hwsi.phantom.cells import Cells, apoptotic_body, graze, mitotic_figure, nuclei
from hwsi.phantom.drawing import CellKind, Compartment
from hwsi.phantom.geometry import Points, sample
from hwsi.phantom.glands import vessel
from hwsi.phantom.noise import hex_grid, smooth

C = Compartment
Rows = NDArray[np.intp]
MITOSES_PER_MM2 = {1: (0.0, 1.5), 2: (6.8, 11.2), 3: (23.0, 32.0)}
"""Phantom mitotic rate by score: figures per mm2 of lesion; the gaps between the bands are never drawn."""

_NEST_SPACING = {"tumour1": 8.2, "tumour2": 9.6, "tumour3": 11.9, "benign": 7.4}
_NO_NUCLEI = (C.GLASS, C.LUMEN, C.FAT)


def lay_vessels(canvas: Canvas) -> None:
    """Small vessels in stroma; some with a muscle wall."""
    rng = canvas.rng(Stage.VESSELS)
    for xy in canvas.sites(rng, canvas.tissue, 210, 0.3, 24):
        if canvas.here(xy[None])[0] in (C.STROMA, C.MUSCLE, C.DESMOPLASIA):
            thick = rng.random() < 0.25
            vessel(canvas, rng, xy, rng.uniform(7, 20), wall_um=rng.uniform(6, 14) if thick else 0.0)


def fill_epithelium(canvas: Canvas) -> None:
    """Cells of every solid nest, by what its structure says it is filled with."""
    rng = canvas.rng(Stage.EPITHELIUM)
    inside = (canvas.compartments == C.SOLID).astype(np.uint8)
    room = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    kinds = {str(s.attrs["nuclei"]) for s in canvas.structures if "nuclei" in s.attrs and s.kind != "single_files"}
    filling = np.array([str(s.attrs.get("nuclei", "")) if s.kind != "single_files" else "" for s in canvas.structures])
    neoplastic = np.array([bool(s.attrs.get("neoplastic", False)) for s in canvas.structures])
    for kind in sorted(kinds):
        xy = hex_grid(rng, canvas.box, _NEST_SPACING[kind], 0.16)
        owner = sample(canvas.owner, xy)
        kept = (sample(room, xy) > 2.4) & (owner >= 0) & (rng.random(len(xy)) < 0.96)
        kept &= filling[np.maximum(owner, 0)] == kind
        cells = nuclei(rng, kind, xy[kept], rng.uniform(0, np.pi, int(kept.sum())))
        cells["structure"] = owner[kept]
        cells["neoplastic"] = neoplastic[owner[kept]]
        canvas.add(cells)


def fill_rest(canvas: Canvas) -> None:
    """Necrotic debris, lymphoid tissue, germinal centres, stroma and muscle."""
    rng = canvas.rng(Stage.STROMA)
    xy = hex_grid(rng, canvas.box, 5.2, 0.35)
    xy = xy[(canvas.here(xy) == C.NECROSIS) & (rng.random(len(xy)) < 0.3)]
    canvas.add(nuclei(rng, "debris", xy))
    xy = hex_grid(rng, canvas.box, 6.25, 0.13)
    xy = xy[canvas.here(xy) == C.LYMPHOID]
    # the paracortex of the lesion field is thinned by histiocytes, so that a count of cells tells no diagnosis
    thinned = sample(canvas.lesion, xy, FIELD_UM) * rng.uniform(0.1, 0.55)
    draw = rng.random(len(xy))
    canvas.add(nuclei(rng, "lymphocyte", xy[draw < 0.94 - thinned]))
    canvas.add(nuclei(rng, "macrophage", xy[draw > 1 - 0.35 * thinned]))
    xy = hex_grid(rng, canvas.box, 8.9, 0.17)
    xy = xy[canvas.here(xy) == C.GERMINAL]
    small = rng.random(len(xy)) < 0.2
    canvas.add(nuclei(rng, "centrocyte", xy[~small]))
    canvas.add(nuclei(rng, "lymphocyte", xy[small]))
    _stromal(canvas, rng, C.STROMA, "fibroblast", 13.0, 0.85)
    _stromal(canvas, rng, C.STROMA, "endothelium", 34, 0.7)
    _stromal(canvas, rng, C.DESMOPLASIA, "myofibroblast", 11.5, 0.85)
    _stromal(canvas, rng, C.MUSCLE, "smooth_muscle", 14.0, 0.85)


def _stromal(
    canvas: Canvas, rng: np.random.Generator, where: Compartment, kind: str, spacing_um: float, share: float
) -> None:
    xy = hex_grid(rng, canvas.box, spacing_um * 0.85, 0.36)
    crowd = sample(smooth(rng, canvas.coarse_shape, 90 / FIELD_UM, 2), xy, FIELD_UM)
    likely = np.clip(share * 0.72 * (1 + 0.45 * crowd), 0.1, 1)
    xy = xy[(canvas.here(xy) == where) & (rng.random(len(xy)) < likely)]
    canvas.add(nuclei(rng, kind, xy, canvas.direction(xy)))


def inflame(canvas: Canvas) -> None:
    """Lymphocytes and plasma cells in the stroma, in clouds; thicker in the lesion."""
    rng = canvas.rng(Stage.INFLAMMATION)
    spec = canvas.spec
    cloud = smooth(rng, canvas.coarse_shape, 300 / FIELD_UM, 3)
    xy = hex_grid(rng, canvas.box, 7.2, 0.22)
    here = canvas.here(xy)
    base, swing = ((0.014, 0.02), (0.11, 0.10), (0.40, 0.22))[spec.til]
    likely = np.clip(base + swing * sample(cloud, xy, FIELD_UM), 0, 0.85)
    likely = likely * np.where(sample(canvas.lesion, xy, FIELD_UM), 1.0, 0.3)
    likely = likely * np.where(here == C.MUSCLE, 0.7, 1.0)
    xy = xy[np.isin(here, (C.STROMA, C.DESMOPLASIA, C.MUSCLE)) & (rng.random(len(xy)) < likely)]
    plasma = rng.random(len(xy)) < spec.plasma
    canvas.add(nuclei(rng, "plasma", xy[plasma]))
    canvas.add(nuclei(rng, "lymphocyte", xy[~plasma]))


def resolve(canvas: Canvas) -> Cells:
    """All cells that lie in tissue and do not clash, some of them grazed by the section."""
    rng = canvas.rng(Stage.OVERLAP)
    cells = canvas.all_cells()
    xy = np.stack([cells["x_um"], cells["y_um"]], 1).astype(np.float64)
    inside = (xy >= 0).all(1) & (xy[:, 0] < canvas.width) & (xy[:, 1] < canvas.height)
    here = canvas.here(xy)
    inside &= ~np.isin(here, _NO_NUCLEI)
    # what was covered by a later structure is gone, and little lives in secretion, keratin, blood and necrosis
    inside &= (cells["structure"] < 0) | (cells["structure"] == sample(canvas.owner, xy))
    inside &= ~np.isin(here, (C.SECRETION, C.KERATIN, C.BLOOD)) | (cells["kind"] == CellKind.LYMPHOCYTE)
    inside &= (here != C.NECROSIS) | (cells["kind"] == CellKind.APOPTOTIC) | (rng.random(len(cells)) < 0.12)
    cells, xy = cells[inside], xy[inside]
    graze(rng, cells, 0.13)
    radius = np.sqrt(cells["ra_um"] * cells["rb_um"]).astype(np.float64)
    pairs = cKDTree(xy).query_pairs(14.0, output_type="ndarray")
    apart = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T)
    flat = np.minimum(cells["rb_um"][pairs[:, 0]], cells["rb_um"][pairs[:, 1]]) < 2
    allowed = np.where((cells["kind"][pairs] == CellKind.TUMOUR).any(1), 0.9, 0.82) * np.where(flat, 0.8, 1.0)
    clash = np.sort(pairs[apart < allowed * (radius[pairs[:, 0]] + radius[pairs[:, 1]])], axis=1)
    clash = clash[np.lexsort((clash[:, 1], clash[:, 0]))]
    gone = np.zeros(len(cells), bool)
    for first, later in clash:
        if not gone[first]:
            gone[later] = True
    return cells[~gone]


def divide_and_die(canvas: Canvas, cells: Cells) -> Cells:
    """Put mitotic figures and apoptotic bodies in; returns the new table."""
    rng = canvas.rng(Stage.FIGURES)
    spec = canvas.spec
    xy = np.stack([cells["x_um"], cells["y_um"]], 1).astype(np.float64)
    far = (xy > 10).all(1) & (xy[:, 0] < canvas.width - 10) & (xy[:, 1] < canvas.height - 10)
    in_lesion = sample(canvas.lesion_um, xy)
    embolus = np.array([s.kind == "embolus" for s in canvas.structures] + [False])[cells["structure"]]
    lesional = np.flatnonzero(cells["neoplastic"] & far & in_lesion & ~embolus & ~cells["grazed"])
    area_mm2 = float(canvas.lesion_um.sum()) / 1e6
    low, high = MITOSES_PER_MM2[spec.mitoses]
    count = int(np.clip(round(rng.uniform(low, high) * area_mm2), np.ceil(low * area_mm2), high * area_mm2))
    chosen = _spread(rng, xy, lesional, min(count, len(lesional) // 6))
    # what divides in health: crypt bases and glands, germinal centres; the ranges are per 1,000 cells
    resting = np.flatnonzero((cells["kind"] == CellKind.EPITHELIUM) & ~cells["neoplastic"] & far)
    germinal = np.flatnonzero((canvas.here(xy) == C.GERMINAL) & far)
    benign = np.concatenate([
        _spread(rng, xy, resting, rng.poisson(len(resting) * (1.2e-3 if spec.organ == "colon" else 0.4e-3))),
        _spread(rng, xy, germinal, rng.poisson(len(germinal) * 4e-3)),
    ]).astype(np.intp)  # fmt: skip
    figures = np.concatenate([chosen, benign]).astype(np.intp)
    candidates = np.flatnonzero(np.isin(cells["kind"], (CellKind.TUMOUR, CellKind.EPITHELIUM, CellKind.LYMPHOCYTE)))
    candidates = np.setdiff1d(candidates, figures)
    dying = rng.permutation(candidates)[: rng.poisson(2 + 5 * area_mm2 + len(candidates) * 6e-4)]
    apoptotic_body(rng, cells, dying)
    gone = np.zeros(len(cells), bool)
    if len(figures):
        for near in cKDTree(xy).query_ball_point(xy[figures], 6.2):
            gone[near] = True  # a dividing cell rounds up and has its zone to itself
    gone[figures] = True
    new = [mitotic_figure(rng, cells[i : i + 1], k + 1) for k, i in enumerate(figures)]
    return np.concatenate([cells[~gone], *new])


def _spread(rng: np.random.Generator, xy: Points, among: Rows, count: int) -> Rows:
    """Up to ``count`` of the rows ``among``, at random, no two closer than 16 um."""
    chosen: list[int] = []
    for i in rng.permutation(among):
        if len(chosen) >= count:
            break
        if all(abs(xy[i, 0] - xy[j, 0]) + abs(xy[i, 1] - xy[j, 1]) > 22 for j in chosen):
            chosen.append(int(i))
    return np.array(chosen, np.intp)
