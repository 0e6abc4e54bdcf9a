"""Leaving out over the cached slide against deleting and encoding again, and what leaks at either level.

- ``lm_token``: hidden from the question over the cached prefix, against a prompt from which the tokens are deleted, the
  others keeping their position ids. With ``visual_mixing`` none and hier the two must agree to rounding; with full the
  later tokens have read the earlier ones, which is printed beside.
- ``encoder_input``: the regions are taken out of the slide's features, the slide's own vector is made again without
  them, and all is read anew. The rank correlation of the two levels over random halves of the regions is the leak
  score: 1 is none.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, Material
from hwsi.benchmarks.statistics import Figure
from hwsi.inference.closed import log_odds
from hwsi.inference.evidence import REGION, SLIDE, Bool, depths
from hwsi.inference.evidence.attribution import rank_correlation
from hwsi.inference.evidence.masks import fixed_size_masks
from hwsi.inference.part import part_of
from hwsi.inference.session import Session
from hwsi.model.scoring import prefill, score
from hwsi.model.visual import VISUAL_INPUTS, VisualBatch

_HALVES, _LEVELS = 4, 12
NAME = "leaving-out"


def measure(material: Material, seed: int) -> list[Line]:
    """Largest difference of a log-probability for each mixing, and the leak score."""
    cases = material.some(1, seed)
    patients = [c.patient for c in cases]
    lines = []
    for mixing in ("none", "hier", "full"):
        worst = [_difference(c, mixing, seed) for c in cases]
        what = f"hidden over the cache against deleted, {mixing}: largest difference in log p"
        made = line(NAME, what, worst, patients, figure=_largest(worst))
        lines.append(replace(made, less=True, floor=None if mixing == "full" else 1e-4))
    levels = [_levels(c, seed) for c in cases]
    lines.append(line(NAME, "lm_token against encoder_input: rank correlation", levels, patients))
    return lines


def _largest(of: list[float]) -> Figure:
    rows = np.array(of)
    return lambda counts: float(rows[counts > 0].max())


def _difference(case: Case, mixing: str, seed: int) -> float:
    """Largest difference of a token's log-probability over random halves, with the slide's own token read."""
    session, model = case.slide.session, case.slide.session.model
    ids = session.processor.question(case.words, case.choices)
    suffix = ids + session.processor.answer(case.choices[0])
    before = model.config.visual_mixing
    model.config.visual_mixing = mixing
    try:
        prefix = session.processor.prefix(session.features)
        cached = prefill(model, session.processor, prefix)
        halves = fixed_size_masks(cached.node_parent.numpy(), _HALVES, np.random.default_rng(seed))
        worst = 0.0
        for half in halves:
            keep = torch.from_numpy(half)[cached.token_node]
            hidden = score(model, cached, torch.tensor([suffix]), None, keep)[0]
            worst = max(worst, float((hidden - _deleted(session, prefix.row, keep, suffix)).abs().max()))
        return worst
    finally:
        model.config.visual_mixing = before


@torch.inference_mode()
def _deleted(session: Session, prefix: dict[str, torch.Tensor], keep: torch.Tensor, suffix: list[int]) -> torch.Tensor:
    """Log-probabilities (L,) of the suffix where what is not kept was never in the input; one pass, no cache."""
    model, size = session.model, len(prefix["input_ids"])
    there = torch.cat([keep, torch.ones(len(suffix), dtype=torch.bool)])
    row = dict(session.processor.pad([prefix]))
    visual = {name: row[name] for name in VISUAL_INPUTS}
    ids = torch.cat([prefix["input_ids"], torch.tensor(suffix)])[None]
    nothing = torch.zeros(len(suffix), dtype=torch.int64)
    nodes = torch.cat([prefix["token_node"], nothing])[None]
    embeds = model.model.embed(ids, VisualBatch(**visual), nodes)
    logits = model(
        inputs_embeds=embeds[:, there],
        attention_mask=torch.ones(1, int(there.sum()), dtype=torch.int64),
        position_ids=torch.arange(size + len(suffix))[None, there],
        token_node=nodes[:, there],
        node_parent=prefix["node_parent"][None],
        segment_ids=torch.cat([torch.zeros(size, dtype=torch.int64), nothing + 1])[None, there],
    ).logits[0, -len(suffix) : -1].float()  # fmt: skip
    chosen = logits.gather(-1, torch.tensor(suffix[1:])[:, None])[:, 0] - logits.logsumexp(-1)
    return torch.cat([torch.zeros(1), chosen])


def _levels(case: Case, seed: int) -> float:
    """Rank correlation over random halves of the regions, hidden from the question and taken out of the features."""
    session, features = case.slide.session, case.slide.session.features
    chosen = session.choose(case.words, case.choices)
    parent = chosen.claims.parent
    regions = np.flatnonzero(depths(parent) == REGION)
    if len(regions) < 4:
        return float("nan")
    rng = np.random.default_rng(seed)
    hidden, encoded = [], []
    for _ in range(_LEVELS):
        kept = np.sort(rng.permutation(len(regions))[: len(regions) // 2])
        hidden.append(float(chosen.claims.value(_with_regions(parent, regions[kept])[None])[0, 0]))
        anew = Session(session.model, session.processor, part_of(features, kept))
        encoded.append(float(log_odds(anew.choose(case.words, case.choices).seen, chosen.chosen)))
    return rank_correlation(np.array(hidden), np.array(encoded))


def _with_regions(parent: NDArray[np.int64], kept: NDArray[np.int64]) -> Bool:
    """Keep mask (N,) of some regions with all below them."""
    keep = np.asarray(depths(parent) <= SLIDE)
    for _ in range(4):
        keep = keep | np.isin(np.arange(len(parent)), kept) | (keep[parent] & (depths(parent) > REGION))
    return np.asarray(keep)
