"""Slides and reports as ``align`` reads them: tensors of one slide, units of one report.

- A region reads all its patches with tissue, as when a slide is encoded; a patch and a cell token stand for each patch
  that is kept, as in a prompt.
- How many pieces of tissue lie in each region is read from the file's outlines, which no other stage needs.
- All slides must have been encoded by the same weights: two spaces cannot be aligned at once.

Notation: R regions, T places of a region's grid, P kept patches, K cells of a patch, D widths of features.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hwsi.encoders.registry import EncoderSpec
from hwsi.encoders.summaries import summarise_cells, summarise_tissue
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.model.config import HwsiVisualConfig
from hwsi.model.prompt import keep_patches
from hwsi.model.slide_inputs import slide_inputs
from hwsi.training.data.records import same_text
from hwsi.training.data.rows import AlignRows, At
from hwsi.training.data.store import FeatureStore
from hwsi.training.objectives.contrast import LEVELS
from hwsi.training.objectives.units import decompose


@dataclass(frozen=True)
class Reads:
    """What the model reads of a slide.

    Attributes:
        visual: encoders of cells and patches, most cells of a patch.
        region, slide: specs of the encoders above.
        kept: patches of a region that have tokens.
    """

    visual: HwsiVisualConfig
    region: EncoderSpec
    slide: EncoderSpec
    kept: int

    @property
    def region_patch(self) -> str:
        """Id of the patch encoder whose vectors the region encoder reads."""
        return self.region.reads or self.visual.encoders["patch"]

    @property
    def needs(self) -> dict[str, str]:
        """Scale -> id of the encoder whose vectors a feature file must have."""
        return {scale: self.visual.encoders[scale] for scale in ("patch", "cell")}


@dataclass(frozen=True)
class Above:
    """What the encoders of regions and of the slide read.

    Attributes:
        patches: (R, T, D) float32, vector (and cells) of each patch. there: (R, T) bool. row_col: (R, T, 2) int64.
        tissue: (R, 2) float32, see ``summarise_tissue``; (R, 0) for an encoder that does not read it.
        mm: (R, 2) float32, centres.
    """

    patches: Tensor
    there: Tensor
    row_col: Tensor
    tissue: Tensor
    mm: Tensor


@dataclass(frozen=True)
class AlignSlide:
    """One slide and its report.

    Attributes:
        above: for the encoders of regions and of the slide.
        patch: (P, D) float32. of: (P,) int64, the region of each.
        cells: (P, K, D) float32, with mask (P, K) bool, xy (P, K, 2), count (P,) int64.
        units: level -> texts. report: equal for reports with the same words.
    """

    above: Above
    patch: Tensor
    of: Tensor
    cells: Tensor
    cell_mask: Tensor
    cell_xy: Tensor
    cell_count: Tensor
    units: dict[str, tuple[str, ...]]
    report: int


class AlignSlides(Dataset[AlignSlide]):
    """Items of ``AlignRows`` as tensors.

    Args:
        rows: features and reports.
        store: of the same features. reads: what of them is read.
        units: at most so many text units of a level.

    An item raises HwsiError(FEATURES_MISMATCH) if its slide was encoded by other weights than the first one.
    """

    def __init__(self, rows: AlignRows, store: FeatureStore, reads: Reads, *, units: int) -> None:
        self.rows, self._store, self._reads, self._units = rows, store, reads, units
        self.weights = _weights(store.get(rows.records[0].slide), reads)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: At) -> AlignSlide:
        item = self.rows[at]
        found = _weights(item.features, self._reads)
        if found != self.weights:
            other = sorted(k for k in found if found[k] != self.weights[k])
            what = f"slide '{item.slide}' was encoded by other weights of {', '.join(other)} than the first slide"
            raise HwsiError(Reason.FEATURES_MISMATCH, what, "encode all slides of a training by the same weights")
        pieces = tissue_rows(self._store.find(item.slide).path) if self._reads.slide.with_tissue else None
        features, visual, tree = item.features, self._reads.visual, item.features.hierarchy
        arrays = {scale: features_of(features, scale, name) for scale, name in self._reads.needs.items()}
        most = self._reads.kept if item.kept is None else item.kept
        kept = keep_patches(tree, arrays["patch"], most, item.relevance)
        # slide and region vectors of the file are not read: their encoders are what is trained
        blank = {"slide": np.zeros(0, np.float32), "region": np.zeros((len(tree.regions), 0), np.float32)}
        row = slide_inputs(tree, arrays | blank, kept, visual.max_cells)
        return AlignSlide(
            above(features, self._reads, pieces),
            row["patch_features"],
            torch.from_numpy(tree.patches.region[kept].copy()),
            row["cell_features"],
            row["cell_mask"],
            row["cell_xy"],
            row["cell_count"],
            units_of(item.report, self._units),
            report_id(item.report),
        )


def above(features: SlideFeatures, reads: Reads, pieces: dict[tuple[int, int], tuple[float, float]] | None) -> Above:
    """What the encoders of regions and of the slide read of a slide; ``pieces`` as of :func:`tissue_rows`."""
    tree = features.hierarchy
    patches, regions = tree.patches, tree.regions
    seen = features_of(features, "patch", reads.region_patch)
    if reads.region.with_cells:
        cells = features_of(features, "cell", reads.visual.encoders["cell"])
        seen = np.concatenate([seen, summarise_cells(cells, tree.cells.type, tree.cells.patch, len(patches))], 1)
    side = tree.region_px // tree.patch_px
    rows, t = len(regions), side * side
    there = ~patches.background
    slot = patches.row_col[:, 0] * side + patches.row_col[:, 1]
    vectors, mask = np.zeros((rows, t, seen.shape[1]), np.float32), np.zeros((rows, t), np.bool_)
    vectors[patches.region[there], slot[there]] = seen[there]
    mask[patches.region[there], slot[there]] = True
    grid = np.stack(np.divmod(np.arange(t), side), 1)
    tissue = np.zeros((rows, 0), np.float32)
    if pieces is not None:
        # a region keeps its place in the grid, however the slide was turned and cut
        tissue = np.array([pieces[int(r), int(c)] for r, c in regions.grid], np.float32)
    return Above(
        torch.from_numpy(vectors),
        torch.from_numpy(mask),
        torch.from_numpy(np.broadcast_to(grid, (rows, t, 2)).copy()),
        torch.from_numpy(tissue),
        torch.from_numpy(tree.centre_mm(regions.xy, regions.size0)),
    )


def features_of(features: SlideFeatures, scale: str, encoder: str) -> NDArray[np.float32]:
    """Vectors of an encoder. Raises HwsiError(FEATURES_MISMATCH) where a slide has none."""
    found = getattr(features, scale)
    if encoder not in found:
        what = (
            f"slide '{features.slide_name}' has no {scale} vectors of {encoder}, only of {', '.join(found) or 'none'}"
        )
        raise HwsiError(Reason.FEATURES_MISMATCH, what, f"encode it with a preset whose {scale} encoder is {encoder}")
    return np.asarray(found[encoder], np.float32)


def tissue_rows(path: Path) -> dict[tuple[int, int], tuple[float, float]]:
    """Place of a region in the slide's grid -> its tissue fraction and the pieces of tissue in it."""
    with h5py.File(path, "r", locking=False) as file:
        size0 = int(file.attrs["region_size0"])
        xy, grid, tissue = (file[f"region/{name}"][:] for name in ("coords", "grid", "tissue"))
        ring, ptr, polygon = (file[f"tissue/{name}"][:] for name in ("ring_xy", "ring_ptr", "polygon"))
    first = np.flatnonzero(np.diff(polygon, prepend=-1))
    outlines = [ring[ptr[k] : ptr[k + 1]] for k in first]
    rows = summarise_tissue(outlines, tissue, xy, size0)
    return {(int(r), int(c)): (float(a), float(b)) for (r, c), (a, b) in zip(grid, rows, strict=True)}


def units_of(report: str, most: int) -> dict[str, tuple[str, ...]]:
    """Level -> text units, at most ``most`` of each, evenly thinned."""
    units = decompose(report)
    found = {"word": units.words, "phrase": units.phrases, "sentence": units.sentences, "paragraph": (units.paragraph,)}
    return {level: _thinned(found[level], most) for level in LEVELS.values()}


def _thinned(texts: tuple[str, ...], most: int) -> tuple[str, ...]:
    n = min(len(texts), most)
    return tuple(texts[i * len(texts) // n] for i in range(n))


def report_id(report: str) -> int:
    """The same number for the same words (white space and capitals aside), on every rank: 62 bits of a digest."""
    return int.from_bytes(sha256(same_text(report).encode()).digest()[:8]) >> 2


def _weights(features: SlideFeatures, reads: Reads) -> dict[str, Any]:
    """Digests of the weights that made what is read, as far as the file knows them."""
    told = features.provenance.get("encoders", {})
    names = {*reads.needs.values(), reads.region_patch}
    return {name: told.get(name, {}).get("weights_sha256", "") for name in sorted(names)}
