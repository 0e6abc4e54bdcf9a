"""Questions: words that join to the answer, the answer that the model gives alone, parts of a slide, reports."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

QUESTION = "What is the histologic grade?"


def _ask(client, slide, **asked):
    return client.post(f"/api/slides/{slide}/ask", json={"question": QUESTION, **asked})


def _alone(client, slide, **asked):
    """What a session says without a server."""
    session = client.app.state.server.sessions.get(slide)
    return session.ask(QUESTION, asked.get("choices")).to_dict()


def test_words_stream_and_join_to_the_answer_with_its_evidence(client, slide, events):
    found = events(_ask(client, slide))
    names = [name for name, _ in found]
    assert names[0] == "queued"
    assert names[-1] == "answer"
    answer = found[-1][1]
    assert "".join(said["text"] for name, said in found if name == "token") == answer["text"]
    alone = _alone(client, slide)
    for name in ("text", "evidence", "confidence", "visual_reliance", "warnings"):
        assert answer[name] == json.loads(json.dumps(alone[name]))
    assert answer["reliance_words"]
    assert "/" not in answer["provenance"]["features"]
    geojson = client.get(f"/api/answers/{answer['id']}/evidence.geojson").json()
    assert len(geojson["features"]) == len(answer["evidence"])
    assert client.get(f"/api/answers/{answer['id']}").json() == answer
    assert client.get("/api/answers/none").status_code == 404


def test_a_closed_question_without_evidence(client, slide, events):
    found = events(_ask(client, slide, choices=["grade 1", "grade 2"], evidence=False))
    answer = found[-1][1]
    assert answer["text"] in ("grade 1", "grade 2")
    assert answer["evidence"] == []
    assert sum(answer["choice_probs"]) == pytest.approx(1, abs=1e-5)


def test_many_ask_at_once_and_each_gets_its_own_answer(client, slide, events):
    words = ["What is the histologic grade?", "Which R1 shows R2?", "What grade?", "Is it what?"]

    def one(n):
        return words[n % 4], events(
            client.post(f"/api/slides/{slide}/ask", json={"question": words[n % 4], "evidence": False})
        )

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(8)))
    texts: dict[str, set[str]] = {}
    for question, found in done:
        assert found[-1][0] == "answer"
        assert found[-1][1]["question"] == question
        assert "".join(said["text"] for name, said in found if name == "token") == found[-1][1]["text"]
        texts.setdefault(question, set()).add(found[-1][1]["text"])
    assert all(len(said) == 1 for said in texts.values())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"question": "  "}, "question_empty"),
        ({"question": "a <|slide|> b"}, "question_invalid"),
        ({"question": "a\u0000b"}, "question_invalid"),
        ({"question": "x" * 2001}, "invalid"),
        ({"choices": ["one"]}, "question_invalid"),
        ({"choices": ["a"] * 27}, "invalid"),
        ({"polygon": [[0, 0], [1, 1]]}, "invalid"),
        ({"polygon": [[0, 0], [9, 9], [18, 18]]}, "option_invalid"),
        ({"polygon": [[9000, 0], [9100, 0], [9100, 50]]}, "no_tissue"),
        ({"polygon": [[0, 0], [1, 0], [1, None]]}, "invalid"),
        ({"polygon": [[0, 0]] * 501}, "invalid"),
    ],
)
def test_what_cannot_be_asked_is_told_before_a_stream_begins(client, slide, asked, reason):
    answer = _ask(client, slide, **asked)
    assert answer.status_code == 422
    assert answer.json()["reason"] == reason


def test_a_full_queue_is_told_to_come_again(serve, slide):
    answer = _ask(serve(queue=0), slide)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


def test_a_question_that_takes_too_long_ends_with_an_error_in_its_stream(serve, slide, events):
    found = events(_ask(serve(question_s=0.0), slide))
    assert found[-1][0] == "error"
    assert found[-1][1]["reason"] == "timeout"


def test_markup_in_a_question_comes_back_as_text(client, slide, events):
    words = "<script>alert(1)</script>"
    answer = events(client.post(f"/api/slides/{slide}/ask", json={"question": words, "evidence": False}))[-1][1]
    assert answer["question"] == words


@pytest.fixture(scope="module")
def random_stack(nano):
    """Region and slide encoders with random weights, for parts of a slide."""
    from hwsi.encoders import get
    from hwsi.encoding import Stack

    ids = [f"{scale}-nano" for scale in ("cell", "patch", "region", "slide")]
    stack = Stack(*(get(i).build(weights=None) for i in ids), dict.fromkeys(ids, "0" * 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwsi.encoding.stack.load_stack", lambda preset, device="auto", **_: stack)
        yield stack


def test_a_part_of_a_slide_is_all_that_the_model_reads(client, slide, events, random_stack):
    # the fifth region alone, patches 1, 2, 5, 6 of its grid
    polygon = [[513, 513], [767, 513], [767, 767], [513, 767]]
    found = events(_ask(client, slide, polygon=polygon))
    assert found[-1][0] == "answer", found[-1]
    answer = found[-1][1]
    assert answer["area"] == {"patches": 4, "um2": 4 * 64 * 64}
    assert {e["label"].partition(".")[0] for e in answer["evidence"]} <= {"R5"}
    for piece in answer["evidence"]:
        if piece["scale"] != "region":
            x0, y0, x1, y1 = piece["box"]
            assert 512 <= x0 < x1 <= 768
            assert 512 <= y0 < y1 <= 768
    assert "".join(said["text"] for name, said in found if name == "token") == answer["text"]


def test_what_lies_outside_does_not_speak(client, slide, random_stack):
    import numpy as np
    from server_slides import make_features

    from hwsi.presets import load_preset
    from hwsi.server.area import restricted

    area = ((513.0, 513.0), (767.0, 513.0), (767.0, 767.0), (513.0, 767.0))
    one, other = make_features("0" * 32, "made"), make_features("0" * 32, "made", seed=1)
    inside = (one.hierarchy.patches.xy >= 512).all(1) & (one.hierarchy.patches.xy < 768).all(1)
    mixed = other.patch["patch-nano"].copy()
    mixed[inside] = one.patch["patch-nano"][inside]
    stay = inside[one.hierarchy.cells.patch]
    cells = other.cell["cell-nano"].copy()
    cells[stay] = one.cell["cell-nano"][stay]
    from dataclasses import replace

    changed = replace(one, patch={"patch-nano": mixed}, cell={"cell-nano": cells})
    preset = load_preset("nano")
    a, b = (restricted(f, area, preset, random_stack) for f in (one, changed))
    np.testing.assert_array_equal(a.region["region-nano"], b.region["region-nano"])
    np.testing.assert_array_equal(a.slide["slide-nano"], b.slide["slide-nano"])
    assert int((~a.hierarchy.patches.background).sum()) == 4
    assert len(a.hierarchy.regions) == 1


def test_labels_are_turned_as_they_stream():
    import numpy as np

    from hwsi.server.area import Labels, TurnedStream

    labels = Labels(np.array([4, 9]))
    said: list[str] = []
    stream = TurnedStream(labels, said.append)
    for piece in ("Tumour in R", "1", " and R2", ".P", "7. R1", ". Not R3, RNA or R"):
        stream(piece)
    stream.end()
    assert "".join(said) == "Tumour in R5 and R10.P7. R5. Not R3, RNA or R"


def test_report_and_its_exports(own, events):
    client, slide = own.client, own.slide
    assert client.get(f"/api/slides/{slide}/report").status_code == 404
    assert client.post(f"/api/slides/{slide}/report/export").status_code == 404
    found = events(client.post(f"/api/slides/{slide}/report"))
    assert found[-1][0] == "report"
    report = found[-1][1]
    assert report["note"]
    assert client.get(f"/api/slides/{slide}/report").json() == report
    texts = [s["text"] for s in report["statements"]]
    evil = "</p><script>alert(1)</script> 20 µm, ≥ 2 mm², β"
    now = [{"text": evil, "original": texts[0] if texts else None}, *({"text": t} for t in texts[1:])]
    made = client.post(f"/api/slides/{slide}/report/export?format=html", json={"statements": now})
    assert "attachment" in made.headers["content-disposition"]
    assert "<script>" not in made.text
    assert "Written by a person" in made.text
    assert "not a diagnosis" in made.text.lower()
    data = client.post(f"/api/slides/{slide}/report/export?format=json", json={"statements": now}).json()
    assert data["sentences"][0] == {"text": evil, "edited": True}
    assert data["report"]["text"] == report["text"]
    assert client.post(f"/api/slides/{slide}/report/export?format=exe").status_code == 422


def test_a_report_as_pdf(client, slide, events):
    pytest.importorskip("reportlab")
    events(client.post(f"/api/slides/{slide}/report", json={"evidence": False}))
    made = client.post(
        f"/api/slides/{slide}/report/export?format=pdf", json={"statements": [{"text": "20 µm <b>β</b> & ≥ 2 mm²"}]}
    )
    assert made.content.startswith(b"%PDF")
    assert made.headers["content-type"] == "application/pdf"


def test_openai_chat(client, slide):
    assert client.get("/v1/models").json()["data"][0]["id"] == "hwsi-nano"
    content = [{"type": "slide", "slide": {"id": slide}}, {"type": "text", "text": QUESTION}]
    wish = {"model": "hwsi-nano", "messages": [{"role": "user", "content": content}], "temperature": 0.7}
    made = client.post("/v1/chat/completions", json=wish).json()
    message = made["choices"][0]["message"]
    assert message["content"] == _alone(client, slide)["text"]
    assert message["hwsi"]["evidence"] is not None
    stream = client.post("/v1/chat/completions", json={**wish, "stream": True}).text
    blocks = [b.removeprefix("data: ") for b in stream.split("\n\n") if b.startswith("data: ")]
    assert blocks[-1] == "[DONE]"
    chunks = [json.loads(b) for b in blocks[:-1]]
    assert "event:" not in stream
    assert all(c["choices"] for c in chunks)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == message["content"]
    assert chunks[-1]["choices"][0]["delta"]["hwsi"]["evidence"] == message["hwsi"]["evidence"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_openai_chat_by_name_and_over_several_turns(client, slide):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "slide", "slide": {"name": "made"}}]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": QUESTION},
    ]
    made = client.post("/v1/chat/completions", json={"model": "hwsi-nano", "messages": messages})
    assert made.json()["choices"][0]["message"]["hwsi"]["question"] == QUESTION


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.svs"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "slide", "slide": {"id": "../made.tiff"}},
        {"type": "slide", "slide": {"name": "/etc/passwd"}},
        {"type": "slide", "slide": {}},
        {"type": "text", "text": "no slide"},
    ],
)
def test_openai_chat_fetches_nothing(client, part):
    wish = {"model": "hwsi-nano", "messages": [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]}
    assert client.post("/v1/chat/completions", json=wish).status_code in (404, 422)


def test_openai_chat_of_another_model(client):
    wish = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}]}
    assert client.post("/v1/chat/completions", json=wish).status_code == 404


def test_evidence_that_takes_too_long_leaves_the_words_with_a_warning(client, slide, events, monkeypatch):
    from hwsi.server.problems import Problem
    from hwsi.server.sessions import Sessions

    get = Sessions.get

    class Slow:
        def __init__(self, session):
            self._session, self.say = session, session.say

        def ask(self, *asked, evidence=True, **how):
            if evidence:
                raise Problem(504, "timeout", "the answer took more than 1 s")
            return self._session.ask(*asked, evidence=False, **how)

    monkeypatch.setattr(Sessions, "get", lambda self, *about: Slow(get(self, *about)))
    found = events(_ask(client, slide))
    assert found[-1][0] == "answer"
    assert "not measured" in found[-1][1]["warnings"][-1]
    assert found[-1][1]["evidence"] == []
