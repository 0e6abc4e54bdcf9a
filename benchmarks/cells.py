"""How well nuclei are found on real H&E tiles: detection F1 and foreground Dice, beside plain Otsu and watershed.

    python benchmarks/cells.py --data ../shared/data/nuclei

- Detection: centroids matched one to one (Hungarian) within 6 um. Dice: the outlines filled, against all truth.
- One set of settings for all tiles, chosen with these very tiles (hwsi/encoders/nuclei.py). What that was worth is
  printed too: settings chosen on nine tiles among ``--draws`` random ones, scored on the tenth.
- NuCLS tiles are at 0.25 um/px (inferred), handed in as they are and halved; the scale of the DSB tiles is a guess.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from hwsi.encoders.cell_crops import at_work_mpp, find_nuclei
from hwsi.encoders.nuclei import WORK_MPP, Settings, segment

MATCH_UM = 6.0
NUCLS_MPP, DSB_MPP = 0.25, 0.15


@dataclass(frozen=True)
class Tile:
    """A tile with the truth: RGB uint8 (H, W, 3), instance map int (H, W), um/px."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    mpp: float

    def at(self, mpp: float) -> np.ndarray:
        """The image at another resolution."""
        h, w = self.truth.shape
        size = round(w * self.mpp / mpp), round(h * self.mpp / mpp)
        return self.image if size == (w, h) else cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Score:
    """Counts that can be added over tiles before they become F1 and Dice."""

    matched: int = 0
    found: int = 0
    true: int = 0
    overlap_px: int = 0
    found_px: int = 0
    true_px: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    @property
    def f1(self) -> float:
        """Of detection."""
        return 2 * self.matched / max(self.found + self.true, 1)

    @property
    def dice(self) -> float:
        """Of the foreground."""
        return 2 * self.overlap_px / max(self.found_px + self.true_px, 1)


def nucls(data: Path) -> list[Tile]:
    folder = data / "nucls_seg" / "train"
    tiles = []
    for i in range(1, 11):
        image = cv2.imread(str(folder / "images" / f"train_{i}.png"))[..., ::-1]
        truth = np.load(folder / "labels" / f"train_{i}.npy", allow_pickle=True).item()["inst_map"]
        tiles.append(Tile(f"nucls {i}", np.ascontiguousarray(image), truth.astype(np.int32), NUCLS_MPP))
    return tiles


def dsb(data: Path) -> list[Tile]:
    tiles = []
    for path in sorted((data / "dsb2018").glob("he_*_inst.png")):
        image = cv2.imread(str(path.with_name(path.name.replace("_inst", ""))))[..., ::-1]
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.int32)
        tiles.append(Tile(f"dsb {path.stem[3:9]}", np.ascontiguousarray(image), truth, DSB_MPP))
    return tiles


def centroids(labels: np.ndarray) -> np.ndarray:
    """(m, 2) as x, y."""
    names = np.unique(labels[labels > 0])
    yx = np.array(ndimage.center_of_mass(labels > 0, labels, names)).reshape(-1, 2)
    return yx[:, ::-1]


def compare(tile: Tile, xy: np.ndarray, foreground: np.ndarray) -> Score:
    """Centroids (m, 2) and foreground bool (H, W), both in pixels of the tile's truth."""
    true_xy = centroids(tile.truth)
    distance = np.linalg.norm(xy[:, None] - true_xy[None], axis=-1) * tile.mpp
    rows, cols = linear_sum_assignment(np.where(distance <= MATCH_UM, distance, 1e6))
    true = tile.truth > 0
    return Score(
        matched=int((distance[rows, cols] <= MATCH_UM).sum()), found=len(xy), true=len(true_xy),
        overlap_px=int((foreground & true).sum()), found_px=int(foreground.sum()), true_px=int(true.sum()),
    )  # fmt: skip


def ours(tile: Tile, mpp: float) -> Score:
    """The cell encoder's own outlines and centroids, from the tile handed in at ``mpp``."""
    nuclei = find_nuclei(tile.at(mpp), mpp)
    zoom = mpp / tile.mpp
    filled = np.zeros(tile.truth.shape, np.uint8)
    # fixed point with 4 fractional bits; pixel (0, 0) has its centre at 0
    outlines = [np.round(((c + 0.5) * zoom - 0.5) * 16).astype(np.int32) for c in nuclei.contours]
    for outline in outlines:
        cv2.fillPoly(filled, [outline], 1, shift=4)
    return compare(tile, (nuclei.xy + 0.5) * zoom - 0.5, filled > 0)


def otsu_watershed(tile: Tile, mpp: float) -> Score:
    """The usual recipe: deconvolution, smoothing, Otsu, opening, holes filled, watershed on the distance map."""
    stain = cv2.GaussianBlur(rgb2hed(tile.at(mpp))[..., 0].astype(np.float32), (0, 0), 0.5 / mpp)
    mask = (stain > threshold_otsu(stain)).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(1 / mpp) | 1,) * 2)
    mask = ndimage.binary_fill_holes(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)).astype(np.uint8)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    peaks = peak_local_max(distance, min_distance=round(2 / mpp), labels=mask, exclude_border=False)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=mask > 0)
    labels[np.isin(labels, np.flatnonzero(np.bincount(labels.ravel()) * mpp**2 < 8))] = 0
    return compare_labels(tile, labels, mpp)


def compare_labels(tile: Tile, labels: np.ndarray, mpp: float) -> Score:
    h, w = tile.truth.shape
    large = cv2.resize((labels > 0).astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0
    zoom = mpp / tile.mpp
    return compare(tile, (centroids(labels) + 0.5) * zoom - 0.5, large)


def leave_one_out(tiles: list[Tile], draws: int) -> Score:
    """Settings chosen on all tiles but one (by F1 plus Dice), scored on that one; summed over tiles."""
    rng = np.random.default_rng(0)
    ranges = {
        "smooth_um": (0.25, 0.5), "background_um": (5.0, 14.0), "background_weight": (0.5, 0.95), "clip": (0.95, 1.0),
        "floor": (0.03, 0.1), "min_area_um2": (4.0, 12.0), "split_distance_um": (0.4, 1.0),
        "split_stain_um": (0.7, 1.4), "split_stain_weight": (0.0, 16.0), "split_window_um": (2.0, 4.5),
        "min_radius_um": (0.5, 1.3),
    }  # fmt: skip
    tried = [Settings(**{k: float(rng.uniform(*r)) for k, r in ranges.items()}) for _ in range(draws)]
    work = [at_work_mpp(t.image, t.mpp)[0] for t in tiles]
    table = [
        [compare_labels(t, segment(image, s), WORK_MPP) for t, image in zip(tiles, work, strict=True)] for s in tried
    ]
    total = Score()
    for left in range(len(tiles)):
        rest = [sum((s for i, s in enumerate(row) if i != left), Score()) for row in table]
        best = max(range(draws), key=lambda j: rest[j].f1 + rest[j].dice)
        total += table[best][left]
    return total


def show(tiles: list[Tile], columns: dict[str, Callable[[Tile], Score]]) -> None:
    print(f"{'':14s}{'nuclei':>7s}" + "".join(f"{name + ' F1/Dice':>28s}" for name in columns))
    total = dict.fromkeys(columns, Score())
    for tile in tiles:
        scores = {name: score(tile) for name, score in columns.items()}
        total = {name: total[name] + s for name, s in scores.items()}
        print(line(tile.name, scores.values()))
    print(line("pooled", total.values()), flush=True)


def line(name: str, scores: Iterable[Score]) -> str:
    scores = list(scores)
    return f"{name:14s}{scores[0].true:7d}" + "".join(f"{f'{s.f1:.3f} / {s.dice:.3f}':>28s}" for s in scores)


def speed(tiles: list[Tile]) -> float:
    """CPU ms per 128-um patch, so that other work doesn't count, of tiles laid side by side to about one region."""
    row = np.hstack([t.at(WORK_MPP) for t in tiles[:8]])
    region = np.vstack([np.roll(row, 128 * i, axis=1) for i in range(8)])
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        segment(region)
        best = min(best, time.process_time() - start)
    return best * 1e3 / (region.size / 3 / 256**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data/nuclei")
    parser.add_argument("--draws", type=int, default=150, help="settings tried for the leave-one-out figure")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    real = nucls(args.data)
    for tiles in (real, dsb(args.data)):
        native = tiles[0].mpp
        show(tiles, {
            f"hwsi {native}": lambda t, m=native: ours(t, m),
            "hwsi 0.5": lambda t: ours(t, 0.5),
            f"Otsu {native}": lambda t, m=native: otsu_watershed(t, m),
            "Otsu 0.5": lambda t: otsu_watershed(t, 0.5),
        })  # fmt: skip
        print()
    chosen = leave_one_out(real, args.draws)
    print(f"nucls, settings chosen on the other nine: F1 {chosen.f1:.3f}, Dice {chosen.dice:.3f}")
    print(f"segmentation: {speed(real):.1f} CPU ms per 256-px patch at 0.5 um/px")


if __name__ == "__main__":
    main()
