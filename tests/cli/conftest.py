"""A small slide file and an untrained nano behind the real command line."""

from pathlib import Path

import pytest
import torch
from cli_slides import tissue_pixels, write_image


@pytest.fixture(scope="session")
def slide(tmp_path_factory) -> Path:
    return write_image(tmp_path_factory.mktemp("slide") / "made.tiff", tissue_pixels())


@pytest.fixture(scope="session")
def _random_nano():
    from hwsi.encoders import get
    from hwsi.encoding import Stack
    from hwsi.inference.loading import weights_sha256
    from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
    from hwsi.model.nano import build_nano
    from hwsi.model.tokenizer import train_nano_tokenizer

    texts = [
        "What is the histologic grade?\nOptions: grade 1; grade 2",
        REPORT_PROMPT,
        CAPTION_PROMPT,
        "R1 shows tumour.",
    ]
    model, processor = build_nano(train_nano_tokenizer(texts, vocab_size=400))
    special = [i for i, t in processor.tokenizer.added_tokens_decoder.items() if t.special]
    with torch.no_grad():  # an untrained model may say nothing but special tokens, which are no words
        model.get_input_embeddings().weight[special] *= 0.1
    ids = [f"{scale}-nano" for scale in ("cell", "patch", "region", "slide")]
    stack = Stack(*(get(i).build(weights=None) for i in ids), dict.fromkeys(ids, "0" * 64))
    return (model, processor, weights_sha256(model)), stack


@pytest.fixture
def nano(monkeypatch, _random_nano):
    """The command line with random weights: what it promises does not depend on them."""
    loaded, stack = _random_nano
    monkeypatch.setattr("hwsi.inference.session.load_model", lambda preset, device: loaded)
    monkeypatch.setattr("hwsi.inference.studied.REPORT_TOKENS", 40)
    for module in ("encode", "stack"):
        monkeypatch.setattr(f"hwsi.encoding.{module}.load_stack", lambda preset, device="auto", **_: stack)


@pytest.fixture
def run(capfd):
    """Run ``hwsi ARGS``: (status, stdout, stderr)."""
    from hwsi.cli.app import main

    def call(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(a) for a in args])
        out, err = capfd.readouterr()
        return status, out, err

    return call
