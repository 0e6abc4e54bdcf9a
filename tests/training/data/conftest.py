"""Three slides of different size with their feature files, and nano with random weights."""

import pytest
import torch
from data_fakes import SIZES, made_features, write_job


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    slides = {n: made_features(i, name=n, rows=r, cols=c) for i, (n, (r, c)) in enumerate(SIZES.items())}
    return write_job(tmp_path_factory.mktemp("job"), slides)


@pytest.fixture
def store(job):
    from hwsi.training.data.store import FeatureStore

    return FeatureStore([job])


@pytest.fixture(scope="session")
def nano():
    from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
    from hwsi.model.nano import build_nano
    from hwsi.model.tokenizer import train_nano_tokenizer

    model, processor = build_nano(train_nano_tokenizer([REPORT_PROMPT, CAPTION_PROMPT, "yes no R1: tumour."] * 3))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)  # louder than at birth, so that effects are seen
    processor.kept_patches = 3
    return model, processor
