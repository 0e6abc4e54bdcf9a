"""How invasive carcinomas grow: tubules, solid nests and single files, necrosis, desmoplasia, emboli.

- The share of tumour area that forms tubules is met by area, not by tossing coins: sites are ranked by a smooth
  field (so that some parts of a tumour are tubular and some are not) and taken until the share is reached.
- Shares are drawn inside each score's range, clear of the margins at 10 and 75 %.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hwsi.phantom.canvas import FIELD_UM, Canvas, Mask, Stage
from hwsi.phantom.cells import nuclei, tumour
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.geometry import Blob, Points, sample
from hwsi.phantom.glands import Lining, gland, nest, punch, vessel
from hwsi.phantom.noise import smooth

TUBULE_SHARE = {1: (0.87, 0.985), 2: (0.17, 0.63), 3: (0.0, 0.04)}
"""Range of the share of tumour area with lumens, by tubule score."""


@dataclass(frozen=True)
class Habit:
    """How a carcinoma of one organ looks.

    Attributes:
        pitch_um: between its structures; radius_um: range of their half width.
        height_um: of the epithelium; layers of nuclei in it.
        irregularity: of outlines; stretch: largest long over short axis.
        cribriform: share of the structures with lumens that hold several.
        dirty: share of lumens with necrosis if there is any.
        desmoplasia: whether it makes its own stroma; clear_um: cleft around a structure.
    """

    pitch_um: float
    radius_um: tuple[float, float]
    height_um: float
    layers: int = 1
    irregularity: float = 0.2
    stretch: float = 1.7
    cribriform: float = 0.1
    dirty: float = 0.0
    desmoplasia: bool = True
    clear_um: float = 0.0
    secretion: float = 0.35


def invade(canvas: Canvas, habit: Habit, field: Mask | None = None) -> None:
    """Fill the lesion with carcinoma of this habit."""
    rng = canvas.rng(Stage.GROWTH)
    spec = canvas.spec
    field = canvas.lesion if field is None else field
    centres = canvas.sites(rng, field, habit.pitch_um, 0.22)
    # a tumour is not a lawn: some parts are packed, some are mostly stroma
    sparse = sample(smooth(rng, canvas.coarse_shape, 260 / FIELD_UM, 2), centres, FIELD_UM)
    centres = centres[rng.random(len(centres)) < np.clip(1.06 + 0.35 * sparse, 0.45, 0.98)]
    n = len(centres)
    if n == 0:
        return
    grown = (0.95, 1.0, 1.12)[spec.pleomorphism - 1]
    height = habit.height_um * grown
    low, high = habit.radius_um
    radius = low + (high - low) * rng.beta(1.3, 1.6, n)
    stretch = rng.uniform(1, habit.stretch, n) ** 0.5
    area = radius**2
    part = smooth(rng, canvas.coarse_shape, max(8, 500 / FIELD_UM), 2)
    rank = sample(part, centres, FIELD_UM) + rng.normal(0, 0.7, n)
    share = rng.uniform(*TUBULE_SHARE[spec.tubules])
    order = np.argsort(rank)
    before = np.cumsum(area[order]) - area[order] / 2
    tubular = np.zeros(n, bool)
    tubular[order] = before < share * area.sum()
    lining = Lining(
        tumour(spec.pleomorphism),
        height,
        (6.6, 7.8, 9.6)[spec.pleomorphism - 1],
        layers=habit.layers,
        depth=0.45,
        neoplastic=True,
    )
    for i in rng.permutation(n):
        q = radius[i] / stretch[i]
        angle = float(canvas.direction(centres[i][None])[0] + rng.normal(0, 0.6))
        if tubular[i]:
            q = max(q, height + 6.0)
            outline = Blob(rng, centres[i], q * stretch[i] ** 2, q, angle, habit.irregularity * 0.7)
            if q > 24 and rng.random() < habit.cribriform:
                index = nest(canvas, outline, "tumour_gland", lining.nuclei, lumen=True, pattern="cribriform")  # type: ignore[arg-type]
                holes = punch(canvas, rng, outline, max(2, int(outline.area_um2 / 900)))
                canvas.structures[index].attrs["lumen"] = holes > 0
            else:
                dirty = spec.necrosis and rng.random() < habit.dirty
                gland(canvas, rng, outline, lining, "tumour_gland", clear_um=habit.clear_um,
                      secretion=habit.secretion, debris=dirty, pattern="tubular")  # fmt: skip
        else:
            outline = Blob(rng, centres[i], q * stretch[i] ** 2 * 1.05, q, angle, habit.irregularity)
            nest(canvas, outline, "tumour_nest", tumour(spec.pleomorphism), clear_um=habit.clear_um)
    if habit.desmoplasia:
        make_stroma(canvas, field)


def single_files(canvas: Canvas) -> None:
    """Cells one behind the other along the fibres, with few small clusters: invasive lobular carcinoma."""
    rng = canvas.rng(Stage.GROWTH)
    spec = canvas.spec
    step = (7.4, 8.6, 10.6)[spec.pleomorphism - 1]
    head = canvas.sites(rng, canvas.lesion, 29, 0.3)
    head = head[rng.random(len(head)) < 0.85]
    alive = rng.integers(2, 11, len(head))
    sign = rng.choice([-1.0, 1.0], len(head))
    places: list[Points] = []
    turns: list[Points] = []
    for k in range(10):
        turn = canvas.direction(head).astype(np.float64)
        going = k < alive
        places.append(head[going] + rng.normal(0, 0.8, (int(going.sum()), 2)))
        turns.append(turn[going])
        stride = step * rng.uniform(0.9, 1.2, (len(head), 1)) * sign[:, None]
        head = head + np.stack([np.cos(turn), np.sin(turn)], 1) * stride
    xy, theta = np.vstack(places), np.concatenate(turns)
    kept = sample(canvas.lesion, xy, FIELD_UM) & (canvas.here(xy) == Compartment.STROMA)
    xy, theta = xy[kept], theta[kept]
    if not len(xy):
        return
    outline = np.array([xy.min(0), [xy[:, 0].max(), xy[:, 1].min()], xy.max(0), [xy[:, 0].min(), xy[:, 1].max()]])
    index = canvas.begin("single_files", outline, lumen=False, myoepithelium=False, pattern="single-file",
                         nuclei=tumour(spec.pleomorphism), neoplastic=True, n_cells=len(xy))  # fmt: skip
    for point, turn in zip(xy, theta, strict=True):
        around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        x, y = step * 0.62 * np.cos(around), step * 0.5 * np.sin(around)
        c, s = np.cos(turn), np.sin(turn)
        canvas.fill(point + np.stack([x * c - y * s, x * s + y * c], 1), Compartment.SOLID, index)
    canvas.add(nuclei(rng, tumour(spec.pleomorphism), xy, theta, neoplastic=True, structure=index))
    make_stroma(canvas, canvas.lesion)


def make_stroma(canvas: Canvas, field: Mask) -> None:
    """Stroma near invasive epithelium becomes desmoplastic: pale, cellular, fine-fibred."""
    rng = canvas.rng(Stage.STROMA)
    half = (canvas.width // 2, canvas.height // 2)
    epithelium = np.isin(canvas.compartments, (Compartment.EPITHELIUM, Compartment.SOLID)) & canvas.lesion_um
    small = cv2.resize(epithelium.astype(np.uint8), half, interpolation=cv2.INTER_NEAREST)
    far = cv2.distanceTransform(1 - small, cv2.DIST_L2, 3) * 2
    reach = rng.uniform(28, 55) + 14 * smooth(rng, far.shape, 60, 1)
    near = cv2.resize((far < reach).astype(np.uint8), (canvas.width, canvas.height), interpolation=cv2.INTER_NEAREST)
    close = canvas.fine(cv2.dilate(field.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    canvas.compartments[(near > 0) & close & (canvas.compartments == Compartment.STROMA)] = Compartment.DESMOPLASIA


def necrotise(canvas: Canvas) -> None:
    """Geographic necrosis: a few patches (70 to 190 um) inside the lesion."""
    if not canvas.spec.necrosis:
        return
    rng = canvas.rng(Stage.NECROSIS)
    inside = canvas.sites(rng, canvas.lesion, 90, 0.3, 90)
    if not len(inside):
        inside = canvas.sites(rng, canvas.lesion, 60, 0.3)
    for centre in rng.permutation(inside)[: int(rng.integers(2, 5))]:
        size = rng.uniform(70, 190)
        outline = Blob(rng, centre, size, size * rng.uniform(0.5, 0.9), rng.uniform(0, np.pi), 0.3)
        index = canvas.begin("necrosis", outline.at(0))
        canvas.fill(outline.at(0), Compartment.NECROSIS, index)


def embolise(canvas: Canvas) -> None:
    """Vessels with tumour inside, at the edge of the lesion: where they are looked for."""
    if not (canvas.spec.vascular_invasion and canvas.spec.malignant):
        return
    rng = canvas.rng(Stage.VESSELS)
    wide = cv2.dilate(canvas.lesion.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=25) > 0
    edge = wide & ~(cv2.erode(canvas.lesion.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=6) > 0)
    inside = cv2.erode(canvas.tissue.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=7) > 0
    wanted = int(rng.integers(4, 8))
    for xy in rng.permutation(canvas.sites(rng, edge & inside, 150, 0.25))[:wanted]:
        vessel(canvas, rng, xy, rng.uniform(24, 42), embolus=tumour(canvas.spec.pleomorphism))
