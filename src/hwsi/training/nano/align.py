"""Stage 1 of nano: L_HCA, and beside it what makes its region and slide vectors worth reading.

- The stage is ``stages/align.py`` as anybody runs it. Added to each step is a batch of ``context.py``: linear readers
  of every attribute of regions and slides, and their vectors near the words for them, without heads between.
- Another linear reader tells CCAF what the cells of a patch are (``cell_truth.py``): late interaction with words asks
  for the one cell token that fits best, and leaves the others to themselves.
- The temperature is 0.07, as everywhere in nano: at 0.02 a batch of eight would drown what the readers ask for.
- At the end the projectors begin as a whitening (``whiten.py``) of the vectors that were learned; ``project`` goes on
  from there.

Run: ``python -m hwsi.training.nano.align --start RUN/words --cohort COHORT --features JOB --reports REPORTS
--text PATCH_RUN/text.safetensors --out RUN/align``
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwsi.features import read_features
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.training.data.augment import Augmentation
from hwsi.training.nano.cell_truth import WIDTH, attach, read_loss, truth_of
from hwsi.training.nano.cohort import CohortSlide, features_file, held_out, slides_of
from hwsi.training.nano.context import WEIGHTS, ContextTrainee, Example, example, measure, turn
from hwsi.training.nano.whiten import whiten
from hwsi.training.stages.align import Ready, Recipe, run_align
from hwsi.training.stages.align_config import AlignConfig, Contrast, Tower
from hwsi.training.stages.align_data import AlignSlide
from hwsi.training.stages.align_encoders import seeded
from hwsi.training.stages.align_model import AlignModel
from hwsi.training.stages.config import Data, Optimiser, Watch

_SLIDES = 16  # of a batch of context.py
_DROPPED = 0.3  # up to this share of a region's patches is missing there
_CELL_SLIDES, _CELL_PATCHES = 2, 4  # slides, and patches of each region, whose cells are read
_SAMPLE = 600  # slides from which the projectors' whitening is measured
_TEMPERATURE = 0.07
_CELLS = 4.0  # weight of the cells: one small loss beside some forty


class NanoAlign(AlignModel):
    """All above the pixels, with readers of what is true; :meth:`teach` before the first step."""

    readers: ContextTrainee
    read_cells: nn.Linear

    def teach(self, slides: Sequence[CohortSlide], job: Path, processor: HwsiProcessor) -> None:
        """Read the truth of some slides and make the readers.

        Args:
            slides: to learn from. job: with their features. processor: lays out their cells.
        """
        self._taught, self._job, self._processor = slides, job, processor
        self._examples: list[Example] = [example(s, read_features(features_file(job, s))) for s in slides]
        self.readers = ContextTrainee(self.text, self._examples)  # type: ignore[arg-type]
        self.region, self.slide = self.readers.region, self.readers.slide
        self.read_cells = nn.Linear(self.ccaf.norm_out.normalized_shape[0], WIDTH)

    def beside(self) -> dict[str, Tensor]:
        """Weighted losses of ``context.py`` and of the cells, on slides drawn by torch's random state."""
        rng = np.random.default_rng(int(torch.randint(1 << 31, ())))
        rows = rng.choice(len(self._examples), min(_SLIDES, len(self._examples)), replace=False)
        batch = [turn(self._examples[int(i)], int(rng.integers(8))) for i in rows]
        found = self.readers.losses(batch, _DROPPED, rng)
        found = {name: WEIGHTS.get(name, 1.0) * value for name, value in found.items()}
        return found | {"cells": _CELLS * self._cells_told(rows[:_CELL_SLIDES], rng)}

    def _cells_told(self, rows: Any, rng: np.random.Generator) -> Tensor:
        losses = []
        for i in rows:
            slide = self._taught[int(i)]
            features = attach(read_features(features_file(self._job, slide)), slide.patches())
            relevance = rng.random(len(features.hierarchy.patches)).astype(np.float32)
            prefix = self._processor.prefix(features, relevance=relevance, kept_patches=_CELL_PATCHES)
            cells = [prefix.row[f"cell_{name}"] for name in ("features", "mask", "xy", "count")]
            losses.append(read_loss(self.read_cells, self.ccaf(*cells), truth_of(features, prefix.layout.patches)))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def whiten(self, model: HwsiForConditionalGeneration, slides: Sequence[AlignSlide]) -> None:
        """Begin the projectors of a model as a whitening of what this one makes of some slides."""
        found: dict[str, list[Tensor]] = {scale: [] for scale in ("slide", "region", "patch", "cell")}
        for slide in slides:
            (regions,), whole = self.context([slide])
            for scale, vectors in zip(found, (whole, regions, slide.patch, self._cells([slide])[0]), strict=True):
                found[scale].append(vectors)
        for scale, parts in found.items():
            whiten(model.model.visual.projectors[scale], torch.cat(parts))


class NanoRecipe(Recipe):
    """Truth of some cohorts beside L_HCA; held-out patients teach nothing.

    Args:
        cohorts: of phantom slides. job: with their features. seed: of the readers' first weights.
    """

    model = NanoAlign

    def __init__(self, cohorts: Sequence[Path], job: Path, seed: int) -> None:
        slides = slides_of(cohorts, job)
        apart = held_out(s.patient for s in slides)
        self._learn = [s for s, out in zip(slides, apart, strict=True) if not out]
        self._test = [s for s, out in zip(slides, apart, strict=True) if out]
        self._job, self._seed = job, seed

    def begin(self, ready: Ready) -> None:
        """Make the readers."""
        assert isinstance(ready.align, NanoAlign)
        align = ready.align
        seeded(lambda: align.teach(self._learn, self._job, ready.processor), self._seed)

    def finish(self, ready: Ready) -> None:
        """Tell what the readers find on held-out patients, and whiten the projectors."""
        assert isinstance(ready.align, NanoAlign)
        if self._test:
            test = [example(s, read_features(features_file(self._job, s))) for s in self._test]
            of_slides, of_regions = measure(ready.align.cpu().readers, test)
            print(f"held out: slides {json.dumps(of_slides)} regions {json.dumps(of_regions)}", flush=True)
        every = max(1, len(ready.train) // _SAMPLE)
        slides = [ready.train[i] for i in range(0, len(ready.train), every)][:_SAMPLE]
        align = ready.align.cpu()
        seeded(lambda: align.whiten(ready.model, slides), self._seed)


def config_of(
    *, start: Path, features: Path, reports: Sequence[Path], text: Path, steps: int, slides: int = 8, bf16: bool = False
) -> AlignConfig:
    """Stage 1 as nano runs it; ``text`` is the tower that ``patch.py`` trained."""
    return AlignConfig(
        start=start,
        former="words",
        region=Tower(id="region-nano", weights="none"),
        slide=Tower(id="slide-nano", weights="none"),
        text=Tower(id="text-nano", weights=text),
        contrast=Contrast(slides=slides, units=24, temperature=_TEMPERATURE),
        optimiser=Optimiser(lr=6e-4, warmup=0.05, weight_decay=0.05),
        watch=Watch(log_every=20, eval_every=max(1, steps // 3), save_every=100),
        data=Data(
            features=(features,), reports=tuple(reports), augment=Augmentation(turn=True, relevance=0.5, kept=(4,))
        ),
        device="cpu",
        steps=steps,
        precision="bf16" if bf16 else "fp32",
        workers=1,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("start", "features", "text", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("cohort", "reports"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--slides", type=int, default=8, help="of a contrastive batch")
    parser.add_argument("--bf16", action="store_true", help="mixed precision: faster where the CPU has bf16")
    args = parser.parse_args()
    told = {name: getattr(args, name) for name in ("start", "features", "reports", "text", "steps", "slides", "bf16")}
    record = run_align(config_of(**told), args.out, NanoRecipe(args.cohort, args.features, seed=0))
    figures = {k: v for k, v in record.metrics.items() if isinstance(v, float)}
    print(f"{args.out} is trained: {figures}", flush=True)


if __name__ == "__main__":
    main()
