"""A slide that is still being encoded: asked about as far as it was seen, and every answer says so."""

import numpy as np
import pytest
from server_slides import make_features

QUESTION = "What is the histologic grade?"
DONE = np.array([0, 2])


@pytest.fixture
def partial(own, monkeypatch):
    """The slide of a server, of which two regions of six are encoded."""
    from hwsi.inference.key_regions import restrict
    from hwsi.inference.seen import Seen

    job = own.folder / ".hwsi"
    (job / "features" / "made.h5").unlink()
    (job / "partial" / "made").mkdir(parents=True)
    for region in DONE:
        (job / "partial" / "made" / f"{region:06d}.npz").write_bytes(b"a region")
    opened = own.client.app.state.server.library.open(own.slide)
    features = restrict(make_features(opened.slide_id, opened.name), DONE)

    def read(self, slide):
        return Seen(features, DONE, len(DONE), 6, 0.3)

    monkeypatch.setattr("hwsi.server.partials.Partials._read", read)
    return own


@pytest.mark.parametrize("choices", [[], ["grade 1", "grade 2"]])
def test_it_answers_from_what_was_seen_and_says_how_much(partial, events, choices):
    info = partial.client.get(f"/api/slides/{partial.slide}").json()
    assert (info["encoded"], info["partial_regions"]) == (False, 2)
    found = events(
        partial.client.post(f"/api/slides/{partial.slide}/ask", json={"question": QUESTION, "choices": choices})
    )
    answer = found[-1][1]
    assert answer["seen"] == {"share": 0.3, "regions": 2, "of": 6}
    assert answer["warnings"][0].startswith("Seen so far: 30 % of the tissue (2 of 6 regions)")
    assert answer["evidence"]
    # regions are called as in the whole slide, and lie where these lie
    assert {e["label"].partition(".")[0] for e in answer["evidence"]} <= {"R1", "R3"}
    for e in answer["evidence"]:
        if e["label"] == "R3":
            assert e["box"][0] == 1024
    heat = partial.client.get(f"/api/answers/{answer['id']}/heat").json()
    assert [r["label"] for r in heat["regions"]] == ["R1", "R3"]


def test_more_is_seen_when_more_is_read(partial, events, monkeypatch):
    from hwsi.inference.seen import Seen

    def ask():
        body = {"question": QUESTION, "evidence": False}
        return events(partial.client.post(f"/api/slides/{partial.slide}/ask", json=body))[-1][1]["seen"]

    assert ask()["regions"] == 2
    opened = partial.client.app.state.server.library.open(partial.slide)
    whole = make_features(opened.slide_id, opened.name)
    monkeypatch.setattr("hwsi.server.partials.Partials._read", lambda self, slide: Seen(whole, np.arange(6), 3, 6, 0.5))
    assert ask()["regions"] == 2  # nothing new lies there
    (partial.folder / ".hwsi" / "partial" / "made" / "000004.npz").write_bytes(b"a region")
    assert ask() == {"share": 0.5, "regions": 3, "of": 6}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("ask", {"question": QUESTION, "polygon": [[0, 0], [900, 0], [900, 800]]}),
        ("report", {}),
        ("search", {"query": "x"}),
    ],
)
def test_what_needs_the_whole_slide_waits_for_it(partial, path, body):
    refused = partial.client.post(f"/api/slides/{partial.slide}/{path}", json=body)
    assert (refused.status_code, refused.json()["reason"]) == (409, "features_missing")


def test_openai_clients_are_told_too(partial):
    content = [{"type": "slide", "slide": {"id": partial.slide}}, {"type": "text", "text": QUESTION}]
    body = {"model": "hwsi-nano", "messages": [{"role": "user", "content": content}]}
    said = partial.client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert said["hwsi"]["seen"]["of"] == 6
