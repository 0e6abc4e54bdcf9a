"""Report facts: the phantom's own grammar is read back, whatever the order, and one wrong word costs one fact."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsi.benchmarks.facts import CAPTION, facts_of, parse, score
from hwsi.phantom import report as grammar
from hwsi.phantom.cohort import make_truth
from hwsi.phantom.draw import draw
from hwsi.phantom.measure import CONTENTS, PATTERNS
from hwsi.phantom.spec import DIAGNOSES, Spec
from hwsi.phantom.truth import cited, fill_labels, measure

VALUES = {
    "specimen": ("one tissue fragment", "two tissue fragments", "three tissue fragments"),
    "diagnosis": tuple(d for ds in DIAGNOSES.values() for d in ds),
    "pattern": PATTERNS[1:], "grade": ("1", "2", "3"), "content": CONTENTS,
    "tubule_score": ("more than 75 %", "10 to 75 %", "less than 10 %"),
    "pleomorphism_score": ("mild", "moderate", "marked"), "mitosis_score": ("low", "intermediate", "high"),
    **dict.fromkeys(("nucleoli", "germinal", "necrosis"), ("present", "absent")),
    **dict.fromkeys(("keratin", "mucin", "vascular_invasion"), ("present", "absent")),
    "til": ("few", "moderate", "many"), "inflammatory": ("lymphocytes", "plasma cells"),
    "focality": ("one focus", "several foci"), "goblet_cells": ("few", "many"),
    "extent": ("less than a third", "about half", "more than two thirds"), "artefacts": ("pen", "pen and blur"),
    "neoplastic": ("no",),
}  # fmt: skip


@pytest.fixture(scope="module")
def records():
    """Truths of a small slide of every diagnosis."""
    made = []
    for k, diagnosis in enumerate(VALUES["diagnosis"]):
        spec = Spec(seed=300 + 7 * k, diagnosis=diagnosis, width_um=1280, height_um=1152, necrosis=bool(k % 2),
                    tubules=1 + k % 3, til=k % 3, mitoses=3 - k % 3, fragments=1 + k % 2)  # fmt: skip
        drawing = draw(spec)
        made.append(make_truth(f"s{k}", spec, drawing, measure(drawing, spec), held_out=False).record)
    return made


@pytest.mark.parametrize("attribute", [a for a in grammar.FACTS if a != "organ"])
def test_every_paraphrase_of_every_value_is_read(attribute):
    for value in VALUES[attribute]:
        for pool in grammar.FACTS[attribute]:
            text = pool.format(v=value, organ="Breast", lower="breast")
            values = value.split(" and ") if attribute == "artefacts" else [value]
            assert {f for f in parse(text) if f[1] not in ("organ",)} == {("", attribute, v) for v in values}, text


def test_the_organ_and_clean_tissue_are_read():
    for organ in DIAGNOSES:
        for pool in grammar.FACTS["organ"]:
            assert parse(pool.format(organ=organ.capitalize(), lower=organ)) == {("", "organ", organ)}
    for text in grammar.NO_ARTEFACT:
        assert parse(text) == {("", "artefacts", "none")}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("There is no necrosis.", {("", "necrosis", "absent")}),
        ("Necrosis is not present.", {("", "necrosis", "absent")}),
        ("No necrosis or vascular invasion.", {("", "necrosis", "absent"), ("", "vascular_invasion", "absent")}),
        ("Necrosis is present, vascular invasion is absent.",
         {("", "necrosis", "present"), ("", "vascular_invasion", "absent")}),
        ("Marked nuclear pleomorphism.", {("", "pleomorphism_score", "marked")}),
        ("No invasive ductal carcinoma is seen.", set()),
        ("The weather is fine.", set()),
        ("R2: Mostly tumour of solid growth and stroma with marked nuclei, many mitoses and necrosis.",
         {("R2", "content", "tumour"), ("R2", "predominant", "tumour"), ("R2", "content", "stroma"),
          ("R2", "pattern", "solid"),
          ("R2", "pleomorphism_score", "marked"), ("R2", "mitosis_score", "many"), ("R2", "necrosis", "present")}),
        ("R2: Stroma and fat without necrosis.",
         {("R2", "content", "fat"), ("R2", "content", "stroma"), ("R2", "necrosis", "absent")}),
    ],
)  # fmt: skip
def test_what_a_sentence_states(text, facts):
    assert parse(text) == facts


def test_the_true_report_and_caption_score_one(records):
    for record in records:
        truth = facts_of(record)
        found = score(record["report"], truth)
        assert found.f1() == 1.0, (record["report"], found)
        assert not found.missed
        assert not found.invented
        assert found.found.total() >= 8
        caption = score(record["caption"], truth.only(*CAPTION))
        assert not caption.invented
        assert not caption.missed


@settings(max_examples=40, deadline=None)
@given(k=st.integers(0, 12), seed=st.integers(0, 1000))
def test_the_order_of_sentences_does_not_matter(records, k, seed):
    sentences = re.split(r"(?<=\.)\s+", records[k]["report"])
    random.Random(seed).shuffle(sentences)
    assert score(" ".join(sentences), facts_of(records[k])).f1() == 1.0


@settings(max_examples=80, deadline=None)
@given(k=st.integers(0, 12), pick=st.integers(0, 100), other=st.integers(0, 100))
def test_one_changed_attribute_loses_that_fact_and_invents_one(records, k, pick, other):
    record = records[k]
    truth = facts_of(record)
    units = [u for u in record["report_units"] if u["attribute"] in VALUES and len(VALUES[u["attribute"]]) > 1]
    unit = units[pick % len(units)]
    name = unit["attribute"]
    value = next((v for _, a, v in truth.required if a == name and not _), None)
    if value is None or value == "none":
        return
    others = [v for v in VALUES[name] if v != value]
    wrong = unit["text"].lower().replace(value, others[other % len(others)])
    if wrong == unit["text"].lower():
        return
    found = score(record["report"].replace(unit["text"], wrong), truth)
    assert found.missed == {name: 1}
    assert found.invented == {name: 1}


def test_another_true_region_is_found_and_a_region_that_is_not_there_is_invented(records):
    record = next(r for r in records if len([x for x in r["regions"] if x["sentence"]]) > 1)
    labels = {tuple(r["grid"]): f"R{i + 1}" for i, r in enumerate(record["regions"])}
    truth = facts_of(record, lambda row, col: labels[row, col])
    text = fill_labels(record["report"], lambda row, col: labels[row, col])
    assert score(text, truth).f1() == 1.0
    more = score(text + " R40: Mostly stroma.", truth)
    assert more.invented == {"region content": 1, "region predominant": 1}
    assert more.f1() < 1


def test_an_unclear_attribute_is_not_judged(records):
    record = {**records[0], "slide": {**records[0]["slide"], "necrosis": None}}
    truth = facts_of(record)
    said = score("Necrosis is present.", truth)
    assert not said.invented
    assert "necrosis" not in said.missed


def test_tissues_are_judged_one_by_one_and_not_where_they_are_near_a_threshold(records):
    record = next(r for r in records if "{R:" in r["report"])
    row, col = record["regions"][0]["grid"]

    def score_of(text, **shares):
        contents = {**dict.fromkeys(CONTENTS, 0.0), **{k.replace("_", " "): v for k, v in shares.items()}}
        region = record["regions"][0]
        attrs = {**region["attrs"], "contents": contents}
        truth = facts_of({**record, "regions": [{**region, "attrs": attrs}]}, lambda r, c: "R1")
        found = score(text, truth)
        assert (row, col) in cited(record["report"])
        return found.recalled["region content"], found.missed["region content"], found.invented["region content"]

    assert score_of("R1: Stroma and fat.", stroma=0.6, fat=0.4) == (2, 0, 0)
    assert score_of("R1: Stroma and muscle.", stroma=0.6, fat=0.4) == (1, 1, 1)
    assert score_of("R1: Mostly stroma.", stroma=0.83, fat=0.17) == (1, 0, 0), "fat is too near to what is told of"
    assert score_of("R1: Mostly stroma and fat.", stroma=0.83, fat=0.17) == (1, 0, 0)

    def predominant(text, **shares):
        attrs = {**record["regions"][0]["attrs"], "contents": {**dict.fromkeys(CONTENTS, 0.0), **shares}}
        region = {**record["regions"][0], "attrs": attrs}
        found = score(text, facts_of({**record, "regions": [region]}, lambda r, c: "R1"))
        return found.missed["region predominant"], found.invented["region predominant"]

    assert predominant("R1: Stroma and fat.", stroma=0.8, fat=0.2) == (1, 0)
    assert predominant("R1: Mostly stroma and fat.", stroma=0.55, fat=0.45) == (0, 1)
    assert predominant("R1: Mostly stroma and fat.", stroma=0.68, fat=0.32) == (0, 0), "neither right nor wrong"


def test_scores_add_up(records):
    truth = facts_of(records[2])
    one, none = score(records[2]["report"], truth), score("", truth)
    both = one + none
    assert both.recall() == pytest.approx(0.5)
    assert both.precision() == 1.0
    assert both.to_dict()["all"]["f1"] == pytest.approx(2 / 3, abs=1e-3)
    assert none.f1() == 0.0
