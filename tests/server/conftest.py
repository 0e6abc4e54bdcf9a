"""A server over a folder with one encoded slide; the model is nano's shape with random weights.

``client``, ``slide`` and ``folder`` are shared by a module and only read; ``own`` is a test's own, to write to.
"""

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from server_slides import TOKEN, encoded_slide, make_folder, pixels, write_image

pytest.importorskip("fastapi")
pytest.importorskip("simplejpeg")


@pytest.fixture(scope="session")
def made_slide(tmp_path_factory) -> Path:
    return write_image(tmp_path_factory.mktemp("made") / "made.tiff", pixels())


@pytest.fixture(scope="session")
def random_nano():
    """(model, processor, digest) of nano's shape."""
    import torch

    from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
    from hwsi.model.nano import build_nano
    from hwsi.model.tokenizer import train_nano_tokenizer

    texts = ["What is the histologic grade?\nOptions: grade 1; grade 2", REPORT_PROMPT, CAPTION_PROMPT, "R1 shows R2."]
    model, processor = build_nano(train_nano_tokenizer(texts, vocab_size=400))
    added = processor.tokenizer.added_tokens_decoder
    loud = [i for i, t in added.items() if t.special] + [
        i for word, i in processor.tokenizer.get_vocab().items() if re.fullmatch(r"[RP]\d+", word)
    ]
    with torch.no_grad():  # an untrained model may say nothing but special tokens and labels, on which no answer rests
        model.get_input_embeddings().weight[loud] *= 0.1
    return model, processor, "0" * 64


@pytest.fixture(scope="module")
def nano(random_nano):
    """What the server promises does not depend on the weights."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("server.sessions", "inference.session"):
            patch.setattr(f"hwsi.{module}.load_model", lambda preset, device="auto": random_nano)
        patch.setattr("hwsi.inference.studied.REPORT_TOKENS", 24)
        yield random_nano


def begin(stack: ExitStack, folder: Path, **changes: Any):
    """A client that is let in, of a new server."""
    from fastapi.testclient import TestClient

    from hwsi.server import Settings, create_app

    app = create_app(Settings(slides=folder, job=folder / ".hwsi", token=TOKEN, **changes))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return stack.enter_context(TestClient(app, base_url="http://127.0.0.1:8000", headers=headers))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, made_slide) -> Path:
    return make_folder(tmp_path_factory.mktemp("server"), made_slide)


@pytest.fixture(scope="module")
def serve(folder, nano):
    """``serve(**settings)``: a client of a new server of the shared folder."""
    with ExitStack() as stack:
        yield lambda **changes: begin(stack, folder, **changes)


@pytest.fixture(scope="module")
def client(serve):
    return serve()


@pytest.fixture(scope="module")
def slide(client) -> str:
    return encoded_slide(client)


@dataclass
class Own:
    folder: Path
    client: Any
    slide: str


@pytest.fixture
def own(tmp_path, made_slide, nano):
    """A server with a folder that may be written to."""
    folder = make_folder(tmp_path, made_slide)
    with ExitStack() as stack:
        client = begin(stack, folder)
        yield Own(folder, client, encoded_slide(client))


@pytest.fixture
def events():
    """``events(response)``: [(name, data)] of a stream."""

    def read(response):
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        found = []
        for block in response.text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    return read
