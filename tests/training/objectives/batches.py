"""Made-up batches of visual tokens and text units, ragged."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hwsi.training.objectives.contrast import LEVELS, AlignBatch

REGIONS, PATCHES = (2, 3, 1, 2, 3), (4, 6, 2, 5, 3)


def raw_slide(i: int, seed: int = 0, width: int = 8) -> dict[str, Tensor]:
    """One slide, not projected: rows (1, n, width), masks and parents."""
    draw = torch.Generator().manual_seed(100 * seed + i)
    r, p = REGIONS[i % 5], PATCHES[i % 5]
    sizes = {
        "cell": p,
        "patch": p,
        "region": r,
        "slide": 1,
        "word": 5 + i,
        "phrase": 3 + i % 2,
        "sentence": 2,
        "paragraph": 1,
    }
    rows = {k: torch.randn(1, n, width, generator=draw, dtype=torch.float64) for k, n in sizes.items()}
    out = {f"z.{s}": rows[s] for s in LEVELS} | {f"t.{v}": rows[v] for v in LEVELS.values()}
    out |= {f"z_mask.{s}": torch.ones(1, sizes[s], dtype=torch.bool) for s in LEVELS}
    out |= {f"t_mask.{v}": torch.ones(1, sizes[v], dtype=torch.bool) for v in LEVELS.values()}
    of = torch.arange(p) * r // p
    out |= {
        "parent.cell": torch.arange(p)[None],
        "parent.patch": of[None],
        "parent.region": torch.zeros(1, r, dtype=torch.int64),
    }
    return out | {"report.": torch.tensor([i])}


def unit(rows: dict[str, Tensor], project: Tensor | None = None) -> dict[str, Tensor]:
    """Rows of z (projected, where a matrix is given) and t of length one."""

    def of(key: str, x: Tensor) -> Tensor:
        if not key.startswith(("z.", "t.")):
            return x
        return F.normalize(x @ project if project is not None and key.startswith("z.") else x, dim=-1)

    return {k: of(k, x) for k, x in rows.items()}


def batch(n: int = 5, seed: int = 0) -> AlignBatch:
    return AlignBatch.join([unit(raw_slide(i, seed)) for i in range(n)])
