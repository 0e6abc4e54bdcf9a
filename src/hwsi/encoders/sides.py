"""On which side of a slide something lies: sums over patches that add up exactly from regions to the slide.

- Where the quarters of a slide meet is known only when all of its tissue is: no region can say whether its tumour lies
  left or right of there. What a region can say is how much there is of something and where within itself, as sums
  that the slide moves to its own middle (a bilinear form moves without loss) and adds up.
- What is summed up is learned: ``AMOUNTS`` numbers of a patch, none negative.
- The middle is that of the box around the tissue, not its centre of mass: glass inside moves only the latter.
- A region's vector carries its sums and its box (a linear layer puts them in, another takes them out), so that a
  slide is still made of region vectors alone.

Unit of length inside a region: half of its side. Notation: B batch, T patches, R regions, K amounts.
"""

import torch
from torch import Tensor, nn

AMOUNTS = 7
TAIL = 4 * AMOUNTS + 4
"""Numbers that a region has to tell: K of each of 1, x, y, xy, and left, top, right, bottom of its tissue."""
WHOLE = 4 * AMOUNTS + 2
"""Numbers that they come to on a slide: K of each of 1, x, y, xy, and half the width and height of its tissue."""
_GAIN = 4.0
"""Sums are shares of a full region, mostly small; so much louder they are as loud as the rest of its vector."""
_LEAST = 1e-3


def directions(dim: int) -> Tensor:
    """(dim, TAIL), orthonormal and always the same: where in a region's vector its sums begin to stand."""
    drawn = torch.randn(dim, TAIL, generator=torch.Generator().manual_seed(0))
    basis: Tensor = torch.linalg.qr(drawn)[0]
    return basis


class Sides(nn.Module):
    """Sums and box of the patches of a region.

    Args:
        dim: width of a patch's token. side: patches along a region's side.
    """

    def __init__(self, *, dim: int, side: int) -> None:
        super().__init__()
        self.amount = nn.Linear(dim, AMOUNTS)
        self.side = side

    def forward(self, tokens: Tensor, mask: Tensor, row_col: Tensor) -> Tensor:
        """(B, T, dim), bool (B, T), int (B, T, 2) -> float32 (B, TAIL); 0 where nothing is present."""
        here = mask.unsqueeze(-1)
        y, x = ((2 * row_col + 1) / self.side - 1).unbind(-1)
        amount = self.amount(tokens).float().sigmoid() * here
        basis = torch.stack([torch.ones_like(x), x, y, x * y], dim=-1)
        # as products, not as a matrix product: that would round in mixed precision
        sums = (basis.unsqueeze(-1) * amount.unsqueeze(2)).sum(1) * (_GAIN / self.side**2)
        places, edge = torch.stack([x, y], dim=-1), 1 / self.side
        low = places.masked_fill(~here, torch.inf).amin(1) - edge
        high = places.masked_fill(~here, -torch.inf).amax(1) + edge
        box = torch.cat([low, high], dim=-1)
        return torch.cat([sums.flatten(1), torch.where(mask.any(1, keepdim=True), box, torch.zeros_like(box))], dim=-1)


def add_up(tails: Tensor, mask: Tensor, centre: Tensor) -> Tensor:
    """What the sums of all regions come to around the middle of the slide's tissue.

    Args:
        tails: (B, R, TAIL), see :class:`Sides`. mask: bool (B, R). centre: (B, R, 2), x and y, in halves of a region.

    Returns:
        float32 (B, WHOLE): of each amount its sum (square root), and the means of x, y and xy, each in halves of the
        tissue's width and height; these halves. 0 for a slide without regions.
    """
    tails, centre, here = tails.float(), centre.float(), mask.unsqueeze(-1)
    sums = tails[..., : 4 * AMOUNTS].reshape(*mask.shape, 4, AMOUNTS) * here.unsqueeze(-1) / _GAIN
    low = (centre + tails[..., -4:-2]).masked_fill(~here, torch.inf).amin(1)
    high = (centre + tails[..., -2:]).masked_fill(~here, -torch.inf).amax(1)
    there = mask.any(1, keepdim=True)
    middle = torch.where(there, (low + high) / 2, torch.zeros_like(low))
    half = torch.where(there, (high - low) / 2, torch.zeros_like(low)).clamp(min=_LEAST)
    # (x + dx)(y + dy) and so on: the sums around another middle
    dx, dy = ((centre - middle.unsqueeze(1)) * here).unsqueeze(-1).unbind(2)
    one, x, y, xy = sums.unbind(2)
    total = one.sum(1).clamp(min=0)
    moved = (x + dx * one, y + dy * one, xy + dx * y + dy * x + dx * dy * one)
    scale = (half[:, :1], half[:, 1:], half[:, :1] * half[:, 1:])
    # no mean of places lies outside the box; sums that no patches have might say so
    means = [(m.sum(1) / (total + _LEAST) / s).clamp(-1, 1) for m, s in zip(moved, scale, strict=True)]
    return torch.cat([(total + _LEAST).sqrt(), *means, half * there], dim=-1)
