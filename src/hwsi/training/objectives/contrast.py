"""Slides against reports: how well each of a batch fits each, scale by scale, and the contrast between them.

- ``maxsim``: every text unit looks for the visual token that says it best, and the report's score is the mean of what
  its units find (late interaction, ColBERT, arXiv:2004.12832). No token has to know its unit beforehand.
- ``index``: token i with text unit i of the same slide, one direction, as the paper prints L_s. For comparison.
- ``pooled``: one mean vector per scale, as the release has it (``hwsi.model.pooled_alignment``). For comparison.
- Reports with the same words are positives of each other's slides: they cannot be told apart.
- What one slide can be told from are the other reports; a batch of one report is refused.

Notation: B slides and their reports, V visual tokens of a slide, U text units of a report (both padded), N all text
units of a batch, E width. z and t have unit rows, so products are cosines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from hwsi.errors import HwsiError, Reason

Pairing = Literal["maxsim", "index", "pooled"]

LEVELS = {"cell": "word", "patch": "phrase", "region": "sentence", "slide": "paragraph"}
"""Scale -> the unit of language that it is aligned with."""

TEMPERATURE = 0.02
"""The paper's."""

_MOST = 1 << 26  # cosines held at once; of the 1024 slides of a large batch only a few at a time


@dataclass(frozen=True)
class AlignBatch:
    """Visual tokens and text units of B slides, padded.

    Attributes:
        z: scale -> (B, V, E) float, unit rows. z_mask: scale -> (B, V) bool, True where there is a token.
        t: level -> (B, U, E) float, unit rows. t_mask: level -> (B, U) bool.
        parent: child scale (cell, patch, region) -> (B, V of the child) int64, index into the V axis of the parent
            (patch, region, slide); -1 for none.
        report: (B,) int64, equal where reports have the same words.
    """

    z: dict[str, Tensor]
    z_mask: dict[str, Tensor]
    t: dict[str, Tensor]
    t_mask: dict[str, Tensor]
    parent: dict[str, Tensor]
    report: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by a flat name such as ``z.cell``."""
        named = {"z": self.z, "z_mask": self.z_mask, "t": self.t, "t_mask": self.t_mask, "parent": self.parent}
        return {f"{kind}.{name}": x for kind, of in named.items() for name, x in of.items()} | {"report.": self.report}

    @classmethod
    def join(cls, parts: Sequence[dict[str, Tensor]]) -> "AlignBatch":
        """One batch of several (each as :meth:`tensors` gives it), padded to the longest."""
        kinds: dict[str, dict[str, Tensor]] = {k: {} for k in ("z", "z_mask", "t", "t_mask", "parent", "report")}
        for key in parts[0]:
            kind, _, name = key.partition(".")
            rows = [part[key] for part in parts]
            if rows[0].ndim > 1:
                width = max(x.shape[1] for x in rows)
                rows = [_padded(x, width, FILL.get(kind, 0)) for x in rows]
            kinds[kind][name] = torch.cat(rows)
        report = kinds.pop("report")[""]
        return cls(**kinds, report=report)


FILL = {"parent": -1}
"""What padding is filled with, by the kind of tensor; zero for others."""


def _padded(x: Tensor, width: int, fill: float) -> Tensor:
    missing = width - x.shape[1]
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing), value=fill) if missing else x


def require_negatives(report: Tensor) -> None:
    """Refuse a batch in which all slides have the same report.

    Args:
        report: (B,) int64, as in :class:`AlignBatch`.

    Raises:
        HwsiError: NO_NEGATIVES.
    """
    different = _different(report)
    if different < 2:
        what = f"a batch of {len(report)} has {different} different report{'s' * (different != 1)}, so no negatives"
        raise HwsiError(Reason.NO_NEGATIVES, what, "use batches of at least 2 slides whose reports differ")


def _different(report: Tensor) -> int:
    return len(torch.unique(report))


def maxsim(z: Tensor, z_mask: Tensor, t: Tensor, t_mask: Tensor) -> Tensor:
    """Late interaction: mean over text units of the largest cosine to a visual token.

    Args:
        z: (B, V, E), unit rows. z_mask: (B, V) bool, at least one True in each row.
        t: (C, U, E), unit rows. t_mask: (C, U) bool, at least one True in each row.

    Returns:
        (B, C), row slides and column reports.
    """
    units, owner = t[t_mask], t_mask.nonzero()[:, 0]
    step = max(1, _MOST // max(1, z.shape[1] * len(units)))
    best = []
    for start in range(0, len(z), step):
        rows = slice(start, start + step)
        cosine = z[rows] @ units.T
        # the values of max keep only an index for the way back, so the cosines are gone before the next rows
        best.append(cosine.masked_fill(~z_mask[rows, :, None], -torch.inf).max(dim=1).values)
    found = torch.cat(best)
    total = found.new_zeros(len(z), len(t)).index_add(1, owner, found)
    return total / t_mask.sum(1)


def pooled(z: Tensor, z_mask: Tensor, t: Tensor, t_mask: Tensor) -> Tensor:
    """Cosine of the mean token and the mean text unit; shapes as of :func:`maxsim`."""
    return _mean(z, z_mask) @ _mean(t, t_mask).T


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    total = (x * mask[..., None]).sum(1)
    return F.normalize(total / mask.sum(1, keepdim=True), dim=-1)


def info_nce(scores: Tensor, report: Tensor, temperature: float | Tensor = TEMPERATURE) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, arXiv:1807.03748; CLIP, arXiv:2103.00020): scalar.

    Args:
        scores: (B, B), row slides and column reports, in the same order.
        report: (B,) int64; slides with equal values share their positives, each with an equal part of the target.
        temperature: a number, or a scalar tensor that is learned.

    Raises:
        HwsiError: NO_NEGATIVES.
    """
    require_negatives(report)
    logits = scores / temperature
    same = (report[:, None] == report[None, :]).to(logits.dtype)
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def index_loss(z: Tensor, z_mask: Tensor, t: Tensor, t_mask: Tensor, temperature: float | Tensor) -> Tensor:
    """The paper's L_s as printed: -1/n sum_i log softmax_j(cos(z_i, t_j) / temperature)_i, mean over slides.

    Token i is paired with unit i, both in order, among the first n = min(tokens, units) of a slide; the negatives are
    the other units of its own report.

    Args:
        z: (B, V, E). z_mask: (B, V) bool. t: (B, U, E). t_mask: (B, U) bool; present ones stand first.
    """
    n = min(z.shape[1], t.shape[1])
    there = z_mask[:, :n] & t_mask[:, :n]
    logits = z[:, :n] @ t[:, :n].transpose(1, 2) / temperature
    # an absent pair keeps its own column, so that its row is finite; it is left out of the mean
    may = there[:, None, :] | torch.eye(n, dtype=torch.bool, device=z.device)
    picked = logits.masked_fill(~may, -torch.inf).log_softmax(-1).diagonal(dim1=1, dim2=2)
    number = there.sum(1)
    per_slide = -(picked * there).sum(1) / number.clamp(min=1)
    return per_slide[number > 0].mean()


def contrast(batch: AlignBatch, *, pairing: Pairing, temperature: float | Tensor) -> dict[str, Tensor]:
    """The contrastive loss of each scale of a batch; the slide has one token and one paragraph under any pairing.

    A slide without a token, or a report without a unit, takes no part at that scale; a scale at which fewer than two
    different reports are left has no loss, and no entry.

    Raises:
        HwsiError: NO_NEGATIVES for the batch as a whole.
    """
    require_negatives(batch.report)
    losses = {}
    for scale, level in LEVELS.items():
        has = batch.z_mask[scale].any(1) & batch.t_mask[level].any(1)
        z, z_mask = batch.z[scale][has], batch.z_mask[scale][has]
        t, t_mask = batch.t[level][has], batch.t_mask[level][has]
        report = batch.report[has]
        if _different(report) < 2:
            continue
        if pairing == "index" and scale != "slide":
            losses[scale] = index_loss(z, z_mask, t, t_mask, temperature)
        else:
            score = pooled if pairing == "pooled" else maxsim
            losses[scale] = info_nce(score(z, z_mask, t, t_mask), report, temperature)
    return losses
