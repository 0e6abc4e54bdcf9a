"""A session on an untrained nano: what it promises does not depend on the weights."""

import json

import numpy as np
import pytest
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.inference import Session, study
from hwsi.inference.evidence import weigh
from hwsi.inference.key_regions import MAX_REGIONS, key_regions, restrict
from hwsi.inference.studied import SYNTHETIC

CLOSED = ("What is the histologic grade?", ("grade 1", "grade 2", "grade 3"))


@pytest.fixture(scope="module")
def closed(session):
    return session.ask(*CLOSED)


@pytest.fixture(scope="module")
def opened(session):
    return session.ask("What is seen in R1?", max_new_tokens=12)


def test_a_closed_answer_is_the_likeliest_option(closed):
    assert closed.text == closed.choices[int(np.argmax(closed.choice_probs))]
    assert sum(closed.choice_probs) == pytest.approx(1)
    assert closed.confidence == max(closed.choice_probs)


def test_the_option_score_is_the_models_own(nano, features, closed):
    """The same sum from a full pass over slide, question and answer, without any cache."""
    model, processor = nano
    sums = []
    for option in closed.choices:
        question = "What is the histologic grade?\nOptions: " + "; ".join(closed.choices)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": option}]
        batch = processor.pad([processor.encode(features, [turns])])
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            log_p = model(**batch).logits.float()[:, :-1].log_softmax(-1)
        token = log_p.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        sums.append(float(token[labels >= 0].sum()))
    assert closed.choice_probs == pytest.approx(torch.tensor(sums).softmax(0).tolist(), abs=1e-4)


def test_evidence_lies_inside_the_slide(session, closed, opened):
    tree = session.features.hierarchy
    found = [*closed.evidence, *opened.evidence]
    assert found
    for e in found:
        x0, y0, x1, y1 = e.box
        assert 0 <= x0 < x1 <= tree.width0
        assert 0 <= y0 < y1 <= tree.height0
        assert e.score > 0
        for contour in e.contours:
            points = np.array(contour)
            assert (points >= 0).all()
            assert (points <= (tree.width0, tree.height0)).all()


def test_evidence_is_ranked_and_says_what_it_supports(closed):
    scores = [e.score for e in closed.evidence]
    assert scores == sorted(scores, reverse=True)
    assert {e.supports for e in closed.evidence} == {closed.text}
    assert len({(e.scale, e.label) for e in closed.evidence}) == len(closed.evidence)


def test_evidence_is_what_deletion_says(nano, features, session, closed):
    """Hiding a region over the cache is deleting it: a slide made without it gives the same option odds."""
    model, processor = nano
    prefix = session._prefix
    node = next(i for i, n in enumerate(prefix.layout.nodes) if n.label == "R2" and n.scale == "region")
    hidden = prefix.without(node)
    batch = processor.pad([processor.encode(features, [[{"role": "user", "content": "Is necrosis present?"}]],
                                            generation_prompt=True)])  # fmt: skip
    batch.pop("labels")
    batch["attention_mask"][0, : len(prefix)] = hidden.long()
    from hwsi.model.scoring import score

    ids = processor.question("Is necrosis present?")
    with torch.no_grad():
        full = model(**batch).logits.float().log_softmax(-1)[0]
    cached = score(model, prefix, torch.tensor([ids]), None, hidden)[0]
    at = len(prefix)
    want = [float(full[at + i - 1, ids[i]]) for i in range(1, len(ids))]
    assert cached[1:].tolist() == pytest.approx(want, abs=1e-4)


def test_evidence_does_not_leak_through_the_slides_own_token(nano, features, session):
    """The slide's vector is made of all tissue; what a region is worth must not depend on it, though answers do."""
    from dataclasses import replace

    other = Session(*nano, replace(features, slide={"slide-nano": -3 * features.slide["slide-nano"]}))
    said = session._say("What is seen in R1?", 6, None)
    members = np.ones((1, len(said.ids)), bool)
    everything = session._everything[None]
    assert not np.allclose(session._score_answer(said, everything), other._score_answer(said, everything), atol=1e-3)
    a, b = (weigh(s._parents, s._said_claims(said, members, [0.0] * len(members)).value) for s in (session, other))
    assert a.nodes.tolist() == b.nodes.tolist()
    assert np.allclose(a.worth, b.worth, atol=1e-5)
    assert np.ptp(a.worth) > 1e-3


def test_a_region_is_worth_what_slides_without_it_say(nano, features, session):
    """The whole way by full passes without a cache: tokens of the slide and of the region deleted by the mask."""
    model, processor = nano
    prefix, said = session._slide_prefix, session._say("What is seen in R1?", 6, None)
    node, parent = prefix.row["token_node"], prefix.row["node_parent"]
    region = next(i for i, n in enumerate(prefix.layout.nodes) if n.label == "R2" and n.scale == "region")
    from hwsi.model.attention import leave_out

    stays = leave_out(node, parent, torch.tensor([region]))

    def value(keep):
        batch = processor.pad([prefix.row])
        suffix = torch.tensor([said.question + said.ids])
        size, length = len(prefix), suffix.shape[1]
        batch["input_ids"] = torch.cat([batch["input_ids"], suffix], 1)
        batch["token_node"] = torch.cat([batch["token_node"], torch.zeros_like(suffix)], 1)
        batch["segment_ids"] = torch.cat([batch["segment_ids"], torch.ones_like(suffix)], 1)
        mask = torch.cat([keep & (node != 1), torch.ones(length, dtype=torch.bool)])
        batch["attention_mask"], batch["position_ids"] = mask.long()[None], torch.arange(size + length)[None]
        with torch.no_grad():
            log_p = model(**batch).logits.float().log_softmax(-1)[0]
        at = size + len(said.question)
        return float(np.mean([log_p[at + i - 1, t] for i, t in enumerate(said.ids)]))

    everything, nothing = torch.ones_like(stays), node == 0
    last, first = value(everything) - value(stays), value(~stays | nothing) - value(nothing)
    worth = weigh(session._parents, session._said_claims(said, np.ones((1, len(said.ids)), bool), [0.0]).value)
    assert worth.worth[worth.nodes.tolist().index(region), 0] == pytest.approx((last + first) / 2, abs=1e-4)


def test_the_same_question_gives_the_same_bytes(nano, features, session, closed):
    again = Session(*nano, features, weights_sha256="0" * 64).ask(*CLOSED)
    assert json.dumps(again.to_dict()) == json.dumps(closed.to_dict())
    session.ask("Something else?", max_new_tokens=4, evidence=False)
    assert json.dumps(session.ask(*CLOSED).to_dict()) == json.dumps(closed.to_dict())


def test_json_has_no_nan(closed, opened):
    for answer in (closed, opened):
        json.loads(json.dumps(answer.to_dict(), allow_nan=False))


def test_streamed_pieces_join_to_the_text(session, opened):
    pieces: list[str] = []
    answer = session.ask("What is seen in R1?", max_new_tokens=12, evidence=False, stream=pieces.append)
    assert "".join(pieces) == answer.text == opened.text
    assert len(pieces) > 1
    assert answer.evidence == ()


def test_greedy_words_are_what_generate_says(nano, session):
    from hwsi.inference.streaming import Pieces, speak
    from hwsi.model.scoring import generate

    model, processor = nano
    ids = processor.question("What is seen in R1?")
    pieces = Pieces(processor, None)
    speak(model, session._prefix, ids, pieces, max_new_tokens=12)
    assert pieces.ids == generate(model, session._prefix, [ids], max_new_tokens=12, do_sample=False)[0].tolist()


def test_streamed_pieces_keep_characters_whole(nano):
    from hwsi.inference.streaming import Pieces, token_ends

    _, processor = nano
    text = "Zellen µ 核 ✓ end"
    ids = processor.answer(text)
    pieces: list[str] = []
    said = Pieces(processor, pieces.append)
    for i in ids:
        said.put(i)
    said.end()
    assert "".join(pieces) == said.text == text
    assert all("\N{REPLACEMENT CHARACTER}" not in p for p in pieces)
    assert token_ends(processor, ids)[-1] == len(text)


def test_a_second_question_reads_no_slide(nano, features, session, monkeypatch):
    model, _ = nano
    tokens: list[int] = []
    inner = model.model.language_model.forward

    def counted(*args, **kwargs):
        tokens.append(kwargs["inputs_embeds"].shape[1])
        return inner(*args, **kwargs)

    monkeypatch.setattr(model.model.language_model, "forward", counted)
    monkeypatch.setattr(model.model.visual, "forward", lambda *args: pytest.fail("the slide was read again"))
    session.ask("What is seen in R1?", max_new_tokens=3)
    assert tokens
    assert max(tokens) < len(session._prefix)


def test_warnings_of_model_and_slide_are_always_there(closed, opened, session):
    for answer in (closed, opened, session.caption(evidence=False)):
        assert SYNTHETIC in answer.warnings
        assert "a warning of the slide" in answer.warnings


def test_poor_regions_are_told(features):
    from dataclasses import replace

    from hwsi.inference.tissue import quality_warnings

    tree = features.hierarchy
    assert quality_warnings(tree) == ()
    focus, pen = tree.regions.focus.copy(), tree.regions.pen.copy()
    focus[1], pen[[0, 2]] = 0.1, 0.3
    poor = replace(tree, regions=replace(tree.regions, focus=focus, pen=pen))
    assert quality_warnings(poor) == ("R2 is out of focus.", "R1, R3 are partly covered by pen.")


def test_provenance_is_filled(closed, features):
    p = closed.provenance
    assert (p.slide, p.slide_id, p.preset) == (features.slide_name, features.slide_id, "nano")
    assert len(p.weights_sha256) == 64
    assert p.hwsi_version


def test_visual_reliance_of_a_model_that_cannot_see_is_zero(nano, features):
    """With all visual tokens hidden from the start there is nothing to rely on."""
    model, processor = nano
    blind = Session(model, processor, features)
    keep = blind._prefix.without_slide()
    said = blind._say("What is seen?", 4, None)
    a = blind._score_answer(said, keep[None])
    b = blind._score_answer(said, torch.stack([keep, keep]))
    assert np.abs(a - b).max() < 1e-4


def test_another_slide_changes_what_is_said_or_how_surely(nano, features_of, closed):
    other = Session(*nano, features_of(1)).ask(*CLOSED, evidence=False)
    assert other.choice_probs != closed.choice_probs


def test_the_report_cites_and_its_sentences_are_its_text(session):
    report = session.report()
    assert report.note
    assert SYNTHETIC in report.warnings
    for s in report.statements:
        assert s.text in report.text
        assert set(s.cites) <= session._tissue.labels
        assert not set(s.missing) & session._tissue.labels
        assert s.rests_on is not None
        assert set(s.rests_on) <= set(s.cites)
    json.dumps(report.to_dict(), allow_nan=False)


def test_citations_are_checked_against_what_is_measured(session):
    """A sentence that cites all regions rests on those whose worth to it is above the floor, and on no other."""
    nodes = session._prefix.layout.nodes
    cited = tuple(n.label for n in nodes if n.scale == "region")
    said = session._say("What is seen in R1?", 6, None)
    worth = weigh(session._parents, session._said_claims(said, np.ones((1, len(said.ids)), bool), [0.0]).value)
    of = dict(zip(worth.nodes.tolist(), worth.worth[:, 0].tolist(), strict=True))
    want = {n.label for i, n in enumerate(nodes) if n.scale == "region" and of[i] > 1e-3}
    assert set(session._rests_on(worth, 0, cited)) == want
    assert session._rests_on(None, 0, cited) is None


@pytest.mark.parametrize(
    ("question", "choices", "reason"),
    [
        ("", None, Reason.QUESTION_EMPTY),
        (" \n\t", None, Reason.QUESTION_EMPTY),
        ("x" * 2001, None, Reason.QUESTION_TOO_LONG),
        ("a" * 100_000, None, Reason.QUESTION_TOO_LONG),
        ("What is <|patch|>?", None, Reason.QUESTION_INVALID),
        ("What?\x1b[31m", None, Reason.QUESTION_INVALID),
        ("Which?", [], Reason.QUESTION_INVALID),
        ("Which?", ["yes"], Reason.QUESTION_INVALID),
        ("Which?", ["yes", "Yes "], Reason.QUESTION_INVALID),
        ("Which?", ["yes", " "], Reason.QUESTION_INVALID),
        ("Which?", ["yes", "<|end|>"], Reason.QUESTION_INVALID),
    ],
)
def test_bad_questions_are_refused(session, question, choices, reason):
    with pytest.raises(HwsiError) as error:
        session.ask(question, choices)
    assert error.value.reason is reason
    assert error.value.todo


def test_the_longest_question_still_has_room(session):
    assert session.ask("a " * 999 + "?", max_new_tokens=2, evidence=False).text is not None


def test_pictures_need_a_slide(session):
    with pytest.raises(HwsiError) as error:
        session.need_slide()
    assert error.value.reason is Reason.SLIDE_MISSING


def test_a_large_slide_is_cut_to_its_key_regions(features):
    small = key_regions(features, "region-nano", 2)
    tree = small.hierarchy
    assert len(tree.regions) == 2
    assert (np.diff(tree.patches.region) >= 0).all()
    assert set(tree.patches.region) == {0, 1}
    assert key_regions(features, "region-nano", MAX_REGIONS) is features


def test_restricted_cells_keep_their_patch_and_outline(features):
    chosen = np.array([1, 4])
    small, old = restrict(features, chosen), features.hierarchy
    kept = np.flatnonzero(np.isin(old.patches.region[old.cells.patch], chosen))
    new = small.hierarchy
    assert len(new.cells) == len(kept)
    for m in (0, len(kept) // 2, len(kept) - 1):
        assert (new.cells.contour(m) == old.cells.contour(int(kept[m]))).all()
        assert (new.patches.xy[new.cells.patch[m]] == old.patches.xy[old.cells.patch[kept[m]]]).all()
    assert small.patch["patch-nano"].shape[0] == len(new.patches)


def test_study_of_features_needs_no_slide(monkeypatch, nano, features):
    monkeypatch.setattr("hwsi.inference.session.load_model", lambda preset, device: (*nano, "1" * 64))
    session = study(features)
    assert session.slide is None
    assert session.region_at(0, 0) == "R1"
    assert session.region_at(9, 9) is None
