"""Scales that agree: a parent lies near the mean of its own children, and no scale collapses into another.

- Parents and children are those of the tree, never a mean over the whole slide.
- Drawing scales together is cheap when each becomes one point: the effective rank of each scale is to be watched.

Notation: B slides, V tokens of a scale (padded), E width.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hwsi.training.objectives.contrast import AlignBatch


def children_mean(z: Tensor, there: Tensor, parent: Tensor, parents: int) -> tuple[Tensor, Tensor]:
    """Mean of the children of each parent.

    Args:
        z: (B, V, E). there: (B, V) bool. parent: (B, V) int64, index of each child's parent, -1 for none.
        parents: V of the parents.

    Returns:
        (B, parents, E), zero where there is no child, and the number of children (B, parents).
    """
    counts = there & (parent >= 0)
    at = parent.clamp(min=0)
    weight = counts.to(z.dtype)
    number = z.new_zeros(len(z), parents).scatter_add(1, at, weight)
    total = z.new_zeros(len(z), parents, z.shape[2])
    total = total.scatter_add(1, at[..., None].expand_as(z), z * weight[..., None])
    return total / number.clamp(min=1)[..., None], number


def consistency(batch: "AlignBatch") -> dict[str, Tensor]:
    """Squared distances between parents and children: mean over the parents of a slide, then over slides.

    Returns:
        ``region_patch``, ``region_cell``: ||z_region - mean of its patches (cells)||^2; ``cell_patch``:
        ||z_cell - z_patch||^2 of each kept patch; ``slide_region``: ||z_slide - mean of the regions||^2. What no slide
        has is zero.
    """
    z, mask, parent = batch.z, batch.z_mask, batch.parent
    # a cell token belongs to a patch, and through it to a region
    up = parent["patch"].gather(1, parent["cell"].clamp(min=0))
    grandparent = torch.where(parent["cell"] >= 0, up, -1)
    pairs = {
        "region_patch": ("region", "patch", parent["patch"]),
        "region_cell": ("region", "cell", grandparent),
        "cell_patch": ("patch", "cell", parent["cell"]),
        "slide_region": ("slide", "region", parent["region"]),
    }
    found = {}
    for name, (above, below, of) in pairs.items():
        mean, number = children_mean(z[below], mask[below], of, z[above].shape[1])
        there = mask[above] & (number > 0)
        distance = (z[above] - mean).square().sum(-1)
        per_slide = (distance * there).sum(1) / there.sum(1).clamp(min=1)
        has = there.any(1)
        found[name] = per_slide.sum() / has.sum().clamp(min=1)
    return found


def total(parts: dict[str, Tensor]) -> Tensor:
    """L_c of the paper, half of the two region terms and the cell term, and the slide's beside it: scalar."""
    return (parts["region_patch"] + parts["region_cell"]) / 2 + parts["cell_patch"] + parts["slide_region"]


@torch.no_grad()
def effective_rank(rows: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007): from 1, one direction, to E.

    Args:
        rows: (n, E), n >= 1.

    Returns:
        Scalar, float64.
    """
    x = rows.double()
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()
