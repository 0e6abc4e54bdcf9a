"""The server is killed in the middle: feedback, finished slides and the regions that were read are still there."""

import json
import urllib.request

import pytest
from running_server import Running
from server_slides import TOKEN, pixels, write_image

pytestmark = pytest.mark.slow


@pytest.fixture
def start():
    running = []

    def begin(folder):
        running.append(Running(folder))
        return running[-1]

    yield begin
    for server in running:
        if server.process.poll() is None:
            server.kill()


def _regions(job):
    return next((s["done"] for s in job["stages"] if s["name"] == "regions"), 0)


def test_a_killed_server_loses_no_finished_job_and_no_feedback(start, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    write_image(folder / "small.tiff", pixels(1, 1200, 1200))
    write_image(folder / "large.tiff", pixels(2, 2048 * 4, 2048))
    server = start(folder)
    small = server.slide("small")["id"]
    server.wait_for(server.call(f"/api/slides/{small}/encode", {}), lambda job: job["state"] == "done")
    finished = (folder / ".hwsi" / "features" / "small.h5").read_bytes()
    verdict = {"slide": small, "question": "What?", "answer": "this", "verdict": "wrong", "better": "that"}
    server.call("/api/feedback", verdict)
    large = server.slide("large")["id"]
    job = server.call(f"/api/slides/{large}/encode", {})
    before = _regions(server.wait_for(job, lambda job: _regions(job) >= 1))
    server.kill()

    assert (folder / ".hwsi" / "features" / "small.h5").read_bytes() == finished
    again = start(folder)
    assert again.call("/api/feedback") == {"count": 1, "pairs": 1}
    assert again.slide("small")["encoded"]
    left = again.slide("large")
    assert not left["encoded"]
    assert left["partial_regions"] >= before
    # what was read can be asked about at once, and is not read again
    body = json.dumps({"question": "What is the diagnosis?", "evidence": False}).encode()
    head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{again.address}/api/slides/{large}/ask", body, head)
    with urllib.request.urlopen(asked, timeout=120) as reply:
        answer = json.loads(reply.read().decode().rpartition("data: ")[2])
    assert answer["seen"]["regions"] == left["partial_regions"]
    assert answer["warnings"][0].startswith("Seen so far: ")
    done = again.wait_for(again.call(f"/api/slides/{large}/encode", {}), lambda job: job["state"] == "done")
    assert _regions(done) == 4
    assert again.slide("large")["encoded"]
