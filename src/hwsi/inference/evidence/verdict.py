"""Whether tissue carries what was said: the evidence against random sets of its own kind.

- Necessity: what the answer loses without the evidence. Sufficiency: what it keeps with nothing but the evidence.
  Either alone can be fooled (redundant tissue is never necessary, a hint is seldom sufficient), so chance is beaten on
  their sum, by rank among sets of the same size, scales, nesting and spread that share nothing with the evidence.
- Words that the model says as surely with no slide, or with another slide of the organ, are text only, whatever tissue
  may add to them. That is no reproach: an answer may be right and known.
- A verdict is about the cause of this model's words. It says nothing of whether they are true.

Notation: N nodes, U claims.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from hwsi.inference.evidence.masks import matched_sets
from hwsi.inference.evidence.worth import SLIDE, TEXT, Bool, Float64, Int, Value, ancestors, below

RANDOM_SETS = 16
"""So many random sets: with fewer no evidence could reach ``CHANCE`` by luck's measure."""
CHANCE = 0.06
FEWEST_SETS = 3
"""A small slide has few places of a kind; all of them are tried, and evidence that beats each of at least so many is no
matter of luck."""
RELIANCE = 0.05
"""nats per token that the slide must add to the words, or they are text only."""
ENOUGH, KEPT = 0.9, 0.5
"""Shares of what the tissue adds to the answer that evidence keeps alone: where no more of it is needed, and where it
is the least that counts."""


class Verdict(StrEnum):
    """What can be said of a claim."""

    SUPPORTED = "supported"
    TEXT_ONLY = "text-only"
    UNVERIFIED = "unverified"
    ABSTAIN = "abstain"


@dataclass(frozen=True)
class Support:
    """A claim's verdict and what it was drawn from.

    Attributes:
        verdict: ``abstain`` only where the caller asked for a risk and the confidence does not reach it.
        judged: so many leading pieces of the evidence were put to the test: the fewest that alone keep ``ENOUGH``, or
            else all.
        necessity: loss in nats (per token, or log-odds) when these are left out.
        sufficiency: share of what the tissue adds to the answer that stays with these alone; 1 is all of it.
        p_value: (1 + random sets at least as good) / (1 + sets); 1.0 where nothing could be compared.
        sets: how many random sets there were; a small slide has room for few.
    """

    verdict: Verdict
    judged: int
    necessity: float
    sufficiency: float
    p_value: float
    sets: int


@dataclass(frozen=True)
class Claim:
    """What is to be judged.

    Attributes:
        evidence: nodes that are shown for it, best first. reliance: nats per token over no slide.
    """

    evidence: Int
    reliance: float


def judge(parent: Int, place: Float64, value: Value, claims: Sequence[Claim]) -> tuple[Support, ...]:
    """A verdict for each claim; ``value`` gives one column per claim, all claims share two batches of passes.

    Args:
        parent: (N,). place: (N, 2) centres, level-0 px. value: keep masks to nats; see ``worth.py``.
    """
    if not claims:
        return ()
    parts = _Parts(parent)
    starts = [[c.evidence[: k + 1] for k in range(len(c.evidence))] for c in claims]
    alone = [parts.alone(nodes) for of_claim in starts for nodes in of_claim]
    scores = value(np.stack([parts.everything, parts.nothing, *alone]))
    full, empty, rest = scores[0], scores[1], iter(scores[2:])
    kept = [[next(rest)[u] - empty[u] for _ in of_claim] for u, of_claim in enumerate(starts)]
    judged = [_fewest(k, float(full[u] - empty[u])) for u, k in enumerate(kept)]

    rng = np.random.default_rng(0)
    chosen = [c.evidence[:k] for c, k in zip(claims, judged, strict=True)]
    sets = [[e, *matched_sets(parent, e, place, RANDOM_SETS, rng)] if len(e) else [] for e in chosen]
    passes = [keep for of_claim in sets for e in of_claim for keep in (parts.without(e), parts.alone(e))]
    rest = iter(value(np.stack(passes)) if passes else ())
    found = []
    for u, (claim, of_claim) in enumerate(zip(claims, sets, strict=True)):
        strength = np.array([(full[u] - next(rest)[u], next(rest)[u] - empty[u]) for _ in of_claim])
        found.append(_support(claim, judged[u], float(full[u] - empty[u]), strength.reshape(-1, 2)))
    return tuple(found)


def not_judged(reliance: float, verdict: Verdict | None = None) -> Support:
    """The verdict where nothing was compared: text only or unverified, unless another is given."""
    found = Verdict.TEXT_ONLY if reliance <= RELIANCE else Verdict.UNVERIFIED
    return Support(verdict or found, 0, 0.0, 0.0, 1.0, 0)


def _fewest(kept: Sequence[float], tissue: float) -> int:
    """How many leading pieces keep ``ENOUGH`` of what the tissue adds; all where none do."""
    return next((k + 1 for k, gain in enumerate(kept) if tissue > 0 and gain >= ENOUGH * tissue), len(kept))


def _support(claim: Claim, judged: int, tissue: float, strength: Float64) -> Support:
    """``strength`` (1 + sets, 2): what is lost without, and kept by nothing but, the evidence and each random set."""
    if not len(strength):
        return not_judged(claim.reliance)
    text_only = claim.reliance <= RELIANCE
    lost, kept = (float(x) for x in strength[0])
    total = strength.sum(1)
    p = float((1 + (total[1:] >= total[0]).sum()) / len(total)) if len(total) > 1 else 1.0
    share = min(max(kept / tissue, 0.0), 1.0) if tissue > 0 else 0.0
    best_of_all = FEWEST_SETS < len(total) <= RANDOM_SETS and p == 1 / len(total)
    carried = (p <= CHANCE or best_of_all) and share >= KEPT
    verdict = Verdict.TEXT_ONLY if text_only else Verdict.SUPPORTED if carried else Verdict.UNVERIFIED
    return Support(verdict, judged, lost, share, p, len(total) - 1)


class _Parts:
    """Keep masks (N,) of a tree: all of it, nothing but the slide, some nodes with all below them, the rest."""

    def __init__(self, parent: Int) -> None:
        self._parent, self._below = parent, below(parent)
        self.everything: Bool = np.ones(len(parent), bool)
        self.nothing: Bool = np.zeros(len(parent), bool)
        self.nothing[[TEXT, SLIDE]] = True

    def without(self, nodes: Int) -> Bool:
        return np.asarray(~self._below[nodes].any(0))

    def alone(self, nodes: Int) -> Bool:
        keep = self.nothing | self._below[nodes].any(0)
        for node in nodes:
            keep |= ancestors(self._parent, int(node))
        return keep
