"""The parts of nano's training: loop, attributes, symmetries, dialogues."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwsi.model.projectors import Projector
from hwsi.phantom.truth import QUADRANTS
from hwsi.phantom.wordings import KINDS
from hwsi.training.nano.attributes import BOTH, NUMBERS, SLIDE, Readers, classes, numbers
from hwsi.training.nano.cohort import held_out
from hwsi.training.nano.context import Example, turn
from hwsi.training.nano.loop import Plan, fit, lr_at
from hwsi.training.nano.patch import aligned
from hwsi.training.nano.whiten import whiten


def train(out: Path, steps: int, stop_at: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    fit(model, loss_of, Plan(steps, 0.05, checkpoint_s=0.0), out)
    return model


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 12)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", 12, stop_at=7)
    resumed = train(tmp_path / "broken", 12)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_learning_rate_warms_up_and_decays() -> None:
    plan = Plan(steps=100, lr=1.0, warmup=0.1)
    rates = [lr_at(s, plan) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_unknown_attributes_teach_nothing() -> None:
    attrs = [{"necrosis": True, "til_per_mm2": 100.0}, {"necrosis": None}, {}]
    kinds = classes(attrs, BOTH)
    assert kinds["necrosis"].tolist() == [1, -1, -1]
    values = numbers(attrs)
    assert values.shape == (3, len(NUMBERS))
    assert int((~values.isnan()).sum()) == 1
    readers = Readers(6, BOTH)
    z = torch.randn(3, 6, requires_grad=True)
    readers.loss(z, values, kinds).backward()
    assert z.grad is not None
    assert z.grad[0].abs().sum() > 0
    assert z.grad[1:].abs().sum() == 0


def example() -> Example:
    side = 4
    grid = np.arange(side * side)
    row_col = torch.from_numpy(np.stack([grid // side, grid % side], 1)).expand(4, side * side, 2)
    mm = torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5]])
    kinds = {name: torch.tensor([-1]) for name in SLIDE}
    kinds["where_tumour"] = torch.tensor([QUADRANTS.index("upper right")])
    return Example(
        "P", torch.zeros(4, 16, 192), torch.ones(4, 16, dtype=torch.bool), row_col, torch.ones(4, 2), mm, side,
        torch.zeros(4, 1), {}, torch.zeros(1, len(NUMBERS)), kinds, [""] * 4, "", "", [],
    )  # fmt: skip


@pytest.mark.parametrize("code", range(8))
def test_a_turned_slide_keeps_its_tumour_in_the_quarter_it_names(code: int) -> None:
    e, turned = example(), turn(example(), code)
    where = int(turned.slide_kinds["where_tumour"])
    # the region that was upper right (index 1 of the list) is now where the name says
    x, y = turned.mm[1].tolist()
    assert QUADRANTS[where] == f"{'upper' if y < 1 else 'lower'} {'left' if x < 1 else 'right'}"
    # and so is the patch that was in its upper right corner
    row, col = turned.row_col[1, 3].tolist()
    assert QUADRANTS[where] == f"{'upper' if row == 0 else 'lower'} {'left' if col == 0 else 'right'}"
    assert int(turned.slide_kinds["where_necrosis"]) == -1
    assert turned.row_col.amin() == 0
    assert turned.row_col.amax() == e.side - 1


def test_equal_phrases_share_the_target() -> None:
    z = torch.eye(3)
    assert aligned(z, z, torch.tensor([0, 1, 2])) < 1e-4
    text = torch.stack([z[0], z[0], z[2]])
    same = aligned(torch.stack([z[0], z[0], z[2]]), text, torch.tensor([0, 0, 1]))
    apart = aligned(torch.stack([z[0], z[0], z[2]]), text, torch.tensor([0, 1, 2]))
    assert same == pytest.approx(apart.item(), abs=1e-3)
    assert aligned(z, z, torch.tensor([0, 0, 2])) > 1


def test_twins_stay_together_and_some_patients_are_held_out() -> None:
    patients = [f"P{i // 2}" for i in range(400)]
    out = held_out(patients)
    assert (out[::2] == out[1::2]).all()
    assert 0.03 < out.mean() < 0.2


def test_every_kind_keeps_a_wording_for_the_test() -> None:
    assert all(len(kind.templates) >= 2 for kind in KINDS.values())


def test_a_faint_direction_is_as_loud_as_the_others_behind_a_whitened_projector() -> None:
    torch.manual_seed(0)
    spread = torch.logspace(0, -1.5, 12)
    x = torch.randn(4000, 12) * spread + torch.randn(12)
    projector = Projector(dim=12, width=16)
    whiten(projector, x)
    with torch.no_grad():
        out = projector.up(projector.norm(x)).double()
    assert out.mean(0).abs().max() < 1e-4
    values = torch.linalg.eigvalsh(torch.cov(out.T)).flip(0)
    # the norm takes away one direction, the four more outputs than inputs add none
    assert torch.allclose(values[:8], torch.ones(8).double(), atol=1e-3)
    assert values[11:].abs().max() < 1e-6
    # what varies a thousand times less than the mean is noise, and stays below the rest
    assert (values[:11] <= 1 + 1e-6).all()
