import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from phantom_toys import Toy, tumour

from hwsi.phantom.draw import draw
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.questions import (
    balance,
    closed_answers,
    contents_of,
    majority_accuracy,
    make_questions,
    slide_of,
)
from hwsi.phantom.report import patch_phrases, region_sentences, write_report
from hwsi.phantom.spec import DIAGNOSES, Spec
from hwsi.phantom.truth import measure
from hwsi.phantom.wordings import KINDS, REFUSAL, all_texts

CANCER = Spec(seed=1, diagnosis="colonic adenocarcinoma", width_um=2048, height_um=1024)


def asked(spec, measured, held_out=True, slide_id="s"):
    return make_questions(slide_id, spec, measured, region_sentences(spec, measured), held_out=held_out)


@pytest.fixture(scope="module")
def cohort():
    """A drawn slide of every diagnosis: (spec, measured, questions)."""
    made = []
    for k, diagnosis in enumerate(d for ds in DIAGNOSES.values() for d in ds):
        for more in (bool(k % 2),):
            spec = Spec(seed=100 + 7 * k, diagnosis=diagnosis, width_um=896, height_um=1152,
                        necrosis=more, tubules=1 + k % 3, mitoses=3 - k % 3, pleomorphism=1 + k // 3 % 3)  # fmt: skip
            measured = measure(draw(spec), spec)
            made.append((spec, measured, asked(spec, measured, slide_id=f"s{spec.seed}")))
    return made


def test_every_question_is_well_formed(cohort):
    for spec, _, questions in cohort:
        assert len({q["id"] for q in questions}) == len(questions)
        for q in questions:
            assert q["scale"] in ("cell", "patch", "region", "slide")
            assert slide_of(q) == f"s{spec.seed}"
            assert "{organ}" not in q["question"]
            assert "{region}" not in q["question"]
            if q["closed_eval"]:
                assert q["answer"] in q["choices"]
                assert len(set(q["choices"])) == len(q["choices"]) > 1
            assert q["answerable"] != q["answer"].startswith(REFUSAL)
            assert not (q["closed_eval"] and not q["answerable"])


def test_each_scale_is_asked_and_each_slide_enough(cohort):
    for _, _, questions in cohort:
        assert 8 <= len(questions) <= 30
    closed = [q for _, _, qs in cohort for q in qs if q["closed_eval"]]
    assert {q["scale"] for q in closed} == {"cell", "patch", "region", "slide"}


def test_a_sixth_cannot_be_answered(cohort):
    everything = [q for _, _, qs in cohort for q in qs]
    share = sum(not q["answerable"] for q in everything) / len(everything)
    assert 0.14 <= share <= 0.22


def test_answers_are_the_measured_truth():
    toy = tumour(0, 24, size=8.0, nucleolus=0.6)
    spec = replace(CANCER, tubules=1, pleomorphism=1)  # the request says otherwise
    answers = closed_answers(spec, measure(toy.drawing(), spec).slide)
    assert answers["tubules"] == "less than 10 %"
    assert answers["pleomorphism"] == "marked"
    assert answers["nucleoli"] == "yes"
    assert answers["necrosis"] == "no"
    assert answers["pattern"] == "solid"


def test_wordings_and_order_do_not_depend_on_answers():
    words = []
    for toy in (tumour(24, 0), tumour(0, 24)):
        questions = asked(CANCER, measure(toy.drawing(), CANCER))
        words.append({q["kind"]: (q["question"], q["choices"], q["answer"]) for q in questions if q["kind"] in KINDS})
    assert words[0]["tubules"][:2] == words[1]["tubules"][:2]
    assert words[0]["tubules"][2] != words[1]["tubules"][2]


def test_training_never_sees_the_held_out_wording(cohort):
    drawn = Counter()
    for spec, measured, questions in cohort:
        for q in asked(spec, measured, held_out=False):
            if q["kind"] in KINDS:
                assert q["template"] < len(KINDS[q["kind"]].templates) - 1
        drawn.update(q["template"] == len(KINDS[q["kind"]].templates) - 1 for q in questions if q["closed_eval"])
    assert 0.15 < drawn[True] / sum(drawn.values()) < 0.35


def test_held_out_wordings_bring_no_new_word():
    def words(text):
        return set(re.findall(r"[\w%-]+", text))

    seen = set().union(*(words(t) for k in KINDS.values() for t in (*k.templates[:-1], *k.choices)))
    for kind in KINDS.values():
        assert 3 <= len(kind.templates) <= 6
        assert words(kind.templates[-1]) <= seen


def test_the_vocabulary_is_small(cohort):
    texts = all_texts()
    for spec, measured, questions in cohort:
        report, _, caption = write_report(spec, measured)
        texts += [report, caption, *patch_phrases(spec, measured.patches)]
        texts += [t for q in questions for t in (q["question"], q["answer"])]
    words = {w.lower() for t in texts for w in re.findall(r"[A-Za-z][\w-]*", t)}
    assert 150 < len(words) < 600


def test_false_premises_share_their_wording_with_true_ones():
    benign = replace(CANCER, diagnosis="normal colonic mucosa")
    toy = Toy()
    for k in range(10):
        toy.gland(150 + 150 * k, 400, neoplastic=False)
    refused = [q for q in asked(benign, measure(toy.drawing(), benign)) if not q["answerable"] and q["choices"]]
    assert refused
    for q in refused:
        wordings = [t.split("{")[0] for t in KINDS[q["kind"]].templates]
        assert any(q["question"].startswith(w) for w in wordings)
        assert q["answer"] != REFUSAL


def test_a_region_that_does_not_exist_has_an_answerable_partner():
    toy = tumour(12, 30)
    toy.disc(1500, 500, 90, Compartment.NECROSIS)  # so that necrosis is no false premise
    measured = measure(toy.drawing(), CANCER)
    numbers = set()
    for seed in range(12):
        questions = asked(replace(CANCER, seed=seed), measured)
        by_id = {q["id"]: q for q in questions}
        (missing,) = (q for q in questions if q["kind"] == "content" and not q["answerable"])
        number = int(re.search(r"\bR(\d+)\b", missing["question"])[1])
        assert number > 2
        numbers.add(number)
        partner = by_id[missing["pair"]]
        assert partner["answerable"]
        assert partner["template"] == missing["template"]
        assert partner["pair"] == missing["id"]
    assert len(numbers) > 2


def test_a_covered_region_cannot_be_assessed():
    toy = tumour(12, 30)
    toy.artefacts["pen"] = np.zeros((128, 256), bool)
    toy.artefacts["pen"][:, :110] = True
    questions = asked(CANCER, measure(toy.drawing(), CANCER))
    about = [q for q in questions if q["kind"] == "content" and "{R:0,0}" in q["question"]]
    assert [q["answerable"] for q in about] == [False]


def test_contents_are_legal_in_the_organ():
    for organ in DIAGNOSES:
        assert "tumour" in contents_of(organ)
        assert set(contents_of(organ)) <= set(CONTENTS)


def test_balance_makes_answers_uniform(cohort):
    organ_of = {f"s{spec.seed}": spec.organ for spec, _, _ in cohort}
    everything = [q for _, _, qs in cohort for q in qs]
    picked = balance(everything, organ_of)
    groups = {}
    for q in picked:
        groups.setdefault((organ_of[slide_of(q)], q["kind"]), Counter())[q["answer"]] += 1
    assert groups
    for counts in groups.values():
        assert len(counts) > 1
        assert len(set(counts.values())) == 1
    closed = [q for q in everything if q["closed_eval"]]
    assert majority_accuracy(picked, organ_of) < majority_accuracy(closed, organ_of)
    assert picked == balance(everything, organ_of)
