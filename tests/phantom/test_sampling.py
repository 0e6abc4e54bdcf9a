from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsi.errors import HwsiError
from hwsi.phantom.draw import check
from hwsi.phantom.sampling import SIDES_UM, SPLITS, draw_plans, slide_seed
from hwsi.phantom.spec import DIAGNOSES
from hwsi.phantom.truth import grade_of


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 10**6))
def test_splits_never_share_a_seed(seed_a, seed_b, i, j):
    for held_out in SPLITS[1:]:
        assert slide_seed("train", seed_a, i) != slide_seed(held_out, seed_b, j)
    assert slide_seed("train", seed_a, i) % 8 == SPLITS.index("train")


def test_cohorts_of_two_splits_are_disjoint():
    seeds = {split: {p.spec.seed for p in draw_plans(300, 0, split)} for split in ("train", "val", "test")}
    assert not seeds["train"] & (seeds["val"] | seeds["test"])
    assert not seeds["val"] & seeds["test"]


def test_unknown_split_is_refused():
    with pytest.raises(HwsiError, match="option_invalid"):
        draw_plans(3, 0, "holdout")


def test_a_longer_cohort_starts_with_the_shorter_one():
    long = draw_plans(60, 5, "val")
    for n in (1, 7, 33):
        assert draw_plans(n, 5, "val") == long[:n]
    assert draw_plans(60, 6, "val") != long


def test_every_request_can_be_drawn():
    for plan in draw_plans(200, 1, "train"):
        check(plan.spec)
        assert SIDES_UM[0] <= min(plan.spec.width_um, plan.spec.height_um)
        assert plan.spec.width_um % 128 == plan.spec.height_um % 128 == 0


def test_names_tell_nothing():
    for plan in draw_plans(50, 1, "test"):
        assert plan.slide_id.startswith("test-")
        assert not set(plan.slide_id.split("-")) & set(DIAGNOSES)


def test_diagnoses_are_balanced_in_their_organ():
    originals = [p.spec for p in draw_plans(650, 2, "train") if not p.twin_of]
    for all_dx in DIAGNOSES.values():
        counts = [sum(s.diagnosis == dx for s in originals) for dx in all_dx]
        assert max(counts) - min(counts) <= 1
    organs = Counter(s.organ for s in originals)
    assert max(organs.values()) - min(organs.values()) <= 1


@pytest.mark.parametrize(
    "name", ["til", "necrosis", "fragments", "focality", "vascular_invasion", "mucin", "artefacts"]
)
def test_nuisances_have_equal_marginals_in_all_diagnoses(name):
    originals = [p.spec for p in draw_plans(900, 3, "train") if not p.twin_of]
    shares = {}
    for all_dx in DIAGNOSES.values():
        for dx in all_dx:
            values = Counter(getattr(s, name) for s in originals if s.diagnosis == dx)
            n = sum(values.values())
            for value, count in values.items():
                shares.setdefault(value, []).append(count / n)
    for values in shares.values():
        assert max(values) - min(values) < 0.13


def test_grades_are_common_enough():
    grades = Counter(
        grade_of(p.spec.tubules, p.spec.pleomorphism, p.spec.mitoses)
        for p in draw_plans(900, 4, "train")
        if p.spec.malignant
    )
    n = sum(grades.values())
    assert all(grades[g] / n > 0.2 for g in (1, 2, 3))


def test_a_twin_differs_in_one_attribute():
    plans = draw_plans(400, 0, "train")
    by_id = {p.slide_id: p for p in plans}
    twins = [p for p in plans if p.twin_of]
    assert 0.05 < len(twins) / len(plans) < 0.15
    for twin in twins:
        other = by_id[twin.twin_of]
        a, b = asdict(twin.spec), asdict(other.spec)
        assert len([k for k in a if a[k] != b[k]]) == 1
        assert a["seed"] == b["seed"]
        assert twin.patient_id == other.patient_id
    assert len({p.patient_id for p in plans}) == len(plans) - len(twins)
