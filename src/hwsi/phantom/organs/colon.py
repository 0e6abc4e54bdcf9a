"""Colon: surface epithelium, crypts, and the layers of the wall; adenoma and adenocarcinoma.

- A fragment has a mucosal side. The depth below it orders the layers: mucosa, muscularis mucosae, submucosa, muscle.
- Crypts are test tubes from the surface down to the muscularis mucosae, or rings where the cut is tangential.
- Normal crypts divide at their bases; a mitosis alone says nothing.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hwsi.phantom.canvas import FIELD_UM, Canvas, Mask, Stage
from hwsi.phantom.cells import adenoma_of, nuclei
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.fat import lay_fat
from hwsi.phantom.geometry import Blob, Outline, Points, Tube, sample
from hwsi.phantom.glands import Lining, gland, nest
from hwsi.phantom.growth import Habit, invade
from hwsi.phantom.noise import Field, smooth

_STEP = 4  # um per pixel of the depth field
_CARCINOMA = Habit(100, (30, 60), 16.0, layers=2, irregularity=0.24, cribriform=0.25, dirty=0.6, secretion=0.5)


@dataclass(frozen=True)
class Wall:
    """Depth below the mucosal surface, and where the layers end.

    Attributes:
        depth: (h//4, w//4) float32 microns; slope: (2, h//4, w//4), its unit gradient (x, y), pointing down.
        mucosa, muscularis, submucosa: depths in microns at which these layers end.
    """

    depth: Field
    slope: Field
    mucosa: float
    muscularis: float
    submucosa: float


def lay_out(canvas: Canvas) -> None:
    """Lay out a colon of the asked diagnosis."""
    rng = canvas.rng(Stage.ORGAN)
    spec = canvas.spec
    normal_here = canvas.tissue if spec.diagnosis == "normal colonic mucosa" else canvas.tissue & ~canvas.lesion
    wall = _wall(canvas, rng)
    _layers(canvas, rng, wall, normal_here)
    goblets = 0.85 if spec.mucin else 0.45
    lining = Lining("benign", rng.uniform(20, 25), 5.0, depth=0.24, elongation=1.5, goblets=goblets)
    adenoma = spec.diagnosis == "tubular adenoma"
    _surface(canvas, rng, wall, canvas.fine(canvas.tissue if adenoma else normal_here), lining)
    _crypts(canvas, rng, wall, normal_here, lining, "benign_gland", tangential=rng.random() < 0.35)
    if adenoma:
        grow = canvas.rng(Stage.GROWTH)
        look = adenoma_of(spec.pleomorphism)
        layers = 2 if grow.random() < 0.4 else 3
        dysplastic = Lining(look, 26.0, 6.3, layers=layers, goblets=0.45 if spec.mucin else 0.05, neoplastic=True)
        _adenoma(canvas, grow, dysplastic)
    elif spec.diagnosis == "colonic adenocarcinoma":
        if spec.mucin:
            _mucin_pools(canvas)
        invade(canvas, _CARCINOMA)
    _lamina_propria(canvas, rng, wall)


def _wall(canvas: Canvas, rng: np.random.Generator) -> Wall:
    shape = (canvas.height // _STEP, canvas.width // _STEP)
    inside = cv2.resize(canvas.outline.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(inside, (0, 0), 40 / _STEP)
    gy, gx = np.gradient(blurred)
    fragment = cv2.resize(canvas.fragment.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    fragment = cv2.dilate(fragment, np.ones((5, 5), np.uint8))
    solid = (inside > 0.5).astype(np.uint8)
    rim = (solid > 0) & (cv2.erode(solid, np.ones((3, 3), np.uint8)) == 0)
    surface = np.zeros(shape, bool)
    for piece in range(1, int(fragment.max()) + 1):
        toward = rng.uniform(0, 2 * np.pi)
        # the outward normal is minus the gradient of the filled outline
        facing = -(gx * np.cos(toward) + gy * np.sin(toward)) / (np.hypot(gx, gy) + 1e-6)
        surface |= rim & (fragment == piece) & (facing > 0.25)
    depth = cv2.distanceTransform((~surface).astype(np.uint8), cv2.DIST_L2, 5) * _STEP
    soft = cv2.GaussianBlur(depth, (0, 0), 16 / _STEP)
    dy, dx = np.gradient(soft)
    norm = np.hypot(dx, dy) + 1e-6
    mucosa = rng.uniform(380, 500)
    muscularis = mucosa + rng.uniform(28, 45)
    wavy = depth + 16 * smooth(rng, shape, 260 / _STEP, 2)
    return Wall(
        np.where(depth < 60, depth, wavy).astype(np.float32),
        np.stack([dx / norm, dy / norm]).astype(np.float32),
        mucosa,
        muscularis,
        muscularis + rng.uniform(200, 380),
    )


def _layers(canvas: Canvas, rng: np.random.Generator, wall: Wall, field: Mask) -> None:
    large = cv2.resize(wall.depth, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
    here = canvas.fine(field) & (canvas.compartments == Compartment.STROMA)
    muscle = ((large > wall.mucosa) & (large < wall.muscularis)) | (large > wall.submucosa)
    canvas.compartments[here & muscle] = Compartment.MUSCLE
    depth = cv2.resize(wall.depth, canvas.coarse_shape[::-1], interpolation=cv2.INTER_AREA)
    canvas.loose[field & (depth < wall.mucosa)] = 0.9
    canvas.loose[field & (depth > wall.muscularis) & (depth < wall.submucosa)] = 0.35
    submucosa = field & (depth > wall.muscularis + 30) & (depth < wall.submucosa - 20)
    if canvas.spec.fat > 0.05 and submucosa.any():
        part = smooth(rng, canvas.coarse_shape, 300 / FIELD_UM, 2)
        lay_fat(canvas, rng, submucosa & (part > 1.1 - 2.5 * canvas.spec.fat))


def _surface(canvas: Canvas, rng: np.random.Generator, wall: Wall, where: Mask, lining: Lining) -> None:
    """A single layer of columnar cells over the lamina propria."""
    height = 19.0
    large = cv2.resize(wall.depth, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
    band = (large < height) & where & (canvas.compartments == Compartment.STROMA)
    if not band.any():
        return
    rows, columns = np.nonzero(band[::8, ::8])
    box = np.array([columns.min(), rows.min(), columns.max(), rows.max()]) * 8.0
    corners = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]])
    index = canvas.begin("surface_epithelium", corners, lumen=False, myoepithelium=False)
    canvas.compartments[band] = Compartment.EPITHELIUM
    canvas.owner[band] = index
    for contour in _level(wall.depth, 14.0):
        xy = _even(contour, 5.2)
        kept = sample(band, xy)
        turn = _down(wall, xy[kept])
        canvas.add(nuclei(rng, lining.nuclei, xy[kept], turn, elongation=1.6, structure=index))
    for contour in _level(wall.depth, 7.0):
        xy = _even(contour, 9.0)
        xy = xy[sample(band, xy) & (rng.random(len(xy)) < 0.5 * lining.goblets)]
        for point, angle in zip(xy, _down(wall, xy), strict=True):
            canvas.ellipse(point, rng.uniform(4, 5.5), rng.uniform(2.4, 3.2), float(angle), Compartment.MUCIN)


def _level(depth: Field, level_um: float) -> list[Points]:
    """Contours of the depth field in microns."""
    below = (depth > level_um).astype(np.uint8)
    found = cv2.findContours(below, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    smoothed = []
    for contour in found:
        xy = contour[:, 0, :].astype(np.float64)
        if len(xy) > 20:
            around = np.vstack([xy[-4:], xy, xy[:4]])
            kernel = np.ones(9) / 9
            smoothed.append(
                np.stack([np.convolve(around[:, i], kernel, "valid") for i in (0, 1)], 1) * _STEP + _STEP / 2
            )
    return smoothed


def _even(contour: Points, spacing_um: float) -> Points:
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(contour, axis=0).T))]
    place = np.arange(spacing_um / 2, length[-1], spacing_um)
    return np.stack([np.interp(place, length, contour[:, i]) for i in (0, 1)], 1)


def _down(wall: Wall, xy: Points) -> Points:
    slope = [sample(part, xy, _STEP) for part in wall.slope]
    return np.asarray(np.arctan2(slope[1], slope[0]), np.float64)


def _crypts(
    canvas: Canvas,
    rng: np.random.Generator,
    wall: Wall,
    field: Mask,
    lining: Lining,
    kind: str,
    *,
    tangential: bool,
) -> None:
    spacing = rng.uniform(76, 88)
    clear = cv2.erode(field.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2) > 0
    if not tangential:
        for contour in _level(wall.depth, 6.0):
            for start in _even(contour, spacing):
                spine = _descend(wall, start, wall.mucosa * rng.uniform(0.84, 0.96))
                if len(spine) < 8 or not sample(clear, spine[2:], FIELD_UM).all():
                    continue
                spine = spine + np.cumsum(rng.normal(0, 0.6, spine.shape), 0)
                tube = Tube(rng, spine, spacing * rng.uniform(0.38, 0.45), 0.05)
                # a crypt ends where it would run into its neighbour
                sides = tube.at(2)
                n = len(spine)
                free = (canvas.here(sides[:n]) == Compartment.STROMA) & (
                    canvas.here(sides[-n:][::-1]) == Compartment.STROMA
                )
                free[:4] = True
                end = n if free.all() else int(np.argmin(free))
                if end >= 12:
                    _crypt(canvas, rng, Tube(rng, spine[:end], tube.half_width_um, 0.05), lining, kind)
    # rings where the cut is tangential, and where tubes left room
    depth = cv2.resize(wall.depth, canvas.coarse_shape[::-1], interpolation=cv2.INTER_AREA)
    mucosa = clear & (depth > 55) & (depth < wall.mucosa - 20)
    stretch, angle = rng.uniform(1, 1.5), rng.uniform(0, np.pi)
    for step, narrow in ((1.02, 1.0), (0.5, 0.9), (0.4, 0.72)):
        for centre in canvas.sites(rng, mucosa, spacing * step, 0.07):
            radius = spacing * rng.uniform(0.41, 0.46) * narrow
            outline = Blob(rng, centre, radius * (stretch if step > 1 else 1.1), radius, angle, 0.05)
            if (canvas.here(outline.at(-2)) == Compartment.STROMA).mean() > 0.96:
                _crypt(canvas, rng, outline, lining, kind)


def _crypt(canvas: Canvas, rng: np.random.Generator, outline: Outline, lining: Lining, kind: str) -> None:
    """A crypt fills most of its width with epithelium: the lumen is a slit of a few microns."""
    lining = replace(lining, height_um=max(14.0, outline.room_um - rng.uniform(2.5, 6.5)))
    gland(canvas, rng, outline, lining, kind, clear_um=0, secretion=0.25, goblets=lining.goblets)


def _descend(wall: Wall, start: Points, until_um: float) -> Points:
    """Spine of a crypt: from the surface along the slope of the depth, in steps of 12 um."""
    xy = start.astype(np.float64).copy()
    slope = np.array([float(sample(part, xy[None], _STEP)[0]) for part in wall.slope])
    spine = [xy - slope * 8]
    for _ in range(64):
        spine.append(xy.copy())
        if float(sample(wall.depth, xy[None], _STEP)[0]) > until_um:
            break
        new = np.array([float(sample(part, xy[None], _STEP)[0]) for part in wall.slope])
        slope = 0.6 * slope + 0.4 * new
        xy = xy + slope / max(float(np.hypot(*slope)), 1e-6) * 12
    return np.array(spine)


def _adenoma(canvas: Canvas, rng: np.random.Generator, lining: Lining) -> None:
    """Crowded, branching dysplastic tubules."""
    spacing = rng.uniform(84, 100)
    angle = rng.uniform(0, np.pi)
    stretch = rng.uniform(1.3, 2.2)
    for centre in canvas.sites(rng, canvas.lesion, spacing, 0.14, 16):
        radius = spacing * rng.uniform(0.37, 0.455)
        turn = angle + rng.normal(0, 0.35)
        outline = Blob(rng, centre, radius * rng.uniform(1, stretch), radius, turn, 0.14)
        gland(canvas, rng, outline, lining, "adenoma_gland", clear_um=3, secretion=0.4, goblets=lining.goblets)


def _mucin_pools(canvas: Canvas) -> None:
    rng = canvas.rng(Stage.NECROSIS)
    for centre in canvas.sites(rng, canvas.lesion, 260, 0.25, 60):
        radius = rng.uniform(60, 120)
        pool = Blob(rng, centre, radius * rng.uniform(1, 1.6), radius, rng.uniform(0, np.pi), 0.2)
        index = canvas.begin("mucin_pool", pool.at(0))
        canvas.fill(pool.at(0), Compartment.MUCIN, index)
        for _ in range(int(rng.integers(1, 4))):
            away = rng.normal(0, 0.3 * radius, 2)
            island = Blob(rng, centre + away, rng.uniform(14, 28), rng.uniform(12, 18), rng.uniform(0, np.pi), 0.2)
            nest(canvas, island, "tumour_nest", f"tumour{canvas.spec.pleomorphism}")


def _lamina_propria(canvas: Canvas, rng: np.random.Generator, wall: Wall) -> None:
    """Lymphocytes and plasma cells between the crypts, in healthy mucosa too."""
    depth = cv2.resize(wall.depth, canvas.coarse_shape[::-1], interpolation=cv2.INTER_AREA)
    mucosa = canvas.tissue & (depth < wall.mucosa) & ~(canvas.lesion & canvas.spec.malignant)
    xy = canvas.sites(rng, mucosa, 8.6, 0.28)
    xy = xy[canvas.here(xy) == Compartment.STROMA]
    cloud = smooth(rng, canvas.coarse_shape, 60, 2)
    inflamed = 0.12 * sample(canvas.lesion, xy, FIELD_UM)  # the look-alike of a lesion in normal mucosa
    xy = xy[rng.random(len(xy)) < 0.36 + inflamed + 0.12 * sample(cloud, xy, FIELD_UM)]
    plasma = rng.random(len(xy)) < canvas.spec.plasma
    canvas.add(nuclei(rng, "plasma", xy[plasma]))
    canvas.add(nuclei(rng, "lymphocyte", xy[~plasma]))
