"""Who sees whom."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.model.attention import additive, leave_out, segment_positions, visible

# system | slide | region | patch patch cell | region patch ; question, question, padding
PARENT = torch.tensor([[0, 0, 1, 2, 3, 1, 5]])
NODE = torch.tensor([[0, 1, 2, 3, 3, 4, 5, 6, 0, 0, 0, 0, 0]])
SEGMENT = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, -1]])


def seen(query: int, mixing: str, attention_mask: torch.Tensor | None = None) -> list[int]:
    mask = (SEGMENT >= 0).long() if attention_mask is None else attention_mask
    allowed = visible(SEGMENT, NODE, PARENT, mask, mixing)
    return allowed[0, query].nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("mixing", "cell", "second_patch"),
    [
        ("none", [0, 5], [0, 7]),
        ("hier", [0, 1, 2, 3, 4, 5], [0, 1, 6, 7]),
        ("full", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_visual_token_sees_text_itself_and_at_most_its_ancestors(mixing, cell, second_patch):
    assert seen(5, mixing) == cell
    assert seen(7, mixing) == second_patch
    assert seen(4, mixing) == ([0, 3, 4] if mixing == "none" else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("mixing", ["none", "hier", "full"])
def test_a_question_sees_the_prefix_and_itself_only(mixing):
    assert seen(9, mixing) == [*range(8), 8, 9]
    assert seen(11, mixing) == [*range(8), 10, 11]
    assert seen(12, mixing)[-1] == 12  # padding: nobody reads it, but softmax must be defined
    assert all(12 not in seen(query, mixing) for query in range(12))
    hidden = (SEGMENT >= 0).long()
    hidden[0, 3] = 0
    assert 3 not in seen(9, mixing, hidden)
    assert seen(3, mixing, hidden)[-1] == 3  # itself, so that softmax is defined


def test_prefix_text_never_carries_what_it_saw():
    node = torch.tensor([[0, 1, 0, 0]])
    segment = torch.tensor([[0, 0, 0, 1]])
    allowed = visible(segment, node, torch.tensor([[0, 0]]), torch.ones(1, 4), "hier")[0]
    assert allowed[2].tolist() == [True, False, True, False]
    assert allowed[3].all()


def test_additive_mask_has_a_key_in_every_row():
    mask = additive(visible(SEGMENT, NODE, PARENT, torch.zeros_like(SEGMENT), "none"), torch.float32)
    assert mask.shape == (1, 1, 13, 13)
    assert ((mask == 0).sum(-1) >= 1).all()


@settings(max_examples=50, deadline=None)
@given(
    prefix=st.integers(0, 5),
    lengths=st.lists(st.integers(1, 4), max_size=4),
    pad=st.integers(0, 3),
    left=st.booleans(),
)
def test_positions_restart_after_the_prefix(prefix, lengths, pad, left):
    segments = [0] * prefix + [s for s, n in enumerate(lengths, 1) for _ in range(n)]
    want = [*range(prefix)] + [prefix + i for n in lengths for i in range(n)]
    padding = [-1] * pad
    row = padding + segments if left else segments + padding
    if not row:
        return
    got = segment_positions(torch.tensor([row]))[0].tolist()
    assert got == ([0] * pad + want if left else want + [0] * pad)


def test_leaving_out_takes_the_descendants_along():
    node, parent = NODE[0], PARENT[0]
    assert leave_out(node, parent, torch.tensor([2])).nonzero().flatten().tolist() == [
        0, 1, 6, 7, 8, 9, 10, 11, 12,
    ]  # fmt: skip
    assert (~leave_out(node, parent, torch.tensor([4]))).nonzero().flatten().tolist() == [5]
    assert leave_out(node, parent, torch.tensor([1])).nonzero().flatten().tolist() == [0, 8, 9, 10, 11, 12]
    assert leave_out(node, parent, torch.tensor([], dtype=torch.int64)).all()
