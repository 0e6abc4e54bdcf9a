"""An untrained nano and a made-up space of words behind every run of this folder."""

from functools import partial

import pytest
import torch
from running_world import space

from hwsi.benchmarks.statistics import bootstrap


@pytest.fixture(scope="session")
def _untrained():
    from hwsi.inference.loading import weights_sha256
    from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
    from hwsi.model.nano import build_nano
    from hwsi.model.tokenizer import train_nano_tokenizer

    texts = ["What is the grade?\nOptions: grade 1; grade 2; grade 3", "Is there necrosis? yes no", "R1 shows tumour."]
    model, processor = build_nano(train_nano_tokenizer([*texts, REPORT_PROMPT, CAPTION_PROMPT], vocab_size=400))
    special = [i for i, t in processor.tokenizer.added_tokens_decoder.items() if t.special]
    with torch.no_grad():  # an untrained model may say nothing but special tokens, which are no words
        model.get_input_embeddings().weight[special] *= 0.1
    return model, processor, weights_sha256(model)


@pytest.fixture(autouse=True)
def untrained(monkeypatch, _untrained):
    """(model, processor, digest) in place of the embedded model; short answers, since it never ends one."""
    for room in ("inference.session", "benchmarks.running.run"):
        monkeypatch.setattr(f"hwsi.{room}.load_model", lambda preset, device="auto": _untrained)
    monkeypatch.setattr("hwsi.benchmarks.running.run.load_space", lambda preset, **_: space())
    # intervals are tested elsewhere; here a few resamples do
    monkeypatch.setattr("hwsi.benchmarks.results.bootstrap", partial(bootstrap, resamples=20))
    monkeypatch.setattr("hwsi.inference.studied.REPORT_TOKENS", 8)
    monkeypatch.setattr("hwsi.inference.studied.MAX_NEW_TOKENS", 8)
    monkeypatch.setattr("hwsi.benchmarks.running.asking.CHOICE_TOKENS", 8)
    return _untrained
