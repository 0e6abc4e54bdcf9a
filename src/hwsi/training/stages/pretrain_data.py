"""Image-text pairs as ``pretrain`` reads them: square pixels and words.

An image is cut to its middle square and resized to what the encoder sees. How it is turned follows from (seed, epoch,
index) alone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.checking import load_records
from hwsi.training.data.records import PairRecord, TarMember
from hwsi.training.data.splits import require_disjoint, split_records
from hwsi.training.stages.align_data import report_id
from hwsi.training.stages.pretrain_config import PairStage, PretrainConfig

_BRIGHTNESS = (0.94, 1.04)


@dataclass(frozen=True)
class Pair:
    """``image``: uint8 (side, side, 3) RGB. ``report``: equal for captions with the same words."""

    image: Tensor
    caption: str
    report: int


class PairRows(Dataset[Pair]):
    """Pairs.

    Args:
        records: of them. side: of the squares, in pixels.
        turn: whether a visit turns, mirrors and brightens at random. seed: of that.

    An item raises HwsiError(DATA_INVALID) for an image that does not decode.
    """

    def __init__(self, records: Sequence[PairRecord], side: int, *, turn: bool = False, seed: int = 0) -> None:
        self.records, self._side, self._turn, self._seed = tuple(records), side, turn, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, at: tuple[int, int]) -> Pair:
        epoch, index = at
        record = self.records[index]
        pixels = square(record, self._side)
        if self._turn:
            pixels = turned(pixels, np.random.default_rng([self._seed, epoch, index]))
        return Pair(torch.from_numpy(pixels.copy()), record.caption, report_id(record.caption))


def square(record: PairRecord, side: int) -> NDArray[np.uint8]:
    """The middle square of a pair's image, uint8 (side, side, 3) RGB. Raises HwsiError(DATA_INVALID)."""
    try:
        with Image.open(io.BytesIO(record.read())) as image:
            whole = ImageOps.exif_transpose(image).convert("RGB")
            fitted = (
                ImageOps.fit(whole, (side, side), Image.Resampling.BICUBIC) if whole.size != (side, side) else whole
            )
        return np.asarray(fitted)
    # a damaged file makes Pillow raise nearly anything
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        where = record.image
        name = where.name if isinstance(where, Path | TarMember) else "an image in a table"
        what = f"{name} ('{record.caption[:40]}') does not decode: {error}"
        raise HwsiError(Reason.DATA_INVALID, what, "replace it, or take its pair out of the data") from error


def turned(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the eight symmetries of the square, each colour a little brighter or darker."""
    pixels = np.rot90(pixels, int(rng.integers(4)))
    if rng.integers(2):
        pixels = pixels[:, ::-1]
    gain = rng.uniform(*_BRIGHTNESS, (1, 1, 3)).astype(np.float32)
    return np.asarray(np.clip(pixels * gain, 0, 255), np.uint8)


def read_pairs(
    config: PretrainConfig, stage: PairStage, listing: Path | None
) -> tuple[list[PairRecord], list[PairRecord], tuple[str, ...]]:
    """Pairs to learn from, pairs held out (whole groups), and what the user must know of the data.

    Raises:
        HwsiError: as ``load_records`` and ``split_records``; DATA_INVALID (none is for training), NO_NEGATIVES (all
            captions are the same).
    """
    loaded = load_records(PairRecord, stage.pairs, skip_bad=config.skip_bad, listing=listing)
    records = list(loaded.records)
    if config.val or any(r.split for r in records):
        splits = split_records(records, fractions=(1 - config.val, config.val, 0.0))
        require_disjoint({name: some for name, some in splits.items() if some})
        records, held = splits["train"], splits["val"]
    else:
        held = []
    if not records:
        what = f"no pair of stage '{stage.name}' is for training"
        raise HwsiError(Reason.DATA_INVALID, what, "give pairs with split train, or a smaller val")
    if len({report_id(r.caption) for r in records}) < 2:
        what = f"all {len(records)} captions of stage '{stage.name}' are the same, so there are no negatives"
        raise HwsiError(Reason.NO_NEGATIVES, what, "give pairs with different captions")
    return records, held, loaded.told
