"""Token ids of different length as one tensor."""

from collections.abc import Sequence

import torch


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, L) int64 padded on the right with zero, and which are there (B, L) bool."""
    length = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
    return ids, mask
