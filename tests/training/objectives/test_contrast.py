"""Scores and contrast: against plain loops, the release's numbers, and what must not change them."""

import sys
from pathlib import Path

import pytest
import torch
from batches import batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hwsi.errors import HwsiError, Reason
from hwsi.model import pooled_alignment as release
from hwsi.training.objectives import contrast as c
from hwsi.training.objectives.hca import effective_ranks, hca_loss, retrieval

sys.path.append(str(Path(__file__).resolve().parents[2] / "parity"))
from golden import golden, skip


def rows(b: int, v: int, seed: int, width: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(b, v, generator=draw) < 0.7
    mask[:, 0] = True
    return F.normalize(torch.randn(b, v, width, generator=draw, dtype=torch.float64), dim=-1), mask


def plain_maxsim(z: Tensor, z_mask: Tensor, t: Tensor, t_mask: Tensor) -> Tensor:
    found = torch.zeros(len(z), len(t), dtype=z.dtype)
    for i in range(len(z)):
        for j in range(len(t)):
            best = [max(float(zz @ tt) for zz in z[i][z_mask[i]]) for tt in t[j][t_mask[j]]]
            found[i, j] = sum(best) / len(best)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 999))
def test_maxsim_is_the_mean_of_the_largest(b: int, n: int, v: int, u: int, seed: int) -> None:
    (z, z_mask), (t, t_mask) = rows(b, v, seed), rows(n, u, seed + 1)
    assert torch.allclose(c.maxsim(z, z_mask, t, t_mask), plain_maxsim(z, z_mask, t, t_mask))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_order_and_padding_change_nothing(seed: int) -> None:
    (z, z_mask), (t, t_mask) = rows(3, 5, seed), rows(3, 4, seed + 1)
    expected = c.maxsim(z, z_mask, t, t_mask)
    draw = torch.Generator().manual_seed(seed)
    p, q = torch.randperm(5, generator=draw), torch.randperm(4, generator=draw)
    assert torch.allclose(c.maxsim(z[:, p], z_mask[:, p], t[:, q], t_mask[:, q]), expected)
    wild = z.masked_fill(~z_mask[..., None], 1e3), t.masked_fill(~t_mask[..., None], 1e3)
    more = [F.pad(x, (0, 0, 0, 2), value=7.0) for x in wild]
    masks = [F.pad(m, (0, 2)) for m in (z_mask, t_mask)]
    assert torch.allclose(c.maxsim(more[0], masks[0], more[1], masks[1]), expected)


def test_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (z, z_mask), (t, t_mask) = rows(7, 5, 1), rows(6, 4, 2)
    expected = c.maxsim(z, z_mask, t, t_mask)
    monkeypatch.setattr(c, "_MOST", 50)
    assert torch.allclose(c.maxsim(z, z_mask, t, t_mask), expected)


def test_a_unit_that_no_token_says_lowers_the_score() -> None:
    z = torch.eye(4)[None, :2]
    t = torch.eye(4)[None, [0, 1, 3]]
    mask = torch.ones(1, 2, dtype=torch.bool)
    both = torch.tensor([[True, True, False]])
    assert c.maxsim(z, mask, t, both).item() == 1
    assert c.maxsim(z, mask, t, torch.ones_like(both)).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [c.maxsim, c.pooled])
def test_gradient_of_scores(score) -> None:
    (z, z_mask), (t, t_mask) = rows(3, 4, 5), rows(2, 3, 6)
    z.requires_grad_()
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: score(a, z_mask, b, t_mask), (z, t))


@pytest.mark.parametrize("report", [[0, 1, 2, 3], [0, 1, 1, 3]])
def test_gradient_of_info_nce(report: list[int]) -> None:
    scores = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor(report)
    assert torch.autograd.gradcheck(lambda s, x: c.info_nce(s, ids, x), (scores, temperature))


def test_gradient_of_index() -> None:
    (z, z_mask), (t, t_mask) = rows(3, 4, 5), rows(3, 3, 6)
    z.requires_grad_()
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: c.index_loss(a, z_mask, b, t_mask, 0.5), (z, t))


def test_index_as_printed() -> None:
    (z, _), (t, _) = rows(2, 3, 1), rows(2, 5, 2)
    z_mask, t_mask = torch.tensor([[True] * 3, [True, True, False]]), torch.ones(2, 5, dtype=torch.bool)
    expected = []
    for b, n in ((0, 3), (1, 2)):
        terms = []
        for i in range(n):
            sims = [float(z[b, i] @ t[b, j]) / 0.02 for j in range(n)]
            terms.append(-(sims[i] - float(torch.tensor(sims, dtype=torch.float64).logsumexp(0))))
        expected.append(sum(terms) / n)
    assert c.index_loss(z, z_mask, t, t_mask, 0.02).item() == pytest.approx(sum(expected) / 2)


def test_equal_reports_share_their_positives() -> None:
    scores = torch.randn(4, 4)
    ids = torch.tensor([5, 9, 9, 7])
    assert not torch.isclose(c.info_nce(scores, ids), c.info_nce(scores, torch.arange(4)))
    # of two slides with one report neither is the other's negative: only the sum of their probabilities counts
    perfect = torch.full((4, 4), -1.0)
    perfect[ids[:, None] == ids[None]] = 1.0
    told_apart = c.info_nce(perfect, torch.arange(4)).item()
    assert c.info_nce(perfect, ids, 0.02).item() == pytest.approx(torch.tensor(2.0).log().item() / 2, abs=1e-5)
    assert told_apart == pytest.approx(torch.tensor(2.0).log().item() / 2, abs=1e-5)
    assert c.info_nce(perfect.requires_grad_(), ids, 1.0).backward() is None
    assert perfect.grad is not None
    assert perfect.grad[1, 1] == pytest.approx(perfect.grad[1, 2].item())
    order = torch.tensor([2, 0, 3, 1])
    assert torch.isclose(c.info_nce(scores[order][:, order], ids[order]), c.info_nce(scores, ids))


@pytest.mark.parametrize("report", [[3], [3, 3, 3]])
def test_no_negatives_are_refused(report: list[int]) -> None:
    with pytest.raises(HwsiError) as e:
        c.info_nce(torch.zeros(len(report), len(report)), torch.tensor(report))
    assert e.value.reason is Reason.NO_NEGATIVES
    alone = batch(1)
    with pytest.raises(HwsiError) as e:
        hca_loss(alone)
    assert e.value.reason is Reason.NO_NEGATIVES


@skip
def test_pooled_equals_the_release() -> None:
    tensors, about = golden("03_losses")
    for temperature in (0.07, 0.75):
        image, text = tensors["nce.B4.image"], tensors["nce.B4.text"]
        here = torch.ones(4, 1, dtype=torch.bool)
        scores = c.pooled(image[:, None], here, text[:, None], here)
        told = about["results"][f"info_nce B=4 temperature={temperature}"]
        assert c.info_nce(scores, torch.arange(4), temperature).item() == pytest.approx(told, rel=1e-6)


def test_pooled_equals_the_release_on_many_tokens() -> None:
    b = batch()
    losses = c.contrast(b, pairing="pooled", temperature=0.07)

    def mean(x: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([row[m].mean(0) for row, m in zip(x, mask, strict=True)])

    for scale, level in c.LEVELS.items():
        if scale == "slide":
            continue
        expected = release.info_nce(mean(b.z[scale], b.z_mask[scale]), mean(b.t[level], b.t_mask[level]), 0.07)
        assert losses[scale].item() == pytest.approx(expected.item())


def test_a_slide_without_tokens_takes_no_part_at_that_scale() -> None:
    full = batch(4)
    without = batch(5)
    without.z_mask["cell"][4] = False
    without.t_mask["word"][4] = False
    losses = c.contrast(without, pairing="maxsim", temperature=0.1)
    assert losses["cell"].item() == pytest.approx(c.contrast(full, pairing="maxsim", temperature=0.1)["cell"].item())
    without.z_mask["patch"][1:] = False
    losses = c.contrast(without, pairing="maxsim", temperature=0.1)
    assert "patch" not in losses
    assert losses["region"].isfinite()


@pytest.mark.parametrize("pairing", ["maxsim", "index", "pooled"])
def test_hca_is_the_sum_of_its_parts_and_can_be_learned(pairing: c.Pairing) -> None:
    b = batch()
    loss, parts = hca_loss(b, pairing=pairing, temperature=0.1, consistency_weight=0.5)
    contrastive = sum(parts[f"contrast_{s}"] for s in c.LEVELS)
    apart = (parts["consistency_region_patch"] + parts["consistency_region_cell"]) / 2
    apart = apart + parts["consistency_cell_patch"] + parts["consistency_slide_region"]
    assert loss.item() == pytest.approx((contrastive + 0.5 * apart).item())
    free = [x.clone().requires_grad_() for x in b.z.values()]
    optimizer = torch.optim.Adam(free, lr=0.1)
    first = None
    for _ in range(30):
        z = {s: F.normalize(x, dim=-1) for s, x in zip(b.z, free, strict=True)}
        now, _ = hca_loss(
            c.AlignBatch(z, b.z_mask, b.t, b.t_mask, b.parent, b.report), pairing=pairing, temperature=0.1
        )
        first = first or now.item()
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
    assert now.item() < 0.8 * first
    moved = c.AlignBatch({s: F.normalize(x.detach(), dim=-1) for s, x in zip(b.z, free, strict=True)}, b.z_mask, b.t,
                         b.t_mask, b.parent, b.report)  # fmt: skip
    assert retrieval(moved)["slide_to_text"] == 1
    assert set(effective_ranks(b)) == {f"rank_{s}" for s in c.LEVELS}
