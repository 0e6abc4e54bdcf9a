"""Only labels that the slide has can be written, whatever the tokens are."""

import re

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.hierarchy.labels import LABEL
from hwsi.inference.guard import LabelGuard, ReportGuard

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


REPORT = [*"SP .:abc", "R1", "R2", "R3", "R", "1", "2", "3", "<end>"]


class Tokens:
    def decode(self, ids):
        return "".join(REPORT[i] for i in ids if REPORT[i] != "<end>")


def report(seed: int, due: list[str], steps: int = 120) -> tuple[str, bool]:
    """A model that would write any sentence about any region, again and again, or end; and whether it ended."""
    end = len(REPORT) - 1
    guard, rng, ids = ReportGuard(Tokens(), {"R1", "R2", "R3"}, [end], due), torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        token = guard.choose(ids, torch.randn(len(REPORT), generator=rng))
        if token == end:
            return Tokens().decode(ids), True
        ids.append(token)
    return Tokens().decode(ids), False


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 100_000), due=st.sampled_from([["R1", "R2", "R3"], ["R1", "R3"], ["R2"]]))
def test_a_report_that_tells_of_a_region_tells_of_each_once_and_in_order(seed, due):
    text, ended = report(seed, due)
    told = re.findall(r"(?:^|(?<=\.)\s+)(R\d):", text)
    assert told == due[: len(told)], text
    if ended and told:
        assert told == due, text


def test_a_report_of_the_slide_alone_may_end():
    end = len(REPORT) - 1
    guard = ReportGuard(Tokens(), {"R1", "R2", "R3"}, [end], ["R1", "R2"])

    def allowed(text, token):
        return guard.allows([REPORT.index(c) for c in text], REPORT.index(token))

    assert allowed("a b.", "<end>")
    assert allowed("a b. ", "R1")
    assert allowed("a b. ", "c")
    assert not allowed("a b. ", "R2"), "R1 is due"
    assert not allowed("a. R1: b.", "<end>"), "R2 is missing"
    assert not allowed("a. R1: b. ", "c")
    assert not allowed("a. R1: b. ", "R1")
    assert allowed("a. R1: b. ", "R2")
    assert allowed("a. R1: b. R2: c.", "<end>")
    assert not allowed("a. R1: b. R2: c. ", "a")
