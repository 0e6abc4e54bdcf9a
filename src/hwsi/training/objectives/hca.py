"""L_HCA: contrast at four scales and consistency between them, in one number with its parts.

L_HCA = sum over cell, patch, region of L_s + L_WSI + weight * L_c (the paper has no weights: all are one).
"""

import torch
from torch import Tensor

from hwsi.training.objectives.consistency import consistency, effective_rank, total
from hwsi.training.objectives.contrast import LEVELS, TEMPERATURE, AlignBatch, Pairing, contrast, maxsim


def hca_loss(
    batch: AlignBatch,
    *,
    pairing: Pairing = "maxsim",
    temperature: float | Tensor = TEMPERATURE,
    consistency_weight: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Hierarchical cross-modal alignment of a batch.

    Returns:
        The loss, and its parts without gradient: ``contrast_<scale>`` and ``consistency_<parent>_<child>``.

    Raises:
        HwsiError: NO_NEGATIVES.
    """
    losses = contrast(batch, pairing=pairing, temperature=temperature)
    apart = consistency(batch)
    loss = torch.stack([*losses.values(), consistency_weight * total(apart)]).sum()
    parts = {f"contrast_{k}": v.detach() for k, v in losses.items()}
    return loss, parts | {f"consistency_{k}": v.detach() for k, v in apart.items()}


def effective_ranks(batch: AlignBatch) -> dict[str, Tensor]:
    """``rank_<scale>``: effective rank of the tokens of each scale; a scale without tokens has no entry."""
    return {f"rank_{s}": effective_rank(z[batch.z_mask[s]]) for s, z in batch.z.items() if batch.z_mask[s].any()}


@torch.no_grad()
def recall(scores: Tensor, report: Tensor) -> dict[str, Tensor]:
    """Recall at one both ways; any text with the same words counts.

    Args:
        scores: (B, B), rows images and columns texts. report: (B,) int64, equal for texts with the same words.

    Returns:
        ``to_text`` and ``to_image``, each a scalar in [0, 1].
    """
    there, back = report[scores.argmax(1)] == report, report[scores.argmax(0)] == report
    return {"to_text": there.double().mean(), "to_image": back.double().mean()}


def retrieval(batch: AlignBatch) -> dict[str, Tensor]:
    """:func:`recall` between slide tokens and reports, by every scale's own score: ``<scale>_to_text``, and back.

    A scale of which some slide has no token, or some report no unit, has no entry.
    """
    found: dict[str, Tensor] = {}
    for scale, level in LEVELS.items():
        z, z_mask, t, t_mask = batch.z[scale], batch.z_mask[scale], batch.t[level], batch.t_mask[level]
        if z_mask.any(1).all() and t_mask.any(1).all():
            told = recall(maxsim(z, z_mask, t, t_mask), batch.report)
            found |= {f"{scale}_to_text": told["to_text"], f"text_to_{scale}": told["to_image"]}
    return found
