"""Distances between true parents and children, and the rank that tells a collapse."""

import pytest
import torch
from batches import batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hwsi.training.objectives.consistency import children_mean, consistency, effective_rank, total
from hwsi.training.objectives.contrast import AlignBatch


def test_against_plain_loops() -> None:
    b = batch()
    b.parent["patch"][0, 1] = -1
    found = consistency(b)
    terms: dict[str, list[float]] = {k: [] for k in found}
    for i in range(5):
        z = {s: x[i][b.z_mask[s][i]] for s, x in b.z.items()}
        of_patch, of_cell = (b.parent[s][i][: len(z[s])].tolist() for s in ("patch", "cell"))
        per: dict[str, list[float]] = {k: [] for k in found}
        for r, region in enumerate(z["region"]):
            patches = [j for j, p in enumerate(of_patch) if p == r]
            cells = [j for j, p in enumerate(of_cell) if p >= 0 and of_patch[p] == r]
            for name, scale, own in (("region_patch", "patch", patches), ("region_cell", "cell", cells)):
                if own:
                    per[name].append(float((region - z[scale][own].mean(0)).square().sum()))
        per["cell_patch"] = [float((z["patch"][p] - z["cell"][j]).square().sum()) for j, p in enumerate(of_cell)]
        per["slide_region"] = [float((z["slide"][0] - z["region"].mean(0)).square().sum())]
        for name, values in per.items():
            terms[name].append(sum(values) / len(values))
    for name, values in terms.items():
        assert found[name].item() == pytest.approx(sum(values) / 5), name


def test_children_that_are_their_parent_cost_nothing() -> None:
    one = F.normalize(torch.ones(8, dtype=torch.float64), dim=0)
    b = batch()
    same = AlignBatch({s: one.expand_as(x) for s, x in b.z.items()}, b.z_mask, b.t, b.t_mask, b.parent, b.report)
    assert total(consistency(same)).item() == pytest.approx(0, abs=1e-12)
    assert total(consistency(b)).item() > 0.1


def test_padding_counts_for_nothing() -> None:
    b = batch()
    wild = {s: x.masked_fill(~b.z_mask[s][..., None], 1e3) for s, x in b.z.items()}
    changed = AlignBatch(wild, b.z_mask, b.t, b.t_mask, b.parent, b.report)
    assert total(consistency(changed)).item() == pytest.approx(total(consistency(b)).item())


def test_gradient() -> None:
    b = batch(2)
    names = tuple(b.z)

    def loss(*z: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, z, strict=True))
        return total(consistency(AlignBatch(named, b.z_mask, b.t, b.t_mask, b.parent, b.report)))

    assert torch.autograd.gradcheck(loss, tuple(x.clone().requires_grad_() for x in b.z.values()))


def test_a_parent_without_children_has_no_mean() -> None:
    mean, number = children_mean(torch.ones(1, 2, 3), torch.tensor([[True, False]]), torch.tensor([[1, 0]]), 3)
    assert number.tolist() == [[0, 1, 0]]
    assert mean[0, 0].tolist() == [0, 0, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99))
def test_effective_rank_counts_directions(k: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(8, 8, generator=draw, dtype=torch.float64)).Q
    rows = turned[:k].repeat(5, 1)
    assert effective_rank(rows).item() == pytest.approx(k, rel=1e-4)
    collapsed = effective_rank(torch.cat([rows, 100 * turned[:1].repeat(50, 1)])).item()
    assert k == 1 or collapsed < effective_rank(rows).item()
    assert effective_rank(rows @ turned).item() == pytest.approx(k, rel=1e-4)
