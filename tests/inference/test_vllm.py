"""Words by a server that holds the language model alone: those that are said here; what is told where it is wrong."""

import base64
import io
from concurrent.futures import CancelledError

import pytest
import torch
from vllm_stand_in import serving

from hwsi.errors import HwsiError, Reason
from hwsi.inference import Session
from hwsi.inference.guard import LabelGuard
from hwsi.inference.resample_session import ResampleSession
from hwsi.inference.vllm import Vllm, connect, end_tokens
from hwsi.inference.vllm_client import VllmClient, encode
from hwsi.model import load
from hwsi.model.conversion import write_language_model

QUESTIONS = ["What is the histologic grade?", "Is necrosis present?", "Why?"]
WORDS = 6


@pytest.fixture(scope="module")
def full():
    """(model, processor) of the embedded weights, read with ``visual_mixing: full``: their words differ."""
    model, processor = load("nano")
    model.config.visual_mixing = "full"
    return model, processor


@pytest.fixture(scope="module", params=["resample", "full"])
def loaded(request, full, tiny_release):
    model, processor = full if request.param == "full" else tiny_release
    with pytest.MonkeyPatch.context() as patch:
        # what vLLM would take from the folder if a request said nothing
        patch.setattr(model.generation_config, "repetition_penalty", 3.0)
        patch.setattr(model.generation_config, "do_sample", True)
        patch.setattr(model.generation_config, "temperature", 0.7)
        yield model, processor


@pytest.fixture(scope="module")
def folder(loaded, tmp_path_factory):
    """The plain language model that ``vllm serve`` would be given."""
    at = tmp_path_factory.mktemp("vllm")
    model, processor = loaded
    model.save_pretrained(at / "model")
    processor.save_pretrained(at / "model")
    write_language_model(at / "model", at / "plain")
    return at / "plain"


@pytest.fixture(scope="module")
def held(folder):
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def session(loaded, features, released_features):
    if type(loaded[0]).__name__.startswith("HwsiResample"):
        return ResampleSession(*loaded, released_features())
    return Session(*loaded, features)


@pytest.fixture
def spoken(session, loaded, held, monkeypatch):
    """The session whose words the stand-in says."""
    monkeypatch.setattr(session, "speaker", connect(VllmClient(held.url), *loaded))
    held.requests.clear()
    return session


def test_words_are_those_that_are_said_here(session, spoken, held, monkeypatch):
    pieces = [[] for _ in QUESTIONS]
    theirs = spoken.say(QUESTIONS, max_new_tokens=WORDS, streams=[p.append for p in pieces])
    assert ["".join(p) for p in pieces] == [said.text for said in theirs]
    assert len(held.requests) == len(QUESTIONS)
    monkeypatch.setattr(session, "speaker", None)
    assert theirs == session.say(QUESTIONS, max_new_tokens=WORDS)
    assert len({tuple(said.ids) for said in theirs}) > 1


def test_what_the_words_rest_on_is_measured_as_ever(session, spoken, monkeypatch):
    theirs = spoken.ask(QUESTIONS[0], max_new_tokens=WORDS)
    monkeypatch.setattr(session, "speaker", None)
    assert theirs == session.ask(QUESTIONS[0], max_new_tokens=WORDS)


def test_an_answer_ends_at_the_end_token(session, spoken, held, monkeypatch):
    """One that the model says in the middle of its answer is made an end token."""
    monkeypatch.setattr(session, "speaker", None)
    ids = session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0].ids
    early = next(token for token in ids if ids.index(token) > 0)
    generation = session._model.generation_config
    monkeypatch.setattr(generation, "eos_token_id", [generation.eos_token_id, early])
    here = session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0]
    assert here.ids == ids[: ids.index(early) + 1]
    session.speaker = Vllm(VllmClient(held.url), held.name, end_tokens(session._model))
    assert session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0] == here


def test_a_token_that_the_guard_refuses_is_replaced_by_the_next_likeliest(session, spoken, held, monkeypatch):
    speaker, session.speaker = session.speaker, None
    free = session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0].ids
    monkeypatch.setattr(LabelGuard, "allows", lambda self, ids, token: not (len(ids) in (2, 5) and token == free[2]))
    here = session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0]
    assert here.ids[:2] == free[:2]
    assert here.ids[2] != free[2]
    session.speaker = speaker
    assert session.say([QUESTIONS[0]], max_new_tokens=WORDS)[0] == here
    assert len(held.requests) > 2


def test_the_prompt_is_what_the_model_reads(session, spoken, held, loaded):
    """As deep as a plain causal pass over it goes, by the log-probabilities that evidence is measured on."""
    model, _ = loaded
    said = spoken.say([QUESTIONS[0]], max_new_tokens=WORDS)[0]
    data = base64.b64decode(held.requests[0]["prompt_embeds"])
    prompt = torch.load(io.BytesIO(data), weights_only=True)
    words = model.get_input_embeddings()(torch.tensor(said.ids))
    with torch.no_grad():
        hidden = model.model.language_model(inputs_embeds=torch.cat([prompt, words])[None]).last_hidden_state
        log_p = model.lm_head(hidden[0, len(prompt) - 1 : -1]).log_softmax(-1)
    seen = session._answer_scores(said)(None)[0]
    assert seen == pytest.approx(log_p[range(len(said.ids)), said.ids].tolist(), abs=1e-4)


def test_words_that_nobody_waits_for_end(session, spoken, held):
    taken = []

    def check():
        taken.append(1)
        if len(taken) > 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        spoken.apart(QUESTIONS[0], WORDS)(None, check)
    assert len(taken) == 4


def test_too_long_a_question_is_told_before_it_is_sent(spoken, held):
    with pytest.raises(HwsiError) as refused:
        spoken.say(["what " * 5000])
    assert refused.value.reason is Reason.QUESTION_TOO_LONG
    assert held.requests == []


def refused(client, loaded):
    with pytest.raises(HwsiError) as error:
        connect(client, *loaded)
    assert "\n" not in str(error.value)
    assert error.value.todo
    return error.value


def test_a_model_that_reads_a_tree_cannot_be_held(nano):
    error = refused(VllmClient("http://127.0.0.1:9/v1"), nano)
    assert error.reason is Reason.OPTION_INVALID
    assert "'hier'" in error.what


def test_a_server_that_is_not_there(loaded):
    assert refused(VllmClient("http://127.0.0.1:9"), loaded).reason is Reason.VLLM_UNREACHABLE


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"enabled": False}, Reason.OPTION_INVALID, "--enable-prompt-embeds"),
        ({"key": "a-key-that-is-not-given"}, Reason.VLLM_REFUSED, "HWSI_VLLM_KEY"),
        ({"redirect": "http://127.0.0.1:9/elsewhere"}, Reason.VLLM_REFUSED, "307"),
        ({"garbage": b"<html>"}, Reason.VLLM_UNREACHABLE, "does not speak"),
        ({"garbage": b'{"data": []}'}, Reason.VLLM_UNREACHABLE, "does not speak"),
        ({"garbage": b'{"data": 5}'}, Reason.VLLM_UNREACHABLE, "does not speak"),
        ({"break_after": 0}, Reason.VLLM_UNREACHABLE, "broke off"),
    ],
)
def test_what_is_wrong_with_a_server_is_told_in_one_line(loaded, held, monkeypatch, changes, reason, words):
    for name, value in changes.items():
        monkeypatch.setattr(held, name, value)
    error = refused(VllmClient(held.url), loaded)
    assert error.reason is reason
    assert words in str(error)


def test_the_key_is_sent_and_never_shown(loaded, held, monkeypatch):
    monkeypatch.setattr(held, "key", "a-secret-key")
    client = VllmClient(held.url, "a-secret-key")
    connect(client, *loaded)
    assert "a-secret-key" not in repr(client)


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown():
    with pytest.raises(HwsiError) as error:
        VllmClient("http://127.0.0.1:9", "a-secret-key\n")
    assert error.value.reason is Reason.OPTION_INVALID
    assert "a-secret-key" not in str(error.value)


def test_a_server_that_breaks_off_in_the_middle(spoken, held, monkeypatch):
    monkeypatch.setattr(held, "break_after", 3)
    pieces = []
    with pytest.raises(HwsiError) as error:
        spoken.say([QUESTIONS[0]], max_new_tokens=WORDS, streams=[pieces.append])
    assert error.value.reason is Reason.VLLM_UNREACHABLE


def test_another_model_is_told_from_this_one(loaded, held, full, tiny_release, monkeypatch):
    # of the same width, each weight a little off
    parameters = dict(held.lm.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad():
        for p in parameters.values():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) * p.std() * 0.5)
    error = refused(VllmClient(held.url), loaded)
    assert error.reason is Reason.WEIGHTS_MISMATCH
    assert "--language-model" in error.todo
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(before[name])
    # of another width
    other = tiny_release if loaded[0] is full[0] else full
    error = refused(VllmClient(held.url), other)
    assert error.reason is Reason.WEIGHTS_MISMATCH
    assert "hidden_size" in error.what


@pytest.mark.parametrize(
    "url",
    ["", "gpu:8000", "ftp://gpu/v1", "http://", "http://gpu:port/v1", "http://a:b@gpu/v1", "http://gpu/v1?x=1",
     "file:///etc/passwd", "http://gpu/v1#x"],
)  # fmt: skip
def test_what_is_no_address(url):
    with pytest.raises(HwsiError) as error:
        VllmClient(url)
    assert error.value.reason is Reason.OPTION_INVALID


@pytest.mark.parametrize(
    ("url", "clear"),
    [("http://127.0.0.1:8000", False), ("http://localhost/v1", False), ("http://[::1]:8000/v1", False),
     ("https://gpu/v1", False), ("http://gpu:8000/v1", True), ("http://10.0.0.7/v1", True)],
)  # fmt: skip
def test_what_travels_in_the_clear(url, clear):
    assert VllmClient(url).in_the_clear is clear


def test_a_view_brings_no_more_than_itself():
    whole = torch.zeros(4000, 64)
    assert len(encode(whole[:2])) < 4096
    back = torch.load(io.BytesIO(base64.b64decode(encode(whole[1:3]))), weights_only=True)
    assert back.shape == (2, 64)
