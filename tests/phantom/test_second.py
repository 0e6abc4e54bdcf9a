"""The second edition: exact laws, silence by construction, changes that change one thing, and how slides are drawn."""

import json
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_toys import Toy, tumour

from hwsi.errors import HwsiError
from hwsi.phantom.cohort import is_whole, read_manifest
from hwsi.phantom.drawing import CellKind, Compartment
from hwsi.phantom.sampling import SPLITS, TRIPLES, draw_plans
from hwsi.phantom.second import shifts
from hwsi.phantom.second.change import Change, mirror, move_mitoses, thin_infiltrate
from hwsi.phantom.second.cohort import first_edition, regenerate, write_second
from hwsi.phantom.second.drafts import draw_drafts
from hwsi.phantom.second.laws import DISCORDANCE, GRADE_LAW, ceiling, discordance_ceilings, grade_ceilings
from hwsi.phantom.second.pairs import equal_sums, premises, twins
from hwsi.phantom.second.questions import composites, reword, silenced
from hwsi.phantom.second.silence import oracle_accuracy, thin
from hwsi.phantom.second.wordings import COMPOSITES
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import load_truth, measure
from hwsi.phantom.wordings import KINDS, all_texts

SCORE = st.integers(1, 3)
CANCER = Spec(seed=1, diagnosis="invasive ductal carcinoma", width_um=2048, height_um=1024)


# --- laws ---------------------------------------------------------------------------------------------


def test_the_ceilings_of_the_grade_are_those_of_an_enumeration():
    found = grade_ceilings()
    assert found == {0: Fraction(1, 3), 1: Fraction(451, 780), 2: Fraction(281, 390), 3: 1}
    assert [round(float(found[n]), 3) for n in range(3)] == [0.333, 0.578, 0.721]
    assert sum(GRADE_LAW.values()) == 1
    # each score is worth the same
    grade = {t: g for g, ts in TRIPLES.items() for t in ts}
    assert {ceiling(GRADE_LAW, grade.__getitem__, (i,)) for i in range(3)} == {found[1]}


def test_discordance_is_at_chance_for_each_score_and_certain_for_both():
    assert discordance_ceilings() == {0: Fraction(1, 2), 1: Fraction(1, 2), 2: 1}
    assert ceiling(DISCORDANCE, lambda t: t[0] == t[1], (1,)) == Fraction(1, 2)
    for axis in (0, 1):  # equal marginals too
        assert {sum(p for t, p in DISCORDANCE.items() if t[axis] == v) for v in (1, 2, 3)} == {Fraction(1, 3)}


# --- silence ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from("xyz")), max_size=60), st.integers(0, 9)
)
def test_a_thinned_set_leaves_every_single_oracle_exactly_at_chance(rows, seed):
    keys = [lambda r: r[0], lambda r: r[1], lambda r: r[2]]
    kept = thin(rows, lambda r: r[0] == r[1], keys, seed)
    assert Counter(kept) - Counter(rows) == Counter()
    for key in keys if kept else []:
        assert oracle_accuracy(kept, lambda r: r[0] == r[1], key) == 0.5
    assert kept == thin(rows, lambda r: r[0] == r[1], keys, seed)


def test_what_is_balanced_already_is_not_thinned_and_both_scores_still_tell():
    rows = [t for t, p in DISCORDANCE.items() for _ in range(int(p * 12))]
    kept = thin(rows, lambda r: r[0] == r[1], [lambda r: r[0], lambda r: r[1]])
    assert kept == rows
    assert oracle_accuracy(kept, lambda r: r[0] == r[1], lambda r: r) == 1.0


def test_one_answer_is_nothing_to_ask():
    assert thin([1, 3, 5], lambda i: i % 2, []) == []


# --- changes ------------------------------------------------------------------------------------------


def dividing() -> Toy:
    toy = tumour(18, 18)
    for k in range(8):
        toy.cell(120 + 140 * (k % 4), 130 + 140 * (k // 4), CellKind.MITOSIS, figure=k + 1)
    return toy


@pytest.mark.parametrize(("part", "other"), [("solid", "tubular"), ("tubular", "solid")])
def test_mitoses_move_and_every_count_stays(part, other):
    before = dividing().drawing()
    after = move_mitoses(before, part, 3)
    found = Change().measure(after)
    assert found["part_mitoses"][part] >= 6
    assert found["part_mitoses"][other] <= 2
    assert found["part_um2"] == Change().measure(before)["part_um2"]
    assert np.array_equal(before.cells["kind"], after.cells["kind"])
    a, b = (measure(d, CANCER).slide for d in (before, after))
    for name in ("mitoses", "tubule_score", "pleomorphism_score", "mitosis_score", "til", "pattern", "extent"):
        assert a[name] == b[name]
    places = [
        {tuple(np.round(p, 2)) for p in zip(d.cells["x_um"], d.cells["y_um"], strict=True)} for d in (before, after)
    ]
    assert places[0] == places[1], "cells change places, no place is new"


def test_infiltrate_is_thinned_until_the_wanted_region_has_most():
    toy = Toy()
    toy.disc(300, 300, 60, Compartment.NECROSIS)
    for k in range(300):
        toy.cell(100 + k * 2.5, 700, CellKind.LYMPHOCYTE, neoplastic=False)
        if k % 3 == 0:
            toy.cell(1100 + k * 2.5, 700, CellKind.LYMPHOCYTE, neoplastic=False)
    drawing = toy.drawing()
    assert thin_infiltrate(drawing, "necrotic", 0).cells.size == drawing.cells.size
    left, right = Change().measure(thin_infiltrate(drawing, "clear", 0))["inflammatory"][0]
    assert right == 100
    assert 40 < left < 80


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_a_mirrored_drawing_has_the_same_patches_in_other_places(bits):
    toy = dividing()
    toy.disc(1500, 200, 90, Compartment.NECROSIS)
    drawing = toy.drawing()
    flipped = mirror(drawing, bits)
    a, b = measure(drawing, CANCER), measure(flipped, CANCER)
    grids = []
    for m in (a, b):
        grids.append(
            {n: v.reshape(8, 16, *v.shape[1:]) for n, v in m.patches.items() if n in ("compartments", "counts")}
        )
    axes = tuple(axis for bit, axis in ((1, 1), (2, 0)) if bits & bit)
    for name in ("compartments", "counts"):
        assert np.allclose(grids[0][name], np.flip(grids[1][name], axes))
    assert a.slide["mitoses"] == b.slide["mitoses"]
    again = mirror(flipped, bits)
    assert np.allclose(again.cells["x_um"], drawing.cells["x_um"], atol=1e-3)
    if bits & 1:
        assert (a.slide["where_necrosis"], b.slide["where_necrosis"]) in (
            ("upper right", "upper left"), ("upper right", "lower left"),
        )  # fmt: skip


def test_a_mirrored_border_is_the_border_mirrored():
    from hwsi.phantom.cells import contours_of

    toy = tumour(3, 3)
    drawing = toy.drawing()
    rng = np.random.default_rng(0)
    for name in ("theta", "irregularity"):
        drawing.cells[name] = rng.uniform(0, 0.5, len(drawing.cells))
    drawing.cells["rb_um"] *= 0.6
    drawing.cells["phase"] = rng.uniform(0, 6, drawing.cells["phase"].shape)
    drawing.cells["wobble"] = rng.normal(0, 1, drawing.cells["wobble"].shape)
    one, two = contours_of(drawing.cells), contours_of(mirror(drawing, 1).cells)
    one[..., 0] = drawing.width_um - one[..., 0]
    # the same points, run through the other way round
    assert np.allclose(one, np.roll(two[:, ::-1], 1, axis=1), atol=2e-2)


# --- drafts -------------------------------------------------------------------------------------------


def test_drafts_are_repeatable_balanced_and_share_no_slide_between_splits():
    drafts = draw_drafts(900, 0, "gate")
    assert drafts[:100] == draw_drafts(100, 0, "gate")
    scores = Counter((d.plan.spec.tubules, d.plan.spec.pleomorphism) for d in drafts if d.family == "discordance")
    equal = sum(n for (a, b), n in scores.items() if a == b)
    assert abs(equal - sum(scores.values()) / 2) <= 1
    for axis in (0, 1):
        marginal = Counter()
        for score, n in scores.items():
            marginal[score[axis]] += n
        assert max(marginal.values()) - min(marginal.values()) <= 5
    for d in drafts:
        assert d.plan.spec.seed % 8 == SPLITS.index("gate")
        assert not shifts.unseen(d.plan.spec)
    first = {d.plan.slide_id: d for d in drafts}
    kin = [(d, first[d.plan.twin_of]) for d in drafts if d.plan.twin_of]
    assert len(kin) > 250
    for d, one in kin:
        changed = [n for n, v in vars(d.plan.spec).items() if v != getattr(one.plan.spec, n)]
        assert len(changed) + (d.change != one.change) == 1
        assert d.plan.patient_id == one.plan.patient_id
    others = {d.plan.spec.seed for s in ("train", "test") for d in draw_drafts(100, 0, s)}
    plans = {p.spec.seed for p in draw_plans(100, 0, "gate")}
    assert not others & {d.plan.spec.seed for d in drafts}
    assert not plans & {d.plan.spec.seed for d in drafts}


def test_each_axis_shifts_its_own_and_nothing_else():
    looks = {axis: shifts.look_of(8, axis) for axis in ("", "stain", "scanner")}
    assert looks["stain"].haematoxylin != looks[""].haematoxylin
    assert looks["stain"].noise == looks[""].noise
    assert looks["scanner"].haematoxylin == looks[""].haematoxylin
    assert looks["scanner"].jpeg_quality < 30 <= looks[""].jpeg_quality
    assert all(d.plan.spec.artefacts in shifts.ARTEFACTS for d in draw_drafts(30, 0, "test", "artefact"))
    unseen = [shifts.unseen(d.plan.spec) for d in draw_drafts(60, 0, "test", "pair")]
    assert np.mean(unseen) > 0.5
    with pytest.raises(HwsiError, match="no axis of shift"):
        draw_drafts(1, 0, "test", "weather")


# --- questions ----------------------------------------------------------------------------------------


def record(name, tubules, pleomorphism, mitosis, *, organ="colon", grade=None, seed=1, **more):
    grades = {t: g for g, ts in TRIPLES.items() for t in ts}
    slide = {
        "tubule_score": tubules, "pleomorphism_score": pleomorphism, "mitosis_score": mitosis,
        "grade": grade or grades[tubules, pleomorphism, mitosis],
    }  # fmt: skip
    return {"slide_id": name, "seed": seed, "organ": organ, "diagnosis": "colonic adenocarcinoma", "malignant": True,
            "slide": slide, "regions": [], "questions": []} | more  # fmt: skip


def triples(repeats=3):
    found = {}
    for n, (a, b, c, k) in enumerate(product((1, 2, 3), (1, 2, 3), (1, 2, 3), range(repeats))):
        found[f"s{n}"] = record(f"s{n}", a, b, c, organ="colon" if k % 2 else "lung", seed=n)
    return found


def test_discordance_asked_of_a_cohort_is_silent_in_each_scale():
    asked = silenced([q for r in triples().values() for q in composites(r, held_out=False)])
    assert len(asked) > 40
    assert {q["scale"] for q in asked} == {"region+cell"}
    for name in COMPOSITES["discordance"].oracles:
        assert oracle_accuracy(asked, lambda q: q["answer"], lambda q, name=name: q["known"][name]) == 0.5
    both = oracle_accuracy(asked, lambda q: q["answer"], lambda q: (q["known"]["tubules"], q["known"]["pleomorphism"]))
    assert both == 1.0


def test_equal_sums_differ_in_one_score_and_the_two_others_tell_nothing():
    records = triples()
    pairs = equal_sums(records)
    assert {p.kind.split(", ")[1].split()[0] for p in pairs} == {"tubules", "pleomorphism", "mitosis"}
    index = {"tubules": 0, "pleomorphism": 1, "mitosis": 2}
    for p in pairs:
        third = index[p.kind.split(", ")[1].split()[0]]
        two = []
        for q in p.both:
            slide = records[q["id"].split("/")[0]]["slide"]
            scores = [slide[f"{n}_score"] for n in ("tubule", "pleomorphism", "mitosis")]
            two.append(sum(scores) - scores[third])
            assert q["answer"] == f"grade {slide['grade']}"
        assert two[0] == two[1]
        assert p.first["answer"] != p.second["answer"]
        assert p.first["question"] == p.second["question"]
        assert p.first["choices"] == p.second["choices"]
    for kind in {p.kind for p in pairs}:
        asked = [q for p in pairs if p.kind == kind for q in p.both]
        assert oracle_accuracy(asked, lambda q: q["answer"], lambda q: q["known"]["two_scores"]) == 0.5


def closed(kind, answer, name="a"):
    choices = list(KINDS[kind].choices) or ["x", "y"]
    return {"id": f"{name}/{kind}/0", "kind": kind, "scale": KINDS[kind].scale, "question": KINDS[kind].templates[0],
            "choices": choices, "answer": answer, "answerable": True, "closed_eval": True, "template": 0, "pair": None,
            "regions": [], "patches": []}  # fmt: skip


def test_twins_count_only_where_one_scale_alone_differs():
    def pair(first, second):
        records = {}
        for name, answers in (("a", first), ("b", second)):
            records[name] = record(name, 1, 1, 1, questions=[closed(k, v, name) for k, v in answers.items()])
        return twins(records, {"b": "a"})

    assert [p.scale for p in pair({"mitosis": "low", "necrosis": "no"}, {"mitosis": "high", "necrosis": "no"})] == [
        "cell"
    ]
    assert pair({"mitosis": "low", "necrosis": "no"}, {"mitosis": "high", "necrosis": "yes"}) == []
    assert pair({"grade": "grade 1"}, {"grade": "grade 2"}) == []
    both = pair({"mitosis": "low", "nucleoli": "no"}, {"mitosis": "high", "nucleoli": "yes"})
    assert [p.kind for p in both] == ["mitosis", "nucleoli"]


def test_a_premise_has_the_same_words_with_and_without_an_answer():
    refused = closed("where_necrosis", "This cannot be assessed on this slide. There is no necrosis.", "b")
    refused |= {"answerable": False, "closed_eval": False, "question": KINDS["where_necrosis"].templates[2]}
    records = {
        "a": record("a", 1, 1, 1, questions=[closed("where_necrosis", "upper left", "a")]),
        "b": record("b", 1, 1, 1, questions=[refused]),
    }
    (pair,) = premises(records, {"b": "a"})
    assert pair.first["question"] == pair.second["question"]
    assert (pair.first["answerable"], pair.second["answerable"]) == (True, False)


def test_wordings_held_out_are_the_last_and_bring_no_new_word():
    words = {w.strip("?.,").lower() for t in all_texts() for w in t.split()}
    for kind, composite in COMPOSITES.items():
        templates = composite.words.templates
        train = {w.strip("?.,").lower() for t in templates[:-1] for w in t.split()}
        assert {w.strip("?.,").lower() for w in templates[-1].split()} <= train | words, kind
    one = record("s", 1, 1, 1)
    (plain,), (held,) = composites(one, held_out=False), composites(one, held_out=True)
    assert plain["template"] < len(COMPOSITES["discordance"].words.templates) - 1 == held["template"]
    q = closed("content", "fat") | {"question": "What does {R:0,1} mostly show?"}
    assert reword(q, one, held_out=True)["question"] == KINDS["content"].templates[-1].format(region="{R:0,1}")


# --- cohorts ------------------------------------------------------------------------------------------


def test_a_cohort_is_written_measured_and_regenerated_without_pixels(tmp_path):
    small = next(s for s in range(99) if draw_drafts(1, s, "gate")[0].family == "any")
    drafts = write_second(tmp_path / "c", 1, small, split="gate", sides_um=(640, 640))
    rows = read_manifest(tmp_path / "c")
    assert [r["slide"] for r in rows] == [d.file for d in drafts]
    path = tmp_path / "c" / drafts[0].file
    truth = load_truth(path)
    assert truth["change"] == drafts[0].change.to_dict()
    assert set(truth["second"]) == {"part_um2", "part_mitoses", "inflammatory"}
    assert json.dumps(truth)

    job, encoded = tmp_path / "job", []
    feature = job / "one.h5"

    def encode(slide):
        assert slide.exists()
        encoded.append(slide.name)
        job.mkdir(exist_ok=True)
        feature.write_bytes(b"features")

    digest = truth["digest"]
    assert regenerate(tmp_path / "c", drafts[0], "gate", encode, feature)
    assert not path.exists()
    assert is_whole(path, drafts[0].plan.spec, drafts[0].change, pixels=False)
    assert not is_whole(path, drafts[0].plan.spec, drafts[0].change)
    assert not regenerate(tmp_path / "c", drafts[0], "gate", encode, feature), "nothing is left to be done"
    feature.unlink()
    assert regenerate(tmp_path / "c", drafts[0], "gate", encode, feature)
    assert encoded == [path.name] * 2
    assert load_truth(path)["digest"] == digest, "the same slide from the same seed"
    (old,) = first_edition(draw_plans(1, 5, "gate", (640, 640)))
    assert regenerate(tmp_path / "d", old, "gate", encode, job / "two.h5")
    assert "second" not in load_truth(tmp_path / "d" / old.file)
