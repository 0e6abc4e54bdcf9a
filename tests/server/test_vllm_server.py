"""``hwsi serve --vllm``: words by a stand-in of vLLM, many at once, the rest as ever; what is told when it is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_slides import encoded_slide
from vllm_stand_in import serving

from hwsi.cli.serve import serve as serve_command
from hwsi.errors import HwsiError, Reason
from hwsi.inference.vllm_client import VllmClient

QUESTIONS = ["What is the histologic grade?", "Which R1 shows R2?", "What grade?", "Is it what?"]


@pytest.fixture(scope="module")
def full(random_nano):
    """The same weights, read with ``visual_mixing: full``."""
    from hwsi.model.nano import build_nano

    model, processor = build_nano(random_nano[1].tokenizer, visual_mixing="full")
    model.load_state_dict(random_nano[0].state_dict())
    return model, processor, "0" * 64


@pytest.fixture(scope="module")
def held(full, tmp_path_factory):
    from hwsi.model.conversion import write_language_model

    at = tmp_path_factory.mktemp("vllm")
    full[0].save_pretrained(at / "model")
    full[1].save_pretrained(at / "model")
    write_language_model(at / "model", at / "plain")
    with serving(at / "plain") as server:
        yield server


@pytest.fixture(scope="module")
def speaking(full, held, serve):
    """A client of a server whose words the stand-in says."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("server.sessions", "server.state", "inference.session"):
            patch.setattr(f"hwsi.{module}.load_model", lambda preset, device="auto": full)
        client = serve(vllm=VllmClient(held.url))
        yield client


@pytest.fixture
def ask(speaking, events):
    slide = encoded_slide(speaking)

    def asked(question, **more):
        return events(speaking.post(f"/api/slides/{slide}/ask", json={"question": question, **more}))

    return asked


def test_words_and_evidence_are_as_without_it(ask, speaking, held, monkeypatch):
    held.requests.clear()
    found = ask(QUESTIONS[0])
    assert [name for name, _ in found][-2:] == ["weighing", "answer"]
    answer = found[-1][1]
    assert "".join(said["text"] for name, said in found if name == "token") == answer["text"]
    assert held.requests  # one, and two more for each label that the guard refused
    session = speaking.app.state.server.sessions.get(encoded_slide(speaking))
    monkeypatch.setattr(session, "speaker", None)
    alone = session.ask(QUESTIONS[0])
    assert answer["text"] == alone.text
    assert answer["confidence"] == round(alone.confidence, 6)
    assert [e["label"] for e in answer["evidence"]] == [e.label for e in alone.evidence]


def test_questions_are_with_the_server_at_the_same_time(ask, held, monkeypatch):
    """It answers none before all have come."""
    ask(QUESTIONS[0], evidence=False)
    monkeypatch.setattr(held, "meet", threading.Barrier(len(QUESTIONS)))
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        done = list(pool.map(lambda question: ask(question, evidence=False), QUESTIONS))
    assert not held.meet.broken
    monkeypatch.setattr(held, "meet", None)
    for question, found in zip(QUESTIONS, done, strict=True):
        assert found[-1][0] == "answer"
        assert found[-1][1]["question"] == question
        assert found[-1][1]["text"] == ask(question, evidence=False)[-1][1]["text"]


def test_options_are_chosen_here(ask, held):
    held.requests.clear()
    assert ask("What grade?", choices=["grade 1", "grade 2"], evidence=False)[-1][1]["text"] in ("grade 1", "grade 2")
    assert held.requests == []


def test_a_report(speaking, held, events):
    held.requests.clear()
    found = events(speaking.post(f"/api/slides/{encoded_slide(speaking)}/report", json={"evidence": False}))
    name, report = found[-1]
    assert name == "report"
    assert "".join(said["text"] for kind, said in found if kind == "token") == report["text"]
    assert held.requests[0]["max_tokens"] == 24


def test_a_server_that_fails_later_is_told_in_the_stream_and_the_next_question_works(ask, held, monkeypatch):
    monkeypatch.setattr(held, "break_after", 2)
    name, told = ask(QUESTIONS[0])[-1]
    assert name == "error"
    assert told["reason"] == "vllm_unreachable"
    monkeypatch.setattr(held, "break_after", None)
    assert ask(QUESTIONS[0], evidence=False)[-1][0] == "answer"


def test_time_runs_out_while_words_are_waited_for(speaking, ask, held, monkeypatch):
    server = speaking.app.state.server
    monkeypatch.setattr("hwsi.server.worker.Task.spent", property(lambda self: 1e6))
    _, told = ask(QUESTIONS[0], evidence=False)[-1]
    assert told["reason"] == "timeout"
    assert server.asides._under_way == 0


def test_no_more_wait_than_are_allowed(speaking, monkeypatch):
    asides = speaking.app.state.server.asides
    monkeypatch.setattr(asides, "_under_way", asides._most)
    reply = speaking.post(f"/api/slides/{encoded_slide(speaking)}/ask", json={"question": QUESTIONS[0]})
    assert reply.status_code == 429
    assert int(reply.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [("gpu:8000", Reason.OPTION_INVALID), ("http://127.0.0.1:9/v1", Reason.OPTION_INVALID)],
)
def test_what_the_command_refuses_before_anything_listens(tmp_path, nano, monkeypatch, url, reason):
    """No address; and the embedded model, which no vLLM can hold."""
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: pytest.fail("it listens"))
    monkeypatch.setattr("hwsi.server.state.load_model", lambda preset, device="auto": nano)
    with pytest.raises(HwsiError) as refused:
        serve_command(tmp_path, vllm=url)
    assert refused.value.reason is reason
