"""A session before the released model's kind: the same face, and evidence by leaving tissue out at the encoder."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.features.released import ENCODERS, Quadruplet, kept_rows, quadruplet
from hwsi.inference import study
from hwsi.inference.evidence import weigh
from hwsi.inference.resample_session import NEVER_TRAINED, ResampleSession
from hwsi.inference.studied import RESEARCH

QUESTION, OPTIONS = "What is the histologic grade?", ("grade 1", "grade 2", "grade 3")
WORDS = 6


@pytest.fixture(scope="module")
def features(released_features):
    return released_features()


@pytest.fixture(scope="module")
def session(tiny_release, features):
    return ResampleSession(*tiny_release, features, weights_sha256="0" * 64)


@pytest.fixture(scope="module")
def opened(session):
    return session.ask(QUESTION, max_new_tokens=WORDS)


@pytest.fixture(scope="module")
def closed(session):
    return session.ask(QUESTION, OPTIONS)


def by_hand(tiny_release, parts, ids, answer, *, slide=True):
    """Log-probabilities of an answer's tokens by one full pass of the model, without a cache."""
    model, processor = tiny_release
    inputs = {"input_ids": torch.tensor([ids + answer])}
    if slide:
        row = processor.visual(parts)
        inputs |= {name: value[None] for name, value in row.items()}
    with torch.no_grad():
        log_p = model(**inputs).logits.float()[0, -len(ids + answer) :].log_softmax(-1)
    return [float(log_p[len(ids) + i - 1, token]) for i, token in enumerate(answer)]


def test_the_words_are_what_generate_says(tiny_release, session, features, opened):
    model, processor = tiny_release
    made = model.generate(**processor(QUESTION, features), do_sample=False, max_new_tokens=WORDS)
    assert session._say(QUESTION, WORDS, None).ids == made[0].tolist()
    assert opened.text == processor.decode(made[0])


def test_pieces_join_to_the_text(session, opened):
    pieces: list[str] = []
    again = session.ask(QUESTION, max_new_tokens=WORDS, evidence=False, stream=pieces.append)
    assert "".join(pieces) == again.text == opened.text
    assert again.evidence == ()


def test_a_closed_answer_is_the_likeliest_option_by_full_passes(tiny_release, features, session, closed):
    _, processor = tiny_release
    ids = processor.question(QUESTION, OPTIONS)
    answers = [processor.answer(option) for option in OPTIONS]
    sums = [sum(by_hand(tiny_release, features, ids, a)) for a in answers]
    blind = [sum(by_hand(tiny_release, features, ids, a, slide=False)) for a in answers]
    assert closed.text == OPTIONS[int(np.argmax(sums))]
    assert closed.choice_probs == pytest.approx(torch.tensor(sums).softmax(0).tolist(), abs=1e-4)
    seen, unseen = session.choice_log_probs(QUESTION, OPTIONS)
    assert seen == pytest.approx(sums, abs=1e-3)
    assert unseen == pytest.approx(blind, abs=1e-3)
    chosen = int(np.argmax(sums))
    expected = (sums[chosen] - blind[chosen]) / len(answers[chosen])
    assert closed.visual_reliance == pytest.approx(expected, abs=1e-3)


def test_reliance_is_what_the_visual_tokens_are_worth(tiny_release, features, session, opened):
    said = session._say(QUESTION, WORDS, None)
    seen = by_hand(tiny_release, features, said.question, said.ids)
    blind = by_hand(tiny_release, features, said.question, said.ids, slide=False)
    assert opened.visual_reliance == pytest.approx(np.mean(seen) - np.mean(blind), abs=1e-3)
    assert abs(opened.visual_reliance) > 1e-2
    assert opened.confidence == pytest.approx(np.exp(np.mean(seen)), abs=1e-3)


def test_a_region_is_worth_what_slides_without_it_say(tiny_release, features, session):
    """The whole way by hand: quadruplets from which the region is gone, the slide's vector made of what is left."""
    parts = quadruplet(features)
    said = session._say(QUESTION, WORDS, None)

    def value(regions):
        if not regions:
            return np.mean(by_hand(tiny_release, None, said.question, said.ids, slide=False))
        left = Quadruplet(
            parts.region[regions].mean(0), parts.region[regions], parts.patch[regions], parts.cell[regions]
        )
        return np.mean(by_hand(tiny_release, left, said.question, said.ids))

    everything = [0, 1, 2, 3]
    worth = weigh(session._parents, session._said_claims(said, np.ones((1, len(said.ids)), bool), [0.0]).value)
    of = dict(zip(worth.nodes.tolist(), worth.worth[:, 0].tolist(), strict=True))
    for r in everything:
        node = next(i for i, n in enumerate(session._nodes) if (n.scale, n.index) == ("region", r))
        others = [x for x in everything if x != r]
        want = (value(everything) - value(others) + value([r]) - value([])) / 2
        assert of[node] == pytest.approx(want, abs=1e-3)
    assert np.ptp(worth.worth) > 1e-2


def test_a_patch_is_left_out_with_its_cells(tiny_release, features, session):
    """Leaving a kept patch out is the same as a file in which it was never kept."""
    node = next(i for i, n in enumerate(session._nodes) if n.label == "R1.P8")
    keep = np.ones((1, len(session._nodes)), bool)
    keep[0, node] = False
    said = session._say(QUESTION, WORDS, None)
    got = session._answer_scores(said)(keep)[0]
    indices = [list(row) for row in features.provenance["released"]["selected_indices"]]
    indices[0][indices[0].index(7)] = -1
    without = dataclasses.replace(features, provenance={"released": {"selected_indices": indices}})
    assert got == pytest.approx(by_hand(tiny_release, without, said.question, said.ids), abs=1e-3)
    assert got != pytest.approx(by_hand(tiny_release, features, said.question, said.ids), abs=1e-3)


def test_nodes_are_what_the_model_reads(features, session):
    rows = kept_rows(features, features.patch[ENCODERS["patch"]])
    without_cells = 16 + 5
    assert set(session.kept_patches) == set(rows[rows >= 0].tolist()) - {without_cells}
    assert not features.hierarchy.patches.background[list(session.kept_patches)].any()
    assert {n.scale for n in session._nodes} == {"text", "slide", "region", "patch"}


def test_evidence_is_told_from_the_encoder_and_lies_inside_the_slide(features, opened, closed):
    found = [*opened.evidence, *closed.evidence]
    assert found
    tree = features.hierarchy
    for e in found:
        assert e.left_out_at == "encoder_input"
        assert e.scale in ("region", "patch")
        assert e.contours == ()
        assert e.score > 0
        x0, y0, x1, y1 = e.box
        assert 0 <= x0 < x1 <= tree.width0
        assert 0 <= y0 < y1 <= tree.height0
    assert [e.score for e in closed.evidence] == sorted((e.score for e in closed.evidence), reverse=True)
    assert any(e.scale == "patch" for e in found)


def test_what_every_answer_says(session, opened, closed):
    for answer in (opened, closed, session.caption(evidence=False)):
        assert RESEARCH in answer.warnings
        assert "a warning of the slide" in answer.warnings
        assert NEVER_TRAINED not in answer.warnings
        json.dumps(answer.to_dict(), allow_nan=False)


def test_a_projector_that_was_never_trained_is_told(tiny_release, features):
    import copy

    model = copy.deepcopy(tiny_release[0])
    with torch.no_grad():
        for module in model.model.visual.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.fill_(1)
                module.bias.fill_(0)
    session = ResampleSession(model, tiny_release[1], features)
    assert NEVER_TRAINED in session.ask(QUESTION, OPTIONS, evidence=False).warnings
    assert NEVER_TRAINED in session.report(evidence=False).warnings


def test_the_report_has_evidence_of_its_sentences(session):
    report = session.report()
    assert report.note
    assert RESEARCH in report.warnings
    for statement in report.statements:
        assert statement.text in report.text
        assert all(e.left_out_at == "encoder_input" for e in statement.evidence)
    json.dumps(report.to_dict(), allow_nan=False)


def test_the_same_question_gives_the_same_bytes(tiny_release, features, session, closed):
    again = ResampleSession(*tiny_release, features, weights_sha256="0" * 64).ask(QUESTION, OPTIONS)
    assert json.dumps(again.to_dict()) == json.dumps(closed.to_dict())
    session.ask("Something else?", max_new_tokens=3, evidence=False)
    assert json.dumps(session.ask(QUESTION, OPTIONS).to_dict()) == json.dumps(closed.to_dict())


def test_a_second_question_reads_no_slide(tiny_release, session, monkeypatch):
    visual = tiny_release[0].model.visual
    monkeypatch.setattr(visual, "forward", lambda *a: pytest.fail("the slide was read again"))
    assert session.ask("Why?", max_new_tokens=2, evidence=False).text is not None


def test_without_masks_as_the_release_at_inference(tiny_release, features, session, closed):
    _, processor = tiny_release
    rows = kept_rows(features, features.patch[ENCODERS["patch"]])
    processor.masking = "none"
    try:
        other = ResampleSession(*tiny_release, features)
        answer = other.ask(QUESTION, OPTIONS)
    finally:
        processor.masking = "masked"
    assert answer.choice_probs != closed.choice_probs
    assert set(other.kept_patches) == set(rows[rows >= 0].tolist())


def test_a_language_model_in_half_precision(tiny_release, features, closed):
    import copy

    model = copy.deepcopy(tiny_release[0])
    model.model.language_model.bfloat16()
    model.lm_head.bfloat16()
    answer = ResampleSession(model, tiny_release[1], features).ask(QUESTION, OPTIONS)
    assert answer.choice_probs == pytest.approx(closed.choice_probs, abs=0.1)
    assert answer.evidence


def test_study_chooses_the_session_by_the_model(monkeypatch, tiny_release, features):
    monkeypatch.setattr("hwsi.inference.session.load_model", lambda preset, device: (*tiny_release, "1" * 64))
    with study(features, preset="released") as session:
        assert isinstance(session, ResampleSession)
        assert session.provenance.weights_sha256 == "1" * 64
        assert session.region_at(0, 1) == "R2"
        assert session.region_at(7, 7) is None
        with pytest.raises(HwsiError) as error:
            session.need_slide()
    assert error.value.reason is Reason.SLIDE_MISSING


@pytest.mark.parametrize(
    ("question", "choices", "reason"),
    [
        (" ", None, Reason.QUESTION_EMPTY),
        ("What is </s>?", None, Reason.QUESTION_INVALID),
        ("Which?", ["yes"], Reason.QUESTION_INVALID),
        ("a " * 999, None, Reason.QUESTION_TOO_LONG),
        ("Which?", ["yes", "no " * 500], Reason.QUESTION_TOO_LONG),
    ],
)
def test_bad_questions_are_refused(session, question, choices, reason):
    with pytest.raises(HwsiError) as error:
        session.ask(question, choices)
    assert error.value.reason is reason


def test_features_of_another_kind_are_refused(tiny_release, features):
    bare = dataclasses.replace(features, region={})
    with pytest.raises(HwsiError) as error:
        ResampleSession(*tiny_release, bare)
    assert error.value.reason is Reason.FEATURES_MISMATCH
