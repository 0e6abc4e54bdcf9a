"""The truth of regions and slides as tensors: numbers, classes and yes/no, each possibly unknown.

- Unknown is nan for numbers and -1 for classes: a value near a threshold has no class, and is not learned from.
- One linear layer per attribute reads it from the vector; so the vector must hold it.
- Beside what questions ask for stands what it is made of, known of every slide: shares of contents, how much of a
  finding lies in each quarter, patches of tumour that hang together. A few hundred slides with a clear class are few.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.phantom.measure import ARTEFACTS, CONTENTS, PATTERNS
from hwsi.phantom.spec import ORGAN_OF
from hwsi.phantom.truth import QUADRANTS

PLACED = ("necrosis", "infiltrate", "tumour")
"""What is told by quarters of the slide."""

NUMBERS = {
    "tubule_fraction": False, "pleomorphism_index": False, "prominent_fraction": False, "plasma_fraction": False,
    "mitoses_per_mm2": True, "til_per_mm2": True, "necrosis_um2": True, "nuclear_area_um2": True,
    "lesion_um2": True, "tissue_um2": True, "pieces": True,
    **{f"share {name}": False for name in CONTENTS},
    **{f"{what} {quarter}": False for what in PLACED for quarter in QUADRANTS},
}  # fmt: skip
"""Attributes that are numbers; True: on a logarithmic scale."""

BOTH: dict[str, tuple[Any, ...]] = {
    "nucleoli": (False, True), "necrosis": (False, True), "keratin": (False, True), "mucin": (False, True),
    "vascular_invasion": (False, True), "inflammatory": ("lymphocytes", "plasma cells"), "til": (0, 1, 2),
    "germinal": (False, True), "goblet_cells": (0, 1),
    "pattern": PATTERNS[1:], "content": CONTENTS,
    "tubule_score": (1, 2, 3), "pleomorphism_score": (1, 2, 3), "mitosis_score": (1, 2, 3),
    "second": ("none", *CONTENTS), **dict.fromkeys(ARTEFACTS, (False, True)),
}  # fmt: skip
"""Classes that regions and slides have."""

SLIDE: dict[str, tuple[Any, ...]] = {
    **BOTH,
    "diagnosis": tuple(ORGAN_OF), "grade": (1, 2, 3), "fragments": (1, 2, 3),
    "focality": ("one focus", "several foci"), "extent": (0, 1, 2),
    **{f"where_{what}": QUADRANTS for what in PLACED},
}  # fmt: skip


_SECOND, _NEAR = 0.15, 0.02  # share of a content that a report tells beside the first, and what is too near to it


def told(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a truth, with those that follow from its shares of contents and its artefacts."""
    # all unknown where a region has no tissue
    shares: dict[str, float] = {n: v for n, v in attrs.get("contents", {}).items() if v is not None}
    found = attrs | {f"share {name}": share for name, share in shares.items()}
    if len(shares) > 1:
        name = sorted(shares, key=lambda n: -shares[n])[1]
        near = abs(shares[name] - _SECOND) < _NEAR
        found["second"] = None if near else name if shares[name] > _SECOND else "none"
    if "artefacts" in attrs:
        found |= {name: name in attrs["artefacts"] for name in ARTEFACTS}
    return found


def numbers(attrs: Sequence[dict[str, Any]]) -> Tensor:
    """(n, len(NUMBERS)) float32, nan where unknown; logarithms where :data:`NUMBERS` says so; not standardised."""
    rows = []
    for a in attrs:
        row = []
        for name, log in NUMBERS.items():
            value = a.get(name)
            value = float("nan") if value is None else float(value)
            row.append(np.log1p(value) if log else value)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32)


def classes(attrs: Sequence[dict[str, Any]], names: dict[str, tuple[Any, ...]]) -> dict[str, Tensor]:
    """Attribute -> (n,) int64, the index of its class, -1 where unknown."""
    found = {}
    for name, values in names.items():
        known = {v: i for i, v in enumerate(values)}
        found[name] = torch.tensor([known.get(a.get(name), -1) for a in attrs])
    return found


class Readers(nn.Module):
    """Linear layers from a vector to every attribute."""

    def __init__(self, dim: int, names: dict[str, tuple[Any, ...]]) -> None:
        super().__init__()
        self.number = nn.Linear(dim, len(NUMBERS))
        self.kinds = nn.ModuleDict({name: nn.Linear(dim, len(values)) for name, values in names.items()})

    def loss(self, z: Tensor, numbers: Tensor, kinds: dict[str, Tensor]) -> Tensor:
        """Sum over attributes of the mean loss over the rows where each is known.

        Args:
            z: (n, dim). numbers: (n, len(NUMBERS)) standardised, nan unknown. kinds: name -> (n,), -1 unknown.
        """
        known = ~numbers.isnan()
        total = 4 * F.smooth_l1_loss(self.number(z)[known], numbers[known]) if known.any() else z.sum() * 0
        for name, head in self.kinds.items():
            if (kinds[name] >= 0).any():
                total = total + F.cross_entropy(head(z), kinds[name], ignore_index=-1)
        return total

    @torch.no_grad()
    def accuracy(self, z: Tensor, kinds: dict[str, Tensor]) -> dict[str, float]:
        """Accuracy of every attribute over the rows where it is known."""
        found = {}
        for name, head in self.kinds.items():
            known = kinds[name] >= 0
            if known.any():
                right = head(z[known]).argmax(1) == kinds[name][known]
                found[name] = round(float(right.float().mean()), 3)
        return found
