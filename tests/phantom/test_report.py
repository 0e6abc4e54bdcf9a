import re
from dataclasses import replace

import numpy as np
import pytest
from phantom_toys import Toy, tumour

from hwsi.phantom.draw import draw
from hwsi.phantom.drawing import Compartment
from hwsi.phantom.report import MAX_WORDS, MIN_WORDS, patch_phrases, region_clauses, region_sentences, write_report
from hwsi.phantom.spec import DIAGNOSES, Spec
from hwsi.phantom.truth import cited, measure

CANCER = Spec(seed=3, diagnosis="colonic adenocarcinoma", width_um=2048, height_um=1024)


@pytest.mark.parametrize("diagnosis", [d for ds in DIAGNOSES.values() for d in ds])
def test_reports_of_all_diagnoses(diagnosis):
    spec = Spec(seed=11, diagnosis=diagnosis, width_um=1536, height_um=1536, fragments=2)
    measured = measure(draw(spec), spec)
    report, units, caption = write_report(spec, measured)
    assert MIN_WORDS <= len(report.split()) <= MAX_WORDS
    assert diagnosis in report
    assert diagnosis in caption.lower()
    assert caption.count(".") == 1
    told = set(cited(report))
    assert told
    assert told <= {r.grid for r in measured.regions}
    for unit in units:
        assert unit.text.lower().removeprefix("with ") in report.lower()
        assert set(unit.regions) <= told
    for phrase, tissue in zip(patch_phrases(spec, measured.patches), measured.patches["tissue"], strict=True):
        assert bool(phrase) == (tissue >= 0.1)
        assert not phrase or 3 <= len(phrase.split()) <= 10


def test_region_sentences_start_with_their_citation():
    report, _, _ = write_report(CANCER, measure(tumour(12, 30).drawing(), CANCER))
    first = report.index("{R:")
    for sentence in re.findall(r"[^.]+\.", report[first:]):
        assert sentence.strip().startswith("{R:")
    assert "{R:" not in report[:first]


def test_facts_follow_what_was_measured():
    spec = replace(CANCER, tubules=1, necrosis=False)
    toy = tumour(0, 30, size=8.0)
    toy.disc(1500, 500, 90, Compartment.NECROSIS)
    _, units, _ = write_report(spec, measure(toy.drawing(), spec))
    said = {u.attribute: u.text for u in units}
    assert "less than 10 %" in said["tubule_score"]
    assert "marked" in said["pleomorphism_score"]
    assert "present" in said["necrosis"]


def test_what_is_not_clear_is_not_said():
    toy = tumour(12, 30)
    toy.disc(1500, 500, 20, Compartment.NECROSIS)
    _, units, _ = write_report(CANCER, measure(toy.drawing(), CANCER))
    assert "necrosis" not in {u.attribute for u in units}


def test_paraphrases_depend_on_the_seed_only():
    texts = []
    for toy in (tumour(30, 0), tumour(0, 30)):
        _, units, _ = write_report(CANCER, measure(toy.drawing(), CANCER))
        text = next(u.text for u in units if u.attribute == "tubule_score")
        texts.append(re.sub("(?i)more than 75 %|less than 10 %", "X", text))
    assert texts[0] == texts[1]
    other = {write_report(replace(CANCER, seed=s), measure(toy.drawing(), CANCER))[2] for s in range(12)}
    assert len(other) == 3


def test_a_region_is_told_by_its_own_attributes():
    toy = tumour(0, 30)
    toy.disc(1500, 500, 90, Compartment.NECROSIS)
    measured = measure(toy.drawing(), CANCER)
    left, right = measured.regions
    names = [dict(region_clauses(r.attrs, "colon")) for r in (left, right)]
    assert "necrosis" not in names[0]
    assert names[1]["necrosis"] == "with necrosis"
    assert names[0]["pattern"] == "of solid growth"
    assert region_sentences(CANCER, measured)[(0, 1)].startswith("Mostly stroma")


def test_glass_has_no_sentence_and_no_phrase():
    toy = Toy(pieces=[(0, 0, 1000, 1024)])
    measured = measure(toy.drawing(), CANCER)
    assert set(region_sentences(CANCER, measured)) == {(0, 0)}
    phrases = np.array(patch_phrases(CANCER, measured.patches))
    assert (phrases[measured.patches["grid"][:, 1] >= 8] == "").all()
