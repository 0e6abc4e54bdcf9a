"""Labels and their inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsi.hierarchy.labels import LABEL, parse_patch_label, parse_region_label, patch_label, region_label


@given(st.integers(0, 10_000), st.integers(0, 31), st.integers(1, 32), st.data())
def test_labels_go_back_and_forth(region, row, cols, data):
    col = data.draw(st.integers(0, cols - 1))
    label = patch_label(region, row, col, cols)
    assert parse_patch_label(label, cols) == (region, row, col)
    assert parse_region_label(label) == parse_region_label(region_label(region)) == region


def test_labels_as_people_read_them():
    assert region_label(0) == "R1"
    assert patch_label(2, 0, 6, 8) == "R3.P7"
    assert patch_label(0, 1, 0, 8) == "R1.P9"
    text = "Mitoses lie in R3.P7 and R12; not in RP3, R0 or XR4."
    assert [m.group(0) for m in LABEL.finditer(text)] == ["R3.P7", "R12"]


@pytest.mark.parametrize("wrong", ["", "R0", "r3", "R3.P0", "R3.P", "P7", "R3 "])
def test_what_is_no_label_is_refused(wrong):
    with pytest.raises(ValueError, match="label"):
        parse_region_label(wrong)


def test_region_is_no_patch():
    with pytest.raises(ValueError, match="not a patch"):
        parse_patch_label("R3", 8)


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (0, 8), (0, -1)])
def test_places_outside_the_grid_are_refused(row, col):
    with pytest.raises(ValueError, match="no patch"):
        patch_label(0, row, col, 8)
