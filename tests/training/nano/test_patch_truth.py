"""What patches add up to, against the truth that has margins; and the turned slide against the turned truth."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.truth import QUADRANTS
from hwsi.training.nano.attributes import NUMBERS, PLACED, told
from hwsi.training.nano.patch_truth import in_quarters, pieces, pieces_of_regions


def table(tumour: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Patches of a slide of which some are tumour and the others stroma."""
    rows, cols = tumour.shape
    n = rows * cols
    contents, areas = np.zeros((n, len(CONTENTS))), np.zeros((n, len(Compartment)))
    contents[:, CONTENTS.index("tumour")] = tumour.ravel()
    contents[:, CONTENTS.index("stroma")] = 1 - tumour.ravel()
    areas[:, Compartment.STROMA] = 1.0
    return {
        "grid": np.stack(np.divmod(np.arange(n), cols), 1),
        "contents": contents,
        "compartments": areas,
        "tissue": np.ones(n),
        "til_per_mm2": tumour.ravel() * 100.0,
    }


def test_pieces_that_touch_at_corners_are_two() -> None:
    tumour = np.zeros((4, 6))
    tumour[0, 0] = tumour[1, 1] = 1
    tumour[3, 3:6] = 1
    assert pieces(table(tumour)) == 3
    assert pieces_of_regions(table(tumour), np.array([[0, 0], [1, 1], [1, 2], [5, 5]]), 2) == [2, 1, 1, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False))
def test_quarters_are_shares(rows: int, cols: int, random: Random) -> None:
    rng = np.random.default_rng(random.randrange(1000))
    tumour = rng.random((rows, cols))
    found = in_quarters(table(tumour))
    for what in ("infiltrate", "tumour"):
        assert sum(found[f"{what} {q}"] for q in QUADRANTS) == pytest.approx(1)
    assert all(np.isnan(found[f"necrosis {q}"]) for q in QUADRANTS)
    # mirrored left to right, left and right change places
    mirrored = in_quarters(table(tumour[:, ::-1]))
    assert mirrored["tumour upper left"] == pytest.approx(found["tumour upper right"])


def test_all_in_one_corner() -> None:
    tumour = np.zeros((4, 4))
    tumour[3, 0] = 1
    assert in_quarters(table(tumour))["tumour lower left"] == 1


def test_what_follows_from_shares() -> None:
    shares = dict.fromkeys(CONTENTS, 0.0)
    assert told({"contents": {**shares, "stroma": 0.7, "fat": 0.3}})["second"] == "fat"
    assert told({"contents": {**shares, "stroma": 0.95, "fat": 0.05}})["second"] == "none"
    assert told({"contents": {**shares, "stroma": 0.85, "fat": 0.15}})["second"] is None
    assert told({"artefacts": ["pen"]})["pen"] is True
    assert told({"artefacts": ["pen"]})["fold"] is False
    assert "second" not in told({"contents": dict.fromkeys(CONTENTS)})
    assert told({}) == {}


def test_amounts_in_quarters_turn_with_the_slide(world: tuple[Path, Path]) -> None:
    from hwsi.training.nano.context import load_examples, turn

    e = load_examples(*world)[0]
    names = [*NUMBERS]
    first = names.index(f"{PLACED[0]} {QUADRANTS[0]}")
    amounts = torch.arange(4.0)
    e.slide_numbers[0, first : first + 4] = amounts
    for code in range(8):
        where = {f"where_{PLACED[0]}": torch.tensor([2])}
        e.slide_kinds.update(where)
        turned = turn(e, code)
        quarter = int(turned.slide_kinds[f"where_{PLACED[0]}"])
        assert turned.slide_numbers[0, first + quarter] == 2
