"""Where tissue lies, where the lesion lies, and which way the fibres run: the same laws for every diagnosis.

- The diagnosis never enters here: the outline of a slide says nothing about it.
- A focus of the lesion lies in one fragment and keeps a gap to other foci, so that foci can be counted.
- A benign slide has a lesion field too: its look-alike (adenosis, crowded glands, follicles) is drawn there.
"""

from itertools import pairwise

import cv2
import numpy as np

from hwsi.phantom.canvas import FIELD_UM, FLOW_UM, Canvas, Mask, Stage
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.noise import Field, smooth

_GAP_UM = 190  # between foci
_APART_UM = 120  # at least, between fragments: what lies closer is one piece to any tissue finder, and to an eye


def lay_tissue(canvas: Canvas) -> None:
    """Outline of the fragments; everything inside is stroma at first."""
    rng = canvas.rng(Stage.OUTLINE)
    rows, columns = canvas.coarse_shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    ragged = 0.22 * smooth(rng, (rows, columns), min(rows, columns) / 3, 3)
    outline = np.zeros((canvas.height, canvas.width), bool)
    full = (canvas.height, canvas.width)
    # raggedness of the cut edge, in microns
    edge_um = 14 * smooth(rng, full, 170, 1) + 4 * smooth(rng, full, 38, 1) + 1.5 * smooth(rng, full, 11, 1)
    for x0, y0, x1, y1 in _plots(rng, canvas.spec.fragments, rows, columns):
        power = rng.uniform(2.2, 5)
        shift = rng.uniform(-0.02, 0.02, 2)
        u = (x - (x0 + x1) / 2) / (x1 - x0) * 2 + shift[0]
        v = (y - (y0 + y1) / 2) / (y1 - y0) * 2 + shift[1]
        level = 1 - np.abs(u / 0.90) ** power - np.abs(v / 0.90) ** power + ragged
        level[(np.abs(u) > 0.97) | (np.abs(v) > 0.97)] = -1
        level = cv2.resize(level, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
        steep = power * 2 / (min(x1 - x0, y1 - y0) * FIELD_UM)
        outline |= _largest(np.asarray(level + steep * edge_um > 0.12))
    canvas.outline = outline
    canvas.compartments[outline] = Compartment.STROMA
    share = cv2.resize(outline.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    canvas.tissue = np.asarray(share > 0.5)
    canvas.fragment = np.asarray(cv2.connectedComponents(canvas.tissue.astype(np.uint8), connectivity=4)[1], np.int32)


def _plots(rng: np.random.Generator, n: int, rows: int, columns: int) -> list[tuple[float, float, float, float]]:
    """Boxes for ``n`` fragments: lines of them along the longer side."""
    lines = 1 if n < 4 else 2
    per_line = [n // lines + (1 if i < n % lines else 0) for i in range(lines)]
    upright = rows > columns or (rows == columns and rng.random() < 0.5)
    length, breadth = (rows, columns) if upright else (columns, rows)
    boxes: list[tuple[float, float, float, float]] = []
    half = _APART_UM / 2 / FIELD_UM
    for line, count in enumerate(per_line):
        cuts = np.linspace(0, length, count + 1)
        cuts[1:-1] += rng.uniform(-0.05, 0.05, count - 1) * length
        for a, b in pairwise(cuts):
            low, high = breadth * line / lines, breadth * (line + 1) / lines
            low, high = low + half * (line > 0), high - half * (line + 1 < lines)
            a, b = a + half * (a > 0), b - half * (b < length)
            boxes.append((low, a, high, b) if upright else (a, low, b, high))
    return boxes


def _largest(mask: Mask) -> Mask:
    n, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if n < 2:
        return mask
    return np.asarray(label == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def lay_lesion(canvas: Canvas) -> None:
    """Field of the lesion: ``focality`` blobs that share ``lesion_fraction`` of the tissue."""
    rng = canvas.rng(Stage.LESION)
    shape = canvas.coarse_shape
    tissue = canvas.tissue
    room = cv2.distanceTransform(tissue.astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    distance: list[Field] = []
    centres: list[tuple[int, int]] = []
    for _ in range(canvas.spec.focality):
        apart = np.ones(shape, np.float32)
        for cy, cx in centres:
            # a new focus prefers room and distance, and a fragment of its own
            apart = np.minimum(apart, np.hypot(y - cy, x - cx) / max(shape))
            apart = np.where(canvas.fragment == canvas.fragment[cy, cx], apart * 0.6, apart)
        score = np.sqrt(room) * (apart if centres else 1) * rng.uniform(0.6, 1, shape).astype(np.float32)
        cy, cx = (int(v) for v in np.unravel_index(int(np.argmax(score)), shape))
        centres.append((cy, cx))
        warp = 1 + 0.22 * smooth(rng, shape, min(shape) / 2.5, 3)
        size = rng.uniform(0.8, 1.25)
        d = np.hypot(y - cy, x - cx) * np.clip(warp, 0.45, 2) / size * FIELD_UM
        distance.append(np.where(canvas.fragment == canvas.fragment[cy, cx], d, np.inf).astype(np.float32))
    stack = np.sort(np.stack([*distance, np.full(shape, np.inf, np.float32)]), axis=0)
    lonely = stack[1] > np.where(np.isfinite(stack[0]), stack[0], 0) + _GAP_UM
    nearest = np.where(np.isfinite(stack[0]) & lonely, stack[0], np.inf)
    reach = np.sort(nearest[tissue & np.isfinite(nearest)])
    wanted = int(canvas.spec.lesion_fraction * tissue.sum())
    field = np.zeros(shape, bool)
    if len(reach) and wanted:
        threshold = reach[min(wanted, len(reach)) - 1]
        mask = tissue & (nearest <= threshold)
        labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
        kept = [labels[c] for c in centres if labels[c] > 0]
        field = np.isin(labels, kept)
    canvas.lesion = field
    canvas.lesion_um = canvas.fine(field) & canvas.outline


def lay_flow(canvas: Canvas) -> None:
    """Fibre coordinates (along, across) by a warped, turned grid, and the direction that follows from them."""
    rng = canvas.rng(Stage.FLOW)
    shape = (canvas.height // FLOW_UM, canvas.width // FLOW_UM)
    turn = rng.uniform(0, np.pi)
    amplitude = rng.uniform(30, 60)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) * FLOW_UM
    wide = 900 / FLOW_UM

    def bend() -> Field:
        return amplitude * smooth(rng, shape, wide, 1) + 16 * smooth(rng, shape, 220 / FLOW_UM, 1)

    u = x * np.cos(turn) + y * np.sin(turn) + bend()
    v = -x * np.sin(turn) + y * np.cos(turn) + bend()
    dv_dy, dv_dx = np.gradient(v)
    canvas.warp = np.stack([u, v]).astype(np.float32)
    canvas.flow = np.arctan2(-dv_dx, dv_dy).astype(np.float32)
