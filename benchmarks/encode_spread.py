"""A slide encoded for a quarter of the work: background skipped, and CONCH only on patches that the filter can keep.

- With ``patch_spread: 32`` in a preset, HIPT's cheap vectors say which 32 patches of a region differ most (what the
  release's filter spreads out before 16 stay), and only these go to CONCH. HIPT sees all patches with tissue: ViT-4K
  reads them.
- *Work* is FLOPs of ViT-256, CONCH and ViT-4K over the patches of real trees, laid on phantoms as ``hwsi encode`` lays
  them, against all patches of the same regions by both, background too, as the release does it.
- *Loss* is measured by nano's equal: the same phantoms with the vectors of nano's patches taken away outside the spread
  (chosen on the vectors that its region encoder reads, which itself keeps them all), closed questions with the right
  answer known, and the difference in accuracy with its interval over slides. Spread 32 of 64 patches and 16 kept are
  the release's proportion of spread to kept; 16 of 64 is as hard as it gets: the quarter that is kept is all there is.

    python benchmarks/encode.py spread --slides 24 --keep FOLDER       # a second run takes what lies there
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import caller, flops
from lines import Line

from hwsi.encoders import get
from hwsi.features import SlideFeatures
from hwsi.hierarchy.farthest import SPREAD, farthest_points
from hwsi.hierarchy.grid import build_grid
from hwsi.presets import load_preset

TARGET_WORK = 0.25
SPREADS = (32, 16)
_DRAWS = 2000


def spread_out(features: SlideFeatures, encoder: str, count: int) -> SlideFeatures:
    """The features with ``encoder``'s vectors for at most ``count`` patches of a region, as of ``patch_spread``."""
    tree, rows = features.hierarchy, features.patch[encoder]
    left = np.zeros_like(rows)
    for start, end in pairwise(tree.patches.of_region(len(tree.regions)).tolist()):
        inside = start + np.flatnonzero(~tree.patches.background[start:end])
        chosen = inside[farthest_points(rows[inside], count)[0]]
        left[chosen] = rows[chosen]
    return replace(features, patch={**features.patch, encoder: left})


def paper_work(paths: Sequence[Path]) -> tuple[float, float, float]:
    """(work with the spread, work of background skipped only) over full work, and the share of patches with tissue."""
    from hwsi.slide import find_tissue, open_slide, region_focus

    torch.set_grad_enabled(False)
    ids = ("hipt_vit256", "conch_v1", "hipt_vit4k")
    cost = {name: float(flops(caller(get(name).build(weights=None).requires_grad_(False))(1))) for name in ids}
    large = cost.pop("hipt_vit4k")
    paper = load_preset("paper")
    spared = skipped = full = 0.0
    tissue = places = 0
    for path in paths:
        with open_slide(path) as slide:
            tree = build_grid(
                (slide.width0, slide.height0), slide.mpp, find_tissue(slide, mpp=paper.tissue_mpp),
                region_px=paper.region_px, patch_px=paper.patch_px, read_mpp=paper.read_mpp,
                min_tissue=paper.min_tissue, focus=lambda xy, size0, slide=slide: region_focus(slide, xy, size0),
            )  # fmt: skip
        per_region = (paper.region_px // paper.patch_px) ** 2
        of_region = np.bincount(tree.patches.region[~tree.patches.background], minlength=len(tree.regions))
        seen = np.minimum(of_region, SPREAD).sum()
        spared += of_region.sum() * cost["hipt_vit256"] + seen * cost["conch_v1"] + len(of_region) * large
        skipped += of_region.sum() * sum(cost.values()) + len(of_region) * large
        full += len(of_region) * (per_region * sum(cost.values()) + large)
        tissue, places = tissue + int(of_region.sum()), places + len(of_region) * per_region
    return spared / full, skipped / full, tissue / places


def answers(sessions: Sequence[Any], asked: Sequence[dict[str, Any]], of_slide: dict[str, int]) -> np.ndarray:
    """(Q,) whether each closed question is answered rightly."""
    from hwsi.phantom.questions import slide_of
    from hwsi.phantom.truth import fill_labels

    right = []
    for question in asked:
        session = sessions[of_slide[slide_of(question)]]
        words, choices = fill_labels(question["question"], session.region_at), question["choices"]
        seen, _ = session.choice_log_probs(words, choices)
        right.append(choices[int(np.argmax(seen))] == question["answer"])
    return np.array(right)


def interval(difference: np.ndarray, slide: np.ndarray) -> tuple[float, float]:
    """95 % of the mean difference, slides drawn again."""
    rng, names = np.random.default_rng(0), np.unique(slide)
    sums = np.array([difference[slide == n].sum() for n in names])
    counts = np.array([(slide == n).sum() for n in names])
    drawn = rng.integers(len(names), size=(_DRAWS, len(names)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), (2.5, 97.5))
    return float(low), float(high)


def spread_lines(slides: int, *, seed: int, out: Path | None) -> list[Line]:
    """Work saved, and accuracy lost, on ``slides`` phantoms; ``out`` keeps them for the next run."""
    from hwsi.encoding import encode_slide
    from hwsi.inference import study
    from hwsi.phantom.cohort import write_cohort
    from hwsi.phantom.questions import balance, slide_of
    from hwsi.phantom.truth import cited, load_truth

    with tempfile.TemporaryDirectory(prefix="hwsi-spread-") as name:
        folder = out or Path(name)
        plans = write_cohort(folder / "cohort", slides, seed, split="test", workers=1)
        paths = [folder / "cohort" / (p.slide_id + p.suffix) for p in plans]
        spared, skipped, tissue = paper_work(paths)
        truths = [load_truth(path) for path in paths]
        whole = [encode_slide(path, out=folder / "job") for path in paths]
    of_slide = {t["slide_id"]: i for i, t in enumerate(truths)}
    sessions = [study(features) for features in whole]
    closed = [
        q
        for t in truths
        for q in t["questions"]
        if q["closed_eval"] and all(sessions[of_slide[t["slide_id"]]].region_at(*g) for g in cited(q["question"]))
    ]
    asked = balance(closed, {t["slide_id"]: t["organ"] for t in truths}, seed)
    slide = np.array([of_slide[slide_of(q)] for q in asked])
    before = answers(sessions, asked, of_slide)
    lines = [
        Line(
            f"slide to features, CONCH on {SPREAD} patches a region", f"{spared:.3f} of the work", "all by both 1",
            1 / spared, f"{tissue:.0%} tissue: skipping background alone {skipped:.3f}", f"<= {TARGET_WORK}",
            spared <= TARGET_WORK,
        )
    ]  # fmt: skip
    held = sum(int((~f.hierarchy.patches.background).sum()) for f in whole)
    for count in SPREADS:
        left = [spread_out(features, "patch-nano", count) for features in whole]
        after = answers([study(features) for features in left], asked, of_slide)
        loss = before.astype(float) - after
        low, high = interval(loss, slide)
        share = sum(int(f.patch["patch-nano"].any(1).sum()) for f in left) / held
        lines.append(
            Line(
                f"  nano, {count} of 64 patches a region, {len(asked)} questions", f"accuracy {after.mean():.3f}",
                f"all patches {before.mean():.3f}", None,
                f"loss {loss.mean():+.3f} ({low:+.3f} to {high:+.3f}), {share:.0%} of the patches seen",
            )
        )  # fmt: skip
    return lines
