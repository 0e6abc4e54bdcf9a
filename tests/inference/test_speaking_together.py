"""Questions about one slide in one batch: each is answered as alone."""

import re

import pytest

from hwsi.errors import HwsiError, Reason
from hwsi.inference import speaking, studied, study
from hwsi.inference.tasks import REPORT_PROMPT

QUESTIONS = [
    "What is seen in R1?", "Is there necrosis?", "What is the histologic grade of the tumour on this slide?", "Why?",
]  # fmt: skip


@pytest.fixture(scope="module")
def session(features):
    """The embedded model: an untrained one says the same to everything."""
    return study(features)


def test_each_says_what_it_says_alone_and_streams_it(session):
    pieces = [[] for _ in QUESTIONS]
    together = session.say(QUESTIONS, max_new_tokens=12, streams=[p.append for p in pieces])
    alone = [session.say([q], max_new_tokens=12)[0] for q in QUESTIONS]
    assert together == alone
    assert len({said.text for said in alone}) > 1
    assert ["".join(p) for p in pieces] == [said.text for said in alone]


def test_those_that_have_ended_leave_the_others_alone(session):
    model = session._model
    # a token that ends the longest of them early
    early = max((said.ids for said in session.say(QUESTIONS, max_new_tokens=12)), key=len)[2]
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [early, *(ends if isinstance(ends, list) else [ends])]
    try:
        together = session.say(QUESTIONS, max_new_tokens=12)
        assert together == [session.say([q], max_new_tokens=12)[0] for q in QUESTIONS]
        assert len({len(said.ids) for said in together}) > 1
    finally:
        model.generation_config.eos_token_id = ends


def test_words_that_were_said_are_weighed_as_if_said_now(session):
    said = session.say(QUESTIONS, max_new_tokens=12)[1]
    assert session.ask(QUESTIONS[1], said=said) == session.ask(QUESTIONS[1], max_new_tokens=12)
    assert session.report(said=session.say_report(), evidence=False) == session.report(evidence=False)


def test_a_report_tells_of_each_region_once_and_in_order(session, monkeypatch):
    monkeypatch.setattr(studied, "REPORT_TOKENS", 400)
    told = re.findall(r"(?<=\. )(R\d+):", session.say_report().text)
    assert told == [f"R{n + 1}" for n in range(len(session.features.hierarchy.regions))]
    # whoever asks for it
    assert session.say([REPORT_PROMPT], max_new_tokens=400)[0] == session.say_report()


def test_a_report_of_many_regions_tells_of_those_with_the_most_tissue(session, monkeypatch):
    monkeypatch.setattr(studied, "REPORT_TOKENS", 400)
    monkeypatch.setattr(speaking, "REPORT_REGIONS", 2)
    tissue = session.features.hierarchy.regions.tissue
    most = sorted(sorted(range(len(tissue)), key=lambda n: (-tissue[n], n))[:2])
    assert re.findall(r"(?<=\. )(R\d+):", session.say_report().text) == [f"R{n + 1}" for n in most]


def test_one_that_is_too_long_is_told_before_anything_is_said(session):
    pieces = []
    with pytest.raises(HwsiError) as refused:
        session.say(["Why?", "what " * 5000], streams=[pieces.append] * 2)
    assert refused.value.reason is Reason.QUESTION_TOO_LONG
    assert pieces == []


def test_a_heat_map_has_every_region_and_patch_and_agrees_with_the_evidence(session):
    question = "What is the histologic grade?", ("grade 1", "grade 2")
    answer, heat = session.ask(*question), session.heat(*question)
    tree = session.features.hierarchy
    regions = [e for e in heat if e.scale == "region"]
    assert len(regions) == len(tree.regions)
    assert len(heat) - len(regions) == len(session.kept_patches)
    worth = {e.label: e.score for e in regions}
    for e in answer.evidence:
        if e.scale == "region":
            assert worth[e.label] == pytest.approx(e.score, abs=1e-4)
    assert {e.label for e in session.heat("What is seen?", max_new_tokens=4)} == {e.label for e in heat}
