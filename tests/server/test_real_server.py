"""The real server on a port: curl's stream, an unmodified OpenAI client, a client that leaves, the command itself."""

import json
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest
from server_slides import TOKEN, encoded_slide, make_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(tmp_path_factory, made_slide, nano):
    import uvicorn

    from hwsi.server import Settings, create_app

    folder = make_folder(tmp_path_factory.mktemp("real"), made_slide)
    app = create_app(Settings(slides=folder, job=folder / ".hwsi", token=TOKEN))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(600):
        if server.started:
            break
        time.sleep(0.05)
    yield server.servers[0].sockets[0].getsockname()[1], app
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def web(port):
    import httpx2 as httpx

    with ExitStack() as stack:
        head = {"Authorization": f"Bearer {TOKEN}"}
        yield stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port[0]}", headers=head, timeout=120))


def test_an_unmodified_openai_client_streams(port, web):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port[0]}/v1", api_key=TOKEN)
    content = [
        {"type": "slide", "slide": {"id": encoded_slide(web)}},
        {"type": "text", "text": "What is the histologic grade?"},
    ]
    messages = [{"role": "user", "content": content}]
    said, extra = "", {}
    for chunk in client.chat.completions.create(model="hwsi-nano", messages=messages, stream=True):
        said += chunk.choices[0].delta.content or ""
        extra |= chunk.choices[0].delta.model_extra or {}
    assert extra["hwsi"]["text"] == said
    whole = client.chat.completions.create(model="hwsi-nano", messages=messages)
    assert whole.choices[0].message.content == said
    assert [m.id for m in client.models.list()] == ["hwsi-nano"]


def _curl(port, path, body):
    """Lines that curl prints of a stream, as they come."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = [
        "curl",
        "--no-buffer",
        "--silent",
        "--show-error",
        "--fail",
        "--header",
        f"Authorization: Bearer {TOKEN}",
    ]
    command += ["--json", json.dumps(body), f"http://127.0.0.1:{port[0]}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_curl_gets_a_streamed_answer(port, web):
    lines = _curl(port, f"/api/slides/{encoded_slide(web)}/ask", {"question": "What is it?"})
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert [names[0], names[-2], names[-1]] == ["queued", "weighing", "answer"]
    assert set(names[1:-2]) == {"token"}
    said = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert "".join(piece["text"] for piece in said[1:-2]) == said[-1]["text"]


def test_curl_gets_chunks_as_of_openai(port, web):
    slide = {"type": "slide", "slide": {"id": encoded_slide(web)}}
    content = [slide, {"type": "text", "text": "What is it?"}]
    body = {"model": "hwsi-nano", "stream": True, "messages": [{"role": "user", "content": content}]}
    lines = [line for line in _curl(port, "/v1/chat/completions", body) if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(d.get("content", "") for d in deltas) == deltas[-1]["hwsi"]["text"]


def test_a_client_that_leaves_cancels_its_question(port, web):
    worker = port[1].state.server.worker
    slide = encoded_slide(web)
    release = threading.Event()
    held = worker.submit(lambda: release.wait(30), "holder")
    with web.stream("POST", f"/api/slides/{slide}/ask", json={"question": "What is it?"}) as answer:
        assert next(answer.iter_lines()) == "event: queued"
        queued = [task for users in worker._waiting for tasks in users.values() for task in tasks]
    for _ in range(100):
        if queued[0].gone:
            break
        time.sleep(0.05)
    assert queued[0].gone
    release.set()
    held.future.result(10)


def test_a_tile_and_a_stream(web):
    slide = encoded_slide(web)
    assert web.get(f"/api/slides/{slide}/tiles/11/0_0.jpg").headers["content-type"] == "image/jpeg"
    with web.stream("POST", f"/api/slides/{slide}/ask", json={"question": "What is it?"}) as answer:
        names = [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]
    assert names[0] == "queued"
    assert names[-1] == "answer"
