"""Only labels that the slide has can be written, whatever the tokens are."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.hierarchy.labels import LABEL
from hwsi.inference.guard import LabelGuard

LETTERS = [*"R.P0123456789 ab", "R1", "R12", ".P7", "R3.P7", "<end>"]
END = len(LETTERS) - 1
KNOWN = {"R1", "R12", "R3", "R3.P7", "R3.P71"}


class Letters:
    def decode(self, ids):
        return "".join(LETTERS[i] for i in ids if i != END)


def write(seed: int, steps: int = 30) -> str:
    """A model that would write anything, under the guard."""
    guard, rng, ids = LabelGuard(Letters(), KNOWN, [END]), torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        token = guard.choose(ids, torch.randn(len(LETTERS), generator=rng))
        if token == END:
            break
        ids.append(token)
    else:
        ids.append(LETTERS.index(" ")) if guard.allows(ids, LETTERS.index(" ")) else None
    return Letters().decode(ids)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000))
def test_every_label_that_is_written_is_known(seed):
    text = write(seed)
    found = [m.group() for m in LABEL.finditer(text) if m.end() < len(text)]
    assert set(found) <= KNOWN, text


def allows(text: str, token: str) -> bool:
    ids = [LETTERS.index(c) for c in text]
    return LabelGuard(Letters(), KNOWN, [END]).allows(ids, LETTERS.index(token))


def test_what_may_still_become_a_label_may_be_written():
    assert allows("R", "1")
    assert allows("R1", "2")
    assert allows("R3.P", "7")
    assert allows("R3.P7", "1")
    assert not allows("R3.P7", "2")
    assert not allows("R1", "3")
    assert not allows("R", "2")
    assert not allows("R1.P", "7")


def test_an_end_is_the_end_of_a_label():
    assert allows("R12", "<end>")
    assert allows("R3.P71", "<end>")
    guard = LabelGuard(Letters(), {"R12"}, [END])
    assert guard.allows([LETTERS.index("R")], LETTERS.index("1"))
    assert not guard.allows([LETTERS.index("R"), LETTERS.index("1")], END)
    assert not guard.allows([LETTERS.index("R"), LETTERS.index("1")], LETTERS.index(" "))


def test_where_no_token_will_do_the_likeliest_stands():
    class OnlyWrong:
        def decode(self, ids):
            return "R99 " * len(ids)

    assert LabelGuard(OnlyWrong(), KNOWN, []).choose([], torch.tensor([0.1, 0.9])) == 1
