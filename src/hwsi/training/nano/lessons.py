"""What ``instruct`` shows nano: an item is all rows of one step, drawn from (seed, epoch, index) alone.

- One of four items is a drill: what only the whole slide tells (where it lies, how many foci, which artefacts), asked
  of the tops of many trees, slide and regions without patches. Reports have too few words of it to be learned from.
- Of four others, two show such tops as well, and one of these is a mosaic: the regions of many slides dealt out anew,
  each to be described. On a slide all regions are much alike, and a model that writes of each what is true of most
  reads none of them; only a mosaic asks what a label stands for.
- The rest show whole slides. Turned slides, missing and hidden patches are those of ``language.py``, the dialogues
  those of ``dialogues.py``.
- With each row comes what its tokens must tell: attributes of slide and regions, cells of each patch that is shown.
- What is held out is shown as at inference, one slide a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hwsi.encoders.region_nano import build as build_region
from hwsi.encoders.slide_nano import build as build_slide
from hwsi.features import read_features
from hwsi.hierarchy.labels import region_label
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.phantom.wordings import DESCRIBE
from hwsi.training.data.rows import STAYS
from hwsi.training.nano.cell_truth import attach, truth_of
from hwsi.training.nano.cohort import CohortSlide, features_file
from hwsi.training.nano.dialogues import Teacher, answer_counts
from hwsi.training.nano.language import Views, hidden
from hwsi.training.nano.turns import Dialogue, turns

Shown = dict[str, Any]
"""A row of ``processor.encode`` and what belongs to it."""
TOLD = "told"
"""Key of a row's, and of a batch's, truth: ``slide`` and ``region`` (attribute -> classes), ``cells`` (P, 14)."""
_KEPT = (4, 8, 16)
"""Patches of a region that a visit shows at most."""
_EPOCH = 1000  # items; which slides they show is drawn anew in each epoch
_TOPS, _TOP_QUESTIONS = 12, 6
_DESCRIBED = 8  # regions of a mosaic
_SEEN = (1, 1, 2, 3, 16)
"""Regions of a mosaic that can be seen: from one, where a label need not be read, to all."""
_DRILLS = 0.25  # of items
_DRILL_SLIDE, _DRILL_REGIONS = 0.4, 0.05  # of drills: those that see the slide's token, or the regions' alone
_TOP_REPORTS = 0.5  # of the tops of trees: region by region, the cheapest lesson in what a label stands for


class Slides:
    """Slides with their truth, and their region and slide vectors made anew at every visit.

    Args:
        slides: of any cohorts. job: with their features.
        region, slide: weights of the encoders that stage 1 trained.
        processor: of the model.
    """

    def __init__(
        self, slides: Sequence[CohortSlide], job: Path, *, region: Path, slide: Path, processor: HwsiProcessor
    ) -> None:
        below, above = build_region(region), build_slide(slide)
        self.slides, self.processor = slides, processor
        self.views = [Views(s, attach(read_features(features_file(job, s)), s.patches()), below, above) for s in slides]
        self.truths = [s.truth() for s in slides]
        self.counts = answer_counts(self.truths)


class Lessons(Dataset[list[Shown]]):
    """Steps of training: items are lists of rows with :data:`STAYS` and :data:`TOLD`.

    Args:
        of: slides. picked: rows of these that are shown. questions: to a whole slide.
        rows: whole slides of a step. seed: of all that is drawn.
    """

    def __init__(self, of: Slides, picked: Sequence[int], *, rows: int, questions: int, seed: int) -> None:
        self._of, self._picked, self._rows, self._questions, self._seed = of, [*picked], rows, questions, seed
        self.costs = [1] * _EPOCH  # a step is a step

    def __len__(self) -> int:
        return len(self.costs)

    def __getitem__(self, at: int | tuple[int, int]) -> list[Shown]:
        epoch, index = at if isinstance(at, tuple) else (0, at)
        rng = np.random.default_rng([self._seed, epoch, index])
        first = epoch == 0  # nothing but mosaics: by its end labels are read
        drill = not first and rng.random() < _DRILLS
        top = first or drill or index % 2 == 0
        size = min(_TOPS if top else self._rows, len(self._picked))
        picked = [int(i) for i in rng.choice(self._picked, size, replace=False)]
        if drill:
            return [self._drill(i, rng) for i in picked]
        if first or index % 4 == 0:
            return self._mosaic(picked, rng)
        return [self._row(i, rng, top=top) for i in picked]

    def _row(self, i: int, rng: np.random.Generator, *, top: bool) -> Shown:
        of = self._of
        seen, code, relevance, of_slide, of_regions = of.views[i].draw(rng)
        prefix = of.processor.prefix(seen, relevance=relevance, kept_patches=0 if top else int(rng.choice(_KEPT)))
        teacher = Teacher(of.truths[i], seen.hierarchy, of.counts, code)
        stays = hidden(prefix, rng)
        asked = teacher.draw(
            rng, _TOP_QUESTIONS if top else self._questions, reported=_TOP_REPORTS if top else 1.0,
            shown=_shown(prefix, stays),
        )  # fmt: skip
        told = {"slide": of_slide, "region": of_regions, "cells": truth_of(seen, prefix.layout.patches)}
        return _encoded(of.processor, prefix, asked, stays, told)

    def _drill(self, i: int, rng: np.random.Generator) -> Shown:
        of = self._of
        seen, code, _, of_slide, of_regions = of.views[i].draw(rng)
        prefix = of.processor.prefix(seen, kept_patches=0)
        luck = rng.random()
        hides = "region" if luck < _DRILL_SLIDE else "slide" if luck > 1 - _DRILL_REGIONS else ""
        stays = torch.tensor([n.scale != hides for n in prefix.layout.nodes])[prefix.row["token_node"]]
        asked = Teacher(of.truths[i], seen.hierarchy, of.counts, code).drill(rng, alone=hides == "region")
        told = {"slide": of_slide, "region": of_regions, "cells": truth_of(seen, prefix.layout.patches)}
        return _encoded(of.processor, prefix, asked, stays, told)

    def _mosaic(self, picked: Sequence[int], rng: np.random.Generator) -> list[Shown]:
        """Tops of trees with each other's regions; in each some can be seen, and these are to be described."""
        of = self._of
        drawn = [of.views[i].draw(rng) for i in picked]
        prefixes = [of.processor.prefix(seen, kept_patches=0) for seen, *_ in drawn]
        told: list[str] = []
        for i, (seen, code, *_) in zip(picked, drawn, strict=True):
            sentences = Teacher(of.truths[i], seen.hierarchy, of.counts, code).regions()
            told += [sentences.get(region_label(r), "") for r in range(len(seen.hierarchy.regions))]
        vectors = torch.cat([p.row["region_features"] for p in prefixes])
        truths = _joined([of_regions for *_, of_regions in drawn])
        ends = np.cumsum([len(p.row["region_features"]) for p in prefixes])
        rows = []
        for mine, prefix, (seen, _, _, of_slide, _) in zip(
            np.split(rng.permutation(len(told)), ends[:-1]), prefixes, drawn, strict=True
        ):
            there = [r for r, source in enumerate(mine) if told[source]]
            there = rng.permutation(there)[: int(rng.choice(_SEEN))].tolist()
            asked = [_describe(r, told[mine[r]], rng) for r in there[:_DESCRIBED]]
            laid = replace(prefix, row={**prefix.row, "region_features": vectors[torch.from_numpy(mine)]})
            told_of: Shown = {"slide": of_slide, "region": {name: v[mine] for name, v in truths.items()}}
            told_of["cells"] = truth_of(seen, prefix.layout.patches)
            rows.append(_encoded(of.processor, laid, asked, _only(prefix, there), told_of))
        return rows


def _encoded(
    processor: HwsiProcessor, prefix: SlidePrefix, asked: Sequence[Dialogue], stays: Tensor, told: Shown
) -> Shown:
    """A row; ``stays`` (T,) bool says which tokens of the slide can be seen."""
    row: Shown = processor.encode(prefix, asked)
    row[STAYS] = torch.ones(len(row["input_ids"]), dtype=torch.bool)
    row[STAYS][: len(prefix)] = stays
    return {**row, TOLD: told}


def _describe(region: int, sentence: str, rng: np.random.Generator) -> Dialogue:
    return turns(DESCRIBE[int(rng.integers(len(DESCRIBE) - 1))].format(region=region_label(region)), sentence)


def _only(prefix: SlidePrefix, regions: Sequence[int]) -> Tensor:
    """(T,) bool, which tokens of a top stay if only some regions do; the slide's own sums up another slide."""
    stay = [n.scale == "text" or (n.scale == "region" and n.index in regions) for n in prefix.layout.nodes]
    return torch.tensor(stay)[prefix.row["token_node"]]


def _shown(prefix: SlidePrefix, stays: Tensor) -> set[str]:
    """Labels of the regions of which anything can be seen."""
    nodes = prefix.layout.nodes
    seen = [nodes[int(i)] for i in torch.unique(prefix.row["token_node"][stays])]
    return {n.label.partition(".")[0] for n in seen}


class HeldOut(Dataset[list[Shown]]):
    """Slides as at inference, an item is a list of one row; the same questions every time."""

    def __init__(self, of: Slides, picked: Sequence[int], *, questions: int) -> None:
        self._of, self._picked, self._questions = of, [*picked], questions
        self.costs = [1] * len(self._picked)

    def __len__(self) -> int:
        return len(self._picked)

    def __getitem__(self, at: int) -> list[Shown]:
        of, i = self._of, self._picked[at]
        seen = of.views[i].plain()
        teacher = Teacher(of.truths[i], seen.hierarchy, of.counts)
        asked = teacher.draw(np.random.default_rng([7, i]), self._questions)
        return [dict(of.processor.encode(of.processor.prefix(seen), asked))]


def collate_with(collate: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[list[Shown]]], Any]:
    """Items to one batch: all their rows by ``collate``, and what is told of them joined under :data:`TOLD`."""

    def batch_of(items: Sequence[list[Shown]]) -> Any:
        rows = [row for item in items for row in item]
        batch = collate([{k: v for k, v in row.items() if k != TOLD} for row in rows])
        told = [row[TOLD] for row in rows if TOLD in row]
        if told:
            joined: dict[str, Any] = {scale: _joined([t[scale] for t in told]) for scale in ("slide", "region")}
            batch[TOLD] = {**joined, "cells": torch.cat([t["cells"] for t in told])}
        return batch

    return batch_of


def _joined(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
