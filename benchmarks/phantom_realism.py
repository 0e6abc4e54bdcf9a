"""How near phantom tissue is to real tissue: statistics, pixel transfer, and a sheet to look at.

- Statistics of nuclei, stain and spectrum, phantom beside real tiles (NuCLS with truth; others by segmentation).
- A pixel classifier trained on phantom alone and tested on real nuclei, beside real to real. It is the only
  independent check here: statistics can be tuned, and were looked at while drawing.
- ``--sheet OUT.png`` draws every diagnosis at 1x, 5x and 20x. No figure replaces looking at it.

Run: python benchmarks/phantom_realism.py --shared ../shared [--sheet sheet.png]
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from hwsi.phantom.develop import Look
from hwsi.phantom.draw import draw
from hwsi.phantom.drawing import Drawing
from hwsi.phantom.paint import cell_contours, paint
from hwsi.phantom.spec import DIAGNOSES, Spec

MPP = 0.5
CROP_PX = 256
# fixed vectors, so that one code measures all: fitting stain per tile fails where the two are collinear
STAIN = np.array([[0.65, 0.70, 0.29], [0.20, 0.93, 0.30]])
WHITE = 245.0
BANDS = ((0.01, 0.08), (0.08, 0.3), (0.3, 0.48))


@dataclass
class Tile:
    """A tile at 0.5 um/px with its nuclei: (h, w, 3) uint8 and (h, w) int32, 0 outside."""

    image: np.ndarray
    nuclei: np.ndarray


def stain_amounts(image: np.ndarray) -> np.ndarray:
    density = -np.log10(np.clip(image.astype(np.float64), 1, None) / WHITE)
    unit = STAIN / np.linalg.norm(STAIN, axis=1, keepdims=True)
    return density.reshape(-1, 3) @ np.linalg.pinv(unit)


def noise_sd(grey: np.ndarray) -> float:
    """Immerkaer's estimate."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
    response = cv2.filter2D(grey.astype(np.float64), -1, kernel)[1:-1, 1:-1]
    return float(np.abs(response).mean() * np.sqrt(np.pi / 2) / 6)


def spectrum_slopes(grey: np.ndarray) -> list[float]:
    side = min(grey.shape)
    window = np.outer(np.hanning(side), np.hanning(side))
    patch = grey[:side, :side].astype(np.float64)
    power = np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
    fx, fy = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))
    radius = np.hypot(fx, fy)
    slopes = []
    for low, high in BANDS:
        edges = np.geomspace(low, high, 9)
        middle, mean = [], []
        for a, b in pairwise(edges):
            inside = (radius >= a) & (radius < b)
            if inside.any():
                middle.append(np.log(np.sqrt(a * b)))
                mean.append(np.log(power[inside].mean()))
        slopes.append(float(np.polyfit(middle, mean, 1)[0]))
    return slopes


def measure(tile: Tile) -> dict[str, float]:
    inside = tile.nuclei > 0
    regions = [r for r in regionprops(tile.nuclei) if r.area >= 12]
    h, e = (a.reshape(inside.shape) for a in stain_amounts(tile.image).T)
    density = -np.log10(np.clip(tile.image.astype(np.float64), 1, None) / WHITE).mean(-1)
    grey = cv2.cvtColor(tile.image, cv2.COLOR_RGB2GRAY)
    area = np.array([r.area for r in regions]) * MPP**2
    spread = [h[tile.nuclei == r.label] for r in regions]
    low, middle, high = spectrum_slopes(grey)
    return {
        "nuclei per mm2": len(regions) / (inside.size * MPP**2 / 1e6),
        "area median um2": float(np.median(area)),
        "area p10 um2": float(np.percentile(area, 10)),
        "area p90 um2": float(np.percentile(area, 90)),
        "eccentricity": float(np.median([r.eccentricity for r in regions])),
        "solidity": float(np.median([r.solidity for r in regions])),
        "chromatin CV": float(np.median([s.std() / max(s.mean(), 1e-3) for s in spread])),
        "OD nucleus": float(density[inside].mean()),
        "OD outside": float(density[~inside].mean()),
        "H nucleus": float(h[inside].mean()),
        "H outside": float(h[~inside].mean()),
        "E nucleus": float(e[inside].mean()),
        "E outside": float(e[~inside].mean()),
        "PSD low": low,
        "PSD mid": middle,
        "PSD high": high,
        "noise sd": noise_sd(grey),
    }


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def nuclei_map(drawing: Drawing) -> np.ndarray:
    out = np.zeros((drawing.height_um * 2, drawing.width_um * 2), np.int32)
    for number, contour in enumerate(cell_contours(drawing), 1):
        cv2.fillPoly(out, [np.round((contour * 2 - 0.5) * 16).astype(np.int32)], number, shift=4)
    return out


def phantom_tiles(per_diagnosis: int, seed: int) -> list[Tile]:
    tiles = []
    for number, diagnosis in enumerate(d for all_dx in DIAGNOSES.values() for d in all_dx):
        rng = np.random.default_rng([seed, number])
        spec = Spec(seed=seed * 100 + number, diagnosis=diagnosis, width_um=1024, height_um=1024,
                    tubules=int(rng.integers(1, 4)), pleomorphism=int(rng.integers(1, 4)),
                    mitoses=int(rng.integers(1, 4)), til=int(rng.integers(0, 3)), necrosis=bool(rng.random() < 0.3),
                    fat=float(rng.uniform(0, 0.35)), plasma=float(rng.choice([0.15, 0.8])))  # fmt: skip
        drawing = draw(spec)
        look = Look.from_seed(spec.seed)
        image, nuclei = jpeg(paint(drawing, spec, look), look.jpeg_quality), nuclei_map(drawing)
        found = 0
        for _ in range(60):
            y, x = (int(v) for v in rng.integers(0, 2048 - CROP_PX, 2))
            window = (slice(y, y + CROP_PX), slice(x, x + CROP_PX))
            glass = (drawing.compartments[y // 2 : (y + CROP_PX) // 2, x // 2 : (x + CROP_PX) // 2] == 0).mean()
            if glass < 0.1 and len(np.unique(nuclei[window])) > 15:
                tiles.append(Tile(image[window], nuclei[window]))
                found += 1
            if found == per_diagnosis:
                break
    return tiles


def nucls_tiles(shared: Path) -> list[Tile]:
    """NuCLS tiles are 0.25 um/px (inferred from the size of lymphocytes): halved here."""
    tiles = []
    for path in sorted((shared / "data/nuclei/nucls_seg/train/images").glob("*.png")):
        image = np.array(Image.open(path).convert("RGB"))
        truth = np.load(path.parent.parent / "labels" / f"{path.stem}.npy", allow_pickle=True).item()["inst_map"]
        size = (image.shape[1] // 2, image.shape[0] // 2)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        tiles.append(Tile(small, truth[::2, ::2].astype(np.int32)[: size[1], : size[0]]))
    return tiles


def segmented_tiles(image: np.ndarray, n: int, seed: int) -> list[Tile]:
    """Tiles of a slide without truth, nuclei by Otsu on haematoxylin: rough, for comparison only."""
    rng = np.random.default_rng(seed)
    tiles: list[Tile] = []
    while len(tiles) < n:
        y, x = int(rng.integers(0, image.shape[0] - CROP_PX)), int(rng.integers(0, image.shape[1] - CROP_PX))
        crop = np.ascontiguousarray(image[y : y + CROP_PX, x : x + CROP_PX])
        h = cv2.GaussianBlur(stain_amounts(crop)[:, 0].reshape(CROP_PX, CROP_PX).astype(np.float32), (0, 0), 1)
        found = label(h > threshold_otsu(h))
        tiles.append(Tile(crop, found.astype(np.int32)))
    return tiles


def features(image: np.ndarray) -> np.ndarray:
    """16 per pixel: stain and density, blurred at three scales, and differences of the blurs."""
    h, e = (a.reshape(image.shape[:2]).astype(np.float32) for a in stain_amounts(image).T)
    density = -np.log10(np.clip(image.astype(np.float32), 1, None) / WHITE).mean(-1)
    layers = []
    for channel in (h, e, density):
        blurred = [cv2.GaussianBlur(channel, (0, 0), sigma) for sigma in (0.7, 1.5, 3, 6)]
        layers += blurred
    for a, b in ((0, 1), (1, 2), (2, 3), (0, 3)):
        layers.append(layers[8 + a] - layers[8 + b])
    return np.stack(layers, -1).reshape(-1, 16)


def dice(train: list[Tile], test: list[Tile], seed: int = 0) -> float:
    from sklearn.ensemble import ExtraTreesClassifier

    rng = np.random.default_rng(seed)
    x, y = [], []
    for tile in train:
        f, t = features(tile.image), (tile.nuclei > 0).ravel()
        chosen = rng.choice(len(t), min(len(t), 120_000 // len(train)), replace=False)
        x.append(f[chosen])
        y.append(t[chosen])
    model = ExtraTreesClassifier(60, min_samples_leaf=8, n_jobs=1, random_state=seed)
    model.fit(np.concatenate(x), np.concatenate(y))
    both = total = 0
    for tile in test:
        found = model.predict_proba(features(tile.image))[:, 1] > 0.5
        true = (tile.nuclei > 0).ravel()
        both += int((found & true).sum())
        total += int(found.sum() + true.sum())
    return 2 * both / max(total, 1)


def print_table(columns: dict[str, list[dict[str, float]]]) -> None:
    rows = next(iter(columns.values()))[0].keys()
    print(f"{'p10/p50/p90':<18}" + "".join(f"{f'{name} ({len(v)})':>26}" for name, v in columns.items()))
    for row in rows:
        line = f"{row:<18}"
        for values in columns.values():
            p = np.percentile([v[row] for v in values], [10, 50, 90])
            form: Callable[[float], str] = (lambda v: f"{v:.0f}") if abs(p[1]) > 100 else (lambda v: f"{v:.2f}")
            line += f"{'/'.join(form(v) for v in p):>26}"
        print(line)


def contact_sheet(path: Path, seed: int, side_um: int = 2048) -> None:
    """Every diagnosis in a row: overview, 5x crop, 20x crop."""
    size = 512
    rows = []
    for number, diagnosis in enumerate(d for all_dx in DIAGNOSES.values() for d in all_dx):
        spec = Spec(seed=seed + number, diagnosis=diagnosis, width_um=side_um, height_um=side_um,
                    vascular_invasion=True, plasma=0.5)  # fmt: skip
        drawing = draw(spec)
        image = paint(drawing, spec)
        rows_, columns = np.nonzero(drawing.lesion)
        x, y = 2 * int(np.median(columns)), 2 * int(np.median(rows_))
        overview = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        near = cv2.resize(_window(image, x, y, size * 4), (size, size), interpolation=cv2.INTER_AREA)
        row = np.hstack([overview, near, _window(image, x, y, size)])
        cv2.putText(row, diagnosis, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(row)
    Image.fromarray(np.vstack(rows)).save(path)


def _window(image: np.ndarray, x: int, y: int, side: int) -> np.ndarray:
    top = int(np.clip(y - side // 2, 0, image.shape[0] - side))
    left = int(np.clip(x - side // 2, 0, image.shape[1] - side))
    return image[top : top + side, left : left + side]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with the real tiles")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet to this PNG, and nothing else")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tiles", type=int, default=3, help="tiles per diagnosis")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.sheet:
        contact_sheet(options.sheet, options.seed)
        return
    import tifffile

    phantom, real = phantom_tiles(options.tiles, options.seed), nucls_tiles(options.shared)
    slide = tifffile.imread(options.shared / "data/slides/instanseg_HE_example.ome.tif")
    slide = slide if slide.shape[-1] == 3 else np.moveaxis(slide, 0, -1)
    print_table({
        "NuCLS real": [measure(t) for t in real],
        "phantom": [measure(t) for t in phantom],
        "instanseg Otsu": [measure(t) for t in segmented_tiles(slide, 8, 0)],
    })  # fmt: skip
    print(f"pixel Dice  phantom to real    {dice(phantom, real):.3f}   (asked: at least 0.82)")
    halves = [dice(real[::2], real[1::2]), dice(real[1::2], real[::2])]
    print(f"pixel Dice  real to real       {np.mean(halves):.3f}   (5 tiles to 5, both ways)")
    print(f"pixel Dice  phantom to phantom {dice(phantom[::2], phantom[1::2]):.3f}")
    print(f"pixel Dice  real to phantom    {dice(real, phantom):.3f}")


if __name__ == "__main__":
    main()
