"""Classes by words and by labels: prompts, likelihood, the probe against scikit-learn, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from retrieval_world import indexed, refused, space_of

from hwsi.errors import Reason
from hwsi.inference.cases import make_cases, unit
from hwsi.inference.classify import classify, classify_by_likelihood, classify_places, few_shot
from hwsi.inference.probe import cross_predict, fit_probe
from hwsi.inference.prompts import PromptSet, embedded_sets, load_prompts
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.spec import DIAGNOSES, ORGAN_OF

TWO = PromptSet.model_validate(
    {
        "name": "two",
        "question": "Which?",
        "templates": ["{name} in {group}. {finding}", "{name}."],
        "classes": [
            {"name": "fat", "group": "skin", "findings": ["Empty cells.", "Pale."], "spellings": ["adipose"]},
            {"name": "muscle", "group": "skin", "findings": ["Red."]},
        ],
    }
)


def test_prompts_are_every_template_with_every_spelling_and_finding():
    assert TWO.prompts(TWO.classes[0]) == (
        "Fat in skin. Empty cells.", "Fat in skin. Pale.", "Adipose in skin. Empty cells.", "Adipose in skin. Pale.",
        "Fat.", "Adipose.",
    )  # fmt: skip


def test_slots_are_drawn_alike_for_every_class():
    drawn = PromptSet.model_validate(
        {**TWO.model_dump(), "templates": ["{name}: {stain}. {finding}", "{stain} {name}. {finding}"], "draws": 6,
         "slots": {"stain": ["pale", "dark", "red"], "size": ["small", "large"]},
         "classes": [{"name": "fat", "group": "skin", "findings": ["Cells are {size}."]},
                     {"name": "muscle", "group": "skin", "findings": ["Cells are {size}."]}]}
    )  # fmt: skip
    fat, muscle = (drawn.prompts(c) for c in drawn.classes)
    assert [p.replace("fat", "muscle").replace("Fat", "Muscle") for p in fat] == list(muscle)
    assert len(set(fat)) == len(fat) > 3
    assert any("small" in p for p in fat)
    assert any("large" in p for p in fat)


def test_the_embedded_sets_name_the_phantom():
    assert embedded_sets() == ("phantom", "phantom-tissue")
    words = load_prompts("phantom")
    assert {c.name: c.group for c in words.classes} == ORGAN_OF
    for organ, names in DIAGNOSES.items():
        assert words.within(organ).names == names if organ != "lymph node" else True
    assert set(load_prompts("phantom-tissue").names) == set(CONTENTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": []}, "classes"),
        ({"templates": ["tissue"]}, "needs"),
        ({"templates": ["{name} {organ}"]}, "needs"),
        ({"templates": ["{name} {"]}, "templates|single|expected"),
        ({"classes": [{"name": "fat"}, {"name": "Fat"}]}, "same name"),
        ({"classes": [{"name": "fat"}, {"name": "bone"}]}, "finding|group"),
        ({"extra": 1}, "extra"),
        ({"slots": {"stain": ["pale"]}}, "draws"),
        ({"slots": {"stain": []}, "draws": 3}, "words"),
        ({"classes": [{"name": "fat", "group": "g", "findings": ["{size}"]}, {"name": "bone"}]}, "slots"),
    ],
)
def test_wrong_classes_are_told(tmp_path, change, words):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**TWO.model_dump(mode="json"), **change}))
    with refused(Reason.DATA_INVALID) as told:
        load_prompts(file)
    assert any(w in str(told.value).lower() for w in words.split("|"))


def test_missing_classes_and_groups_are_told(tmp_path):
    with refused(Reason.DATA_MISSING):
        load_prompts("nothing")
    (tmp_path / "x.yaml").write_text("a: [")
    with refused(Reason.DATA_INVALID):
        load_prompts(tmp_path / "x.yaml")
    with refused(Reason.OPTION_INVALID):
        TWO.within("bone")


def test_a_slide_gets_the_class_that_its_vector_lies_at(features_of):
    a, b = features_of(1, cells_per_patch=0), features_of(2, cells_per_patch=0)
    known = dict.fromkeys(TWO.prompts(TWO.classes[1]), b.slide["slide-nano"])
    space = space_of(**known)
    result = classify("b", [b], space, TWO)
    assert (result.label, result.by) == ("muscle", "similarity")
    assert result.scores[1] == pytest.approx(1, abs=1e-5)
    assert result.margin == pytest.approx(result.scores[1] - result.scores[0])
    pooled = classify("both", [a, b], space, TWO)
    expected = unit(unit(a.slide["slide-nano"]) + unit(b.slide["slide-nano"])) @ unit(b.slide["slide-nano"])
    assert pooled.scores[1] == pytest.approx(float(expected), abs=1e-4)


def test_every_region_and_patch_with_tissue_gets_a_class(features_of):
    slide = features_of(3, cells_per_patch=0)
    space = space_of(**dict.fromkeys(TWO.prompts(TWO.classes[0]), slide.region["region-nano"][2]))
    regions = classify_places(slide, space, TWO, "region").places
    assert len(regions) == 6
    assert (regions[2].label, regions[2].name) == ("R3", "fat")
    patches = classify_places(slide, space, TWO, "patch")
    assert len(patches.places) == int((~slide.hierarchy.patches.background).sum())
    assert len(patches.evidence()["evidence"]) == len(patches.places)


def test_likelihood_is_the_sessions(session):
    result = classify_by_likelihood("x", [session], TWO)
    seen, _ = session.choice_log_probs("Which?", ("fat", "muscle"))
    assert result.label == ("fat", "muscle")[int(seen.argmax())]
    assert np.exp(result.scores).sum() == pytest.approx(1)
    assert classify_by_likelihood("x", [session, session], TWO).scores == pytest.approx(result.scores)


def test_the_probe_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], [30, 12, 5])
    x = rng.standard_normal((47, 8)) * rng.uniform(0.1, 5, 8) + np.searchsorted(["a", "b", "c"], y)[:, None] * 0.5
    ours = fit_probe(x, y.tolist(), l2=0.7).log_probs(x)
    z = (x - x.mean(0)) / x.std(0)
    theirs = linear.LogisticRegression(C=1 / 0.7, class_weight="balanced", tol=1e-10, max_iter=5000).fit(z, y)
    assert np.abs(np.exp(ours) - theirs.predict_proba(z)).max() < 1e-3


def test_the_probe_needs_two_classes_and_no_varying_feature():
    with refused(Reason.DATA_INVALID):
        fit_probe(np.zeros((3, 2)), ["a"] * 3)
    probe = fit_probe(np.zeros((4, 2)), ["a", "a", "a", "b"])
    assert np.exp(probe.log_probs(np.zeros((1, 2)))) == pytest.approx(np.full((1, 2), 0.5), abs=1e-4)


def test_a_patients_slides_never_judge_one_another():
    rng = np.random.default_rng(0)
    code = np.repeat(rng.standard_normal((12, 30)), 2, 0)  # a patient's slides are equal, and tell nothing else
    labels = np.repeat(rng.choice(["a", "b"], 12), 2).tolist()
    groups = [f"p{i // 2}" for i in range(24)]
    by_patient = cross_predict(code, labels, groups)
    leaking = cross_predict(code, labels, [str(i) for i in range(24)], folds=24)
    assert np.mean([a == b for a, b in zip(leaking, labels, strict=True)]) == 1
    assert np.mean([a == b for a, b in zip(by_patient, labels, strict=True)]) < 0.9


def test_few_shot_learns_from_labels_and_tells_how_well(features_of, tmp_path):
    rng = np.random.default_rng(0)
    slides = []
    for i in range(14):
        vector = rng.standard_normal(192).astype(np.float32) + (3 if i % 2 else -3)
        slides.append(replace(features_of(i, cells_per_patch=0), slide={"slide-nano": vector}))
    index = indexed(slides, None)
    labels = {f"made-{i}.svs": "odd" if i % 2 else "even" for i in range(12)}
    found = few_shot(index, labels, make_cases(index.names))
    assert {r.name: r.label for r in found.results} == {"made-12": "even", "made-13": "odd"}
    assert found.labelled == {"even": 6, "odd": 6}
    assert found.held_out == 1

    with refused(Reason.DATA_INVALID):
        few_shot(index, {**labels, "strange": "odd"}, make_cases(index.names))
    rows = ["slide,patient", *(f"made-{i},P{i // 2}" for i in range(14))]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    with refused(Reason.DATA_INVALID):
        few_shot(index, labels, make_cases(index.names, tmp_path / "m.csv"))
