"""Beside the contrast of nano's stage 1: region and slide vectors that hold what is true, and lie near the words.

- Each vector must hold the attributes of its square or slide (one linear layer each), and lie near the words for it:
  patch and phrase, region and sentence, slide and report, symmetric InfoNCE with shared positives.
- A slide is mirrored and transposed as a whole (its quarters change their names with it), and patches are dropped
  at random, so that a few hundred slides go a long way.
- Features of all slides are small enough for memory; pixels are not needed any more.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwsi.encoders.nano import CELL, PATCH
from hwsi.encoders.region_nano import RegionNano
from hwsi.encoders.slide_nano import SlideNano
from hwsi.encoders.summaries import summarise_cells, summarise_tissue
from hwsi.encoders.text_nano import TextNano
from hwsi.features import SlideFeatures, read_features
from hwsi.phantom.truth import QUADRANTS, fill_labels
from hwsi.training.nano.attributes import BOTH, NUMBERS, PLACED, SLIDE, Readers, classes, numbers, told
from hwsi.training.nano.cohort import CohortSlide, read_cohort
from hwsi.training.nano.patch import aligned
from hwsi.training.nano.patch_truth import in_quarters, pieces, pieces_of_regions

_SENTENCES = re.compile(r"(?<=\.)\s+")


@dataclass(frozen=True)
class Example:
    """One slide: R regions of up to T patches.

    Attributes:
        patches: (R, T, 192 + 261), vector and cells of each patch. mask: (R, T) bool. row_col: (R, T, 2) int64.
        tissue: (R, 2), see ``summarise_tissue``. mm: (R, 2) centres of the regions.
        side: patches along a region's side. region_numbers, slide_numbers: not standardised, nan unknown.
        region_kinds, slide_kinds: attribute -> class indices, -1 unknown.
        sentences: of the regions. report, caption: of the slide. phrases: ((region, slot), text) of patches.
    """

    patient: str
    patches: Tensor
    mask: Tensor
    row_col: Tensor
    tissue: Tensor
    mm: Tensor
    side: int
    region_numbers: Tensor
    region_kinds: dict[str, Tensor]
    slide_numbers: Tensor
    slide_kinds: dict[str, Tensor]
    sentences: list[str]
    report: str
    caption: str
    phrases: list[tuple[tuple[int, int], str]]


def example(slide: CohortSlide, features: SlideFeatures, encoder: str = PATCH.id) -> Example:
    """Join a slide's features with its truth by the grid that both share."""
    tree, truth, table = features.hierarchy, slide.truth(), slide.patches()
    side = tree.region_px // tree.patch_px
    rows, t = len(tree.regions), side * side
    of_cells = features.cell[CELL.id]
    cells = summarise_cells(of_cells, tree.cells.type, tree.cells.patch, len(tree.patches))
    seen = np.concatenate([np.asarray(features.patch[encoder], np.float32), cells], 1)
    vectors = torch.zeros(rows, t, seen.shape[1])
    mask = torch.zeros(rows, t, dtype=torch.bool)
    slot = tree.patches.row_col[:, 0] * side + tree.patches.row_col[:, 1]
    there = ~tree.patches.background
    at = (torch.from_numpy(tree.patches.region[there].copy()), torch.from_numpy(slot[there].copy()))
    vectors[at] = torch.from_numpy(seen[there])
    mask[at] = True
    grid = np.arange(t)
    row_col = torch.from_numpy(np.stack([grid // side, grid % side], 1)).expand(rows, t, 2)
    known = {tuple(r["grid"]): r for r in truth["regions"]}
    ours = [known.get(tuple(int(v) for v in g), {"attrs": {}, "sentence": ""}) for g in tree.regions.grid]
    hang = pieces_of_regions(table, tree.regions.grid, side)
    attrs = [told(r["attrs"]) | {"pieces": n} for r, n in zip(ours, hang, strict=True)]
    whole = told(truth["slide"]) | in_quarters(table) | {"diagnosis": truth["diagnosis"], "pieces": pieces(table)}
    phrase = {tuple(int(v) for v in g): str(p) for g, p in zip(table["grid"], table["phrase"], strict=True)}
    phrases = []
    for n in np.flatnonzero(there):
        r = int(tree.patches.region[n])
        place = tuple(int(v) for v in tree.regions.grid[r] * side + tree.patches.row_col[n])
        if phrase.get(place):
            phrases.append(((r, int(slot[n])), phrase[place]))

    def plain(text: str) -> str:
        return fill_labels(text, lambda row, col: "this region")

    regions = tree.regions
    tissue = summarise_tissue([rings[0] for rings in features.tissue], regions.tissue, regions.xy, regions.size0)
    mm = torch.from_numpy(tree.centre_mm(regions.xy, regions.size0))
    return Example(
        slide.patient, vectors, mask, row_col, torch.from_numpy(tissue), mm, side,
        numbers(attrs), classes(attrs, BOTH), numbers([whole]), classes([whole], SLIDE),
        [plain(r["sentence"]) for r in ours], plain(truth["report"]), truth["caption"], phrases,
    )  # fmt: skip


def turn(e: Example, code: int) -> Example:
    """One of the eight symmetries of the square, for the slide as a whole: places and names of quarters."""
    mirror_x, mirror_y, transpose = code & 1, code >> 1 & 1, code >> 2 & 1
    row_col, mm = e.row_col.clone(), e.mm.clone()
    low, high = e.mm.amin(0), e.mm.amax(0)
    # quarters: 0 upper left, 1 upper right, 2 lower left, 3 lower right
    quarter = torch.arange(4)
    if mirror_x:
        row_col[..., 1] = e.side - 1 - row_col[..., 1]
        mm[:, 0] = low[0] + high[0] - mm[:, 0]
        quarter = quarter ^ 1
    if mirror_y:
        row_col[..., 0] = e.side - 1 - row_col[..., 0]
        mm[:, 1] = low[1] + high[1] - mm[:, 1]
        quarter = quarter ^ 2
    if transpose:
        row_col, mm = row_col.flip(-1), mm.flip(-1)
        quarter = torch.tensor([0, 2, 1, 3])[quarter]
    assert len(QUADRANTS) == 4
    kinds, amounts = dict(e.slide_kinds), e.slide_numbers.clone()
    names = [*NUMBERS]
    for what in PLACED:
        old = kinds[f"where_{what}"]
        kinds[f"where_{what}"] = torch.where(old >= 0, quarter[old.clamp(min=0)], old)
        first = names.index(f"{what} {QUADRANTS[0]}")
        amounts[:, first + quarter] = e.slide_numbers[:, first : first + 4]
    return Example(**{**vars(e), "row_col": row_col, "mm": mm, "slide_kinds": kinds, "slide_numbers": amounts})


class ContextTrainee(nn.Module):
    """Region, slide and text encoders with the linear layers that read attributes."""

    def __init__(self, text: TextNano, examples: list[Example]) -> None:
        super().__init__()
        self.region, self.slide, self.text = RegionNano(), SlideNano(), text
        self.region.fit(torch.cat([e.patches[e.mask][:, PATCH.dim :] for e in examples]))
        self.read_region, self.read_slide = Readers(192, BOTH), Readers(192, SLIDE)
        for name in ("region", "slide"):
            every = torch.cat([getattr(e, f"{name}_numbers") for e in examples])
            known = ~every.isnan()
            n = known.sum(0).clamp(min=1)
            mean = every.nan_to_num(0).sum(0) / n
            sd = (((every - mean).nan_to_num(0) ** 2).sum(0) / n).sqrt().clamp(min=1e-3)
            self.register_buffer(f"{name}_mean", mean)
            self.register_buffer(f"{name}_sd", sd)

    def vectors(self, batch: list[Example], drop: float = 0.0) -> tuple[Tensor, Tensor]:
        """Region vectors (sum of R, 192) and slide vectors (B, 192) of some slides."""
        mask = torch.cat([e.mask for e in batch])
        if drop:
            keep = torch.rand(mask.shape) >= drop * torch.rand(len(mask), 1)
            mask = mask & (keep | ~(mask & keep).any(1, keepdim=True))
        regions = self.region(torch.cat([e.patches for e in batch]), mask, torch.cat([e.row_col for e in batch]))
        most = max(len(e.mm) for e in batch)
        seen = torch.cat([regions, torch.cat([e.tissue for e in batch])], 1)
        padded = regions.new_zeros(len(batch), most, seen.shape[1])
        present = torch.zeros(len(batch), most, dtype=torch.bool)
        mm = torch.zeros(len(batch), most, 2)
        at = 0
        for i, e in enumerate(batch):
            n = len(e.mm)
            padded[i, :n] = seen[at : at + n]
            present[i, :n] = True
            mm[i, :n] = e.mm
            at += n
        return regions, self.slide(padded, present, mm)

    def losses(self, batch: list[Example], drop: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """Attributes of regions and slides, and alignment at three scales."""
        regions, slides = self.vectors(batch, drop)

        def gather(name: str) -> dict[str, Tensor]:
            return {k: torch.cat([getattr(e, name)[k] for e in batch]) for k in getattr(batch[0], name)}

        def standard(name: str) -> Tensor:
            mean, sd = getattr(self, f"{name}_mean"), getattr(self, f"{name}_sd")
            value: Tensor = (torch.cat([getattr(e, f"{name}_numbers") for e in batch]) - mean) / sd
            return value

        found = {
            "region": self.read_region.loss(regions, standard("region"), gather("region_kinds")),
            "slide": self.read_slide.loss(slides, standard("slide"), gather("slide_kinds")),
        }
        patches, phrases = [], []
        for e in batch:
            for k in rng.permutation(len(e.phrases))[:12]:
                (r, slot), text = e.phrases[int(k)]
                patches.append(e.patches[r, slot, : PATCH.dim])
                phrases.append(text)
        found["words_patch"] = self.near(torch.stack(patches), phrases)
        sentences = [s for e in batch for s in e.sentences]
        told = torch.tensor([bool(s) for s in sentences])
        found["words_region"] = self.near(regions[told], [s for s in sentences if s])
        found["words_slide"] = self.near(slides, [words_of(e, rng) for e in batch])
        return found

    def near(self, z: Tensor, texts: list[str]) -> Tensor:
        """InfoNCE of vectors (n, 192) with their texts; equal texts share their positives."""
        known = {t: i for i, t in enumerate(sorted(set(texts)))}
        same = torch.tensor([known[t] for t in texts])
        return aligned(z, self.text(*self.text.tokenise(texts)), same)


def words_of(e: Example, rng: np.random.Generator) -> str:
    """The whole report, or as often less, since who searches writes less: the caption, or some of the sentences."""
    luck = rng.random()
    if luck < 0.5:
        return e.report
    if luck < 0.65:
        return e.caption
    sentences = _SENTENCES.split(e.report)
    some = np.sort(rng.choice(len(sentences), min(len(sentences), int(rng.integers(1, 7))), replace=False))
    return " ".join(sentences[int(i)] for i in some)


WEIGHTS = {"words_patch": 0.5, "words_region": 0.5, "words_slide": 0.5}


def load_examples(cohort: Path, features: Path) -> list[Example]:
    """All slides of a cohort whose feature file is there."""
    found = []
    for slide in read_cohort(cohort):
        path = features / "features" / f"{slide.name}.h5"
        if path.exists():
            found.append(example(slide, read_features(path)))
    return found


@torch.no_grad()
def measure(model: ContextTrainee, examples: list[Example]) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy of what is read from slide vectors and from region vectors."""
    regions, slides = model.vectors(examples)
    of_slides = {k: torch.cat([e.slide_kinds[k] for e in examples]) for k in SLIDE}
    of_regions = {k: torch.cat([e.region_kinds[k] for e in examples]) for k in BOTH}
    return model.read_slide.accuracy(slides, of_slides), model.read_region.accuracy(regions, of_regions)
