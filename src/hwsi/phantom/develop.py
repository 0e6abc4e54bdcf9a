"""From stain amounts to a scanner's pixels: the look of a laboratory and its scanner.

- Stain vectors are random mixtures of measured ones, pushed apart so that the two never coincide.
- Lens, sharpening, sensor noise: after Beer-Lambert, in this order; artefacts where they happen physically
  (a fold doubles the section, a pen absorbs light, blur and bubbles act on the image).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hwsi.phantom.artefacts import STEP_UM, Artefacts
from hwsi.phantom.canvas import Stage
from hwsi.phantom.noise import Field, fresh

Triple = tuple[float, float, float]
# optical-density directions (R, G, B) measured on real slides by Macenko's method, and Ruifrok's
_HAEMATOXYLIN = np.array([
    [0.60, 0.71, 0.36], [0.61, 0.73, 0.31], [0.65, 0.70, 0.29], [0.72, 0.62, 0.30], [0.56, 0.74, 0.37],
    [0.815, 0.501, 0.289],
])  # fmt: skip
_EOSIN = np.array([
    [0.35, 0.82, 0.45], [0.30, 0.93, 0.22], [0.25, 0.91, 0.34], [0.20, 0.95, 0.22], [0.36, 0.79, 0.50],
])  # fmt: skip
_LN10 = float(np.log(10))


@dataclass(frozen=True)
class Look:
    """Stain and scanner.

    Attributes:
        haematoxylin, eosin: unit vectors of optical density (R, G, B).
        haematoxylin_strength, eosin_strength: factors on the stain amounts.
        white: intensity of empty glass (R, G, B) of 255.
        blur_px: sigma of the lens at 0.5 um/px; sharpen: amount of unsharp masking; noise: sd in grey levels.
        jpeg_quality: for the writer.
    """

    haematoxylin: Triple
    eosin: Triple
    haematoxylin_strength: float
    eosin_strength: float
    white: Triple
    blur_px: float
    sharpen: float
    noise: float
    jpeg_quality: int

    @classmethod
    def from_seed(cls, seed: int) -> "Look":
        """A laboratory and scanner at random; nothing else of the slide enters."""
        rng = np.random.default_rng([seed, int(Stage.DEVELOP)])
        h = _unit(rng.dirichlet(np.full(len(_HAEMATOXYLIN), 0.6)) @ _HAEMATOXYLIN)
        e = _unit(rng.dirichlet(np.full(len(_EOSIN), 0.6)) @ _EOSIN)
        e = _unit(e - 0.12 * h)
        h = _unit(h - 0.12 * e)
        dark = rng.random() < 0.15
        return cls(
            haematoxylin=_triple(h),
            eosin=_triple(e),
            haematoxylin_strength=float(rng.uniform(1.25, 1.7) if dark else rng.uniform(0.85, 1.25)),
            eosin_strength=float(rng.uniform(0.75, 1.35)),
            white=_triple(np.array([243, 240, 242]) + rng.uniform(-6, 6, 3)),
            blur_px=float(rng.uniform(0.55, 0.95)),
            sharpen=float(rng.uniform(0, 1.2)),
            noise=float(rng.uniform(0.6, 2.2)),
            jpeg_quality=int(rng.integers(30, 91)),
        )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _triple(vector: NDArray[np.float64]) -> Triple:
    a, b, c = (round(float(v), 5) for v in vector)
    return (a, b, c)


def develop(
    amount_h: Field,
    amount_e: Field,
    look: Look,
    artefacts: Artefacts,
    box: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Pixels (h, w, 3) uint8 of a box (x0, y0, x1, y1) of pixels at 0.5 um/px."""
    h = amount_h * np.float32(look.haematoxylin_strength)
    e = amount_e * np.float32(look.eosin_strength)
    if artefacts.fold is not None:
        doubled = 1 + np.float32(0.95) * _crop(artefacts.fold, box)
        h, e = h * doubled, e * doubled
    blur = _crop(artefacts.blur, box) if artefacts.blur is not None else None
    pen = _crop(artefacts.pen, box) if artefacts.pen is not None else None
    bubble = _bubble(artefacts.bubble, box) if artefacts.bubble is not None else None
    image = np.empty((*h.shape, 3), np.uint8)
    for channel in range(3):
        density = h * np.float32(-_LN10 * look.haematoxylin[channel])
        density -= e * np.float32(_LN10 * look.eosin[channel])
        light: Any = cv2.exp(density) * np.float32(look.white[channel])
        if pen is not None:
            light *= 1 - np.float32(0.92) * pen * np.float32(1 - artefacts.pen_colour[channel])
        light = cv2.GaussianBlur(light, (0, 0), look.blur_px)
        if blur is not None and blur.any():
            light = light * (1 - blur) + cv2.GaussianBlur(light, (0, 0), 4.5) * blur
        if bubble is not None:
            inside, rim = bubble
            light = light * (1 - inside) + (cv2.GaussianBlur(light, (0, 0), 3.0) * 0.97 + 5) * inside
            light *= rim
        if look.sharpen > 0.05:
            light += np.float32(look.sharpen) * (light - cv2.GaussianBlur(light, (0, 0), 1.2))
        light += np.float32(look.noise) * _noise(rng, light.shape)
        image[..., channel] = np.clip(light + 0.5, 0, 255)
    return image


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    texture = fresh(rng, "sensor")
    reps = (-(-shape[0] // texture.shape[0]), -(-shape[1] // texture.shape[1]))
    return np.tile(texture, reps)[: shape[0], : shape[1]]


def _crop(field: Field, box: tuple[int, int, int, int]) -> Field:
    scale = STEP_UM * 2
    matrix = np.array([[scale, 0, scale / 2 - box[0]], [0, scale, scale / 2 - box[1]]], np.float32)
    size = (box[2] - box[0], box[3] - box[1])
    return np.asarray(cv2.warpAffine(field, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _bubble(bubble: Triple, box: tuple[int, int, int, int]) -> tuple[Any, Any]:
    """Inside of the bubble (0 or 1) and the transmission of its dark rim."""
    x, y, radius = (2 * v for v in bubble)
    yy, xx = np.mgrid[box[1] : box[3], box[0] : box[2]].astype(np.float32)
    distance = np.hypot(xx - np.float32(x), yy - np.float32(y)) / np.float32(radius)
    rim = 1 - 0.6 * np.exp(-(((distance - 1) / 0.014) ** 2))
    return (distance < 1).astype(np.float32), rim.astype(np.float32)
