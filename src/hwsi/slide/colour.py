"""From a TIFF's samples to RGB over white, by what its tags say of them.

- Grey (either way round), RGB, palette and CMYK; 1 to 16 bits are scaled to 8. Colours that would only look nearly
  right (CIELab, YCbCr without a codec that converts it) are refused, never guessed.
- Alpha is straight or premultiplied, as the tag says; a further sample without a meaning is left out.

Notation: S samples of a pixel.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwsi.slide.backend import Image

_CONVERTING = ("JPEG", "JP2", "WEBP", "JPEGXL")
"""Names (in part) of codecs that give RGB where the tags say YCbCr."""

Kind = Literal["grey", "inverted", "rgb", "palette", "cmyk"]


class UnknownPixels(ValueError):
    """What a page's samples mean, or how they are packed, is not known here; says what stands there."""


@dataclass(frozen=True)
class Colour:
    """How the samples of a page are to be read.

    Attributes:
        kind: of the first samples: one of grey, inverted (0 is white) and palette, three of RGB, four of CMYK.
        bits: of a sample, 1 to 16.
        alpha: of the sample after them: 'none', 'straight' or 'premultiplied'.
        table: (n, 3) uint8, colours of a palette.
    """

    kind: Kind
    bits: int = 8
    alpha: Literal["none", "straight", "premultiplied"] = "none"
    table: Image | None = None

    @classmethod
    def of(cls, page: Any) -> "Colour":
        """The colours of a ``tifffile.TiffPage``.

        Raises:
            UnknownPixels: they are none of the kinds above, or no codec is known.
        """
        # tifffile gives plain numbers where it knows no name
        name, codec = (str(getattr(v, "name", v)) for v in (page.photometric, page.compression))
        if codec.isdigit():
            raise UnknownPixels(f"it is packed in a way that is not known here, compression {codec}")
        kinds: dict[str, Kind] = {
            "MINISBLACK": "grey", "MINISWHITE": "inverted", "RGB": "rgb", "PALETTE": "palette", "SEPARATED": "cmyk",
        }  # fmt: skip
        kind = kinds.get(name)
        if kind == "grey" and int(page.samplesperpixel) >= 3 and int(page.planarconfig) == 1:
            kind = "rgb"  # named carelessly
        if name == "YCBCR" and any(part in codec for part in _CONVERTING):
            kind = "rgb"
        table = _palette(page) if kind == "palette" else None
        if kind is None or (kind == "palette" and table is None):
            raise UnknownPixels(f"its colours are stored as {name}, compression {codec}")
        extra = int(page.extrasamples[0]) if page.extrasamples else 0
        alpha: Any = {1: "premultiplied", 2: "straight"}.get(extra, "none")
        return cls(kind, int(page.bitspersample), alpha, table)

    def rgb(self, samples: NDArray[Any]) -> Image:
        """(h, w, S) or (h, w) of unsigned integers to (h, w, 3) uint8 over white.

        Raises:
            ValueError: too few samples, or samples that are no unsigned integers of up to 16 bits.
        """
        if samples.ndim == 2:
            samples = samples[..., None]
        colours = {"rgb": 3, "cmyk": 4}.get(self.kind, 1)
        if samples.dtype.kind not in "ub" or samples.dtype.itemsize > 2 or samples.shape[2] < colours:
            raise ValueError(f"{samples.shape[2]} samples of {samples.dtype} are no {self.kind} image")
        if self.kind == "palette":
            assert self.table is not None  # `of` makes none without
            return np.asarray(self.table[np.minimum(samples[..., 0], len(self.table) - 1)])
        values = self._eight_bits(samples)
        match self.kind:
            case "rgb":
                image = values[..., :3]
            case "cmyk":
                ink = 255 - values[..., :4].astype(np.uint16)
                image = (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
            case _:
                grey = ~values[..., :1] if self.kind == "inverted" else values[..., :1]
                image = np.repeat(grey, 3, axis=2)
        if self.alpha == "none" or values.shape[2] <= colours:
            return image
        alpha = values[..., colours : colours + 1]
        if self.alpha == "straight":
            return over_white(np.concatenate([image, alpha], axis=2))
        return np.asarray(np.minimum(image.astype(np.uint16) + (255 - alpha), 255), np.uint8)

    def _eight_bits(self, samples: NDArray[Any]) -> Image:
        if samples.dtype == np.bool_:
            return samples.astype(np.uint8) * np.uint8(255)
        if self.bits == 8 and samples.dtype == np.uint8:
            return np.asarray(samples)
        most = (1 << self.bits) - 1
        return np.minimum(samples.astype(np.uint32) * 255 // most, 255).astype(np.uint8)


def _palette(page: Any) -> Image | None:
    tag = page.tags.get("ColorMap")
    values = np.asarray(tag.value if tag is not None else (), np.uint16)
    if values.size == 0 or values.size % 3:
        return None
    # 16 bits by the standard; some writers put 8 there
    table = values >> 8 if values.max() > 255 else values
    return np.ascontiguousarray(table.reshape(3, -1).T.astype(np.uint8))


def over_white(rgba: Image) -> Image:
    """(h, w, 4) with straight alpha to (h, w, 3) over white."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    a = alpha.astype(np.uint16)
    return ((rgba[..., :3] * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)
