"""A small slide, and nano with random weights."""

import pytest
import torch
from model_fakes import TEXTS, make_slide


@pytest.fixture(scope="session")
def tokenizer():
    from hwsi.model import train_nano_tokenizer

    return train_nano_tokenizer(TEXTS)


@pytest.fixture(scope="session")
def nano(tokenizer):
    """mixing -> (model, processor), the same weights for all; louder than at birth, so that effects are seen."""
    from hwsi.model import build_nano

    models = {}
    for mixing in ("none", "hier", "full"):
        model, processor = build_nano(tokenizer, visual_mixing=mixing)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3)
            words = model.get_input_embeddings().weight  # labels are born longer than words: it would say nothing else
            words.copy_(torch.nn.functional.normalize(words, dim=-1) * words.norm(dim=-1).median())
        processor.kept_patches = 3
        models[mixing] = (model, processor)
    return models


@pytest.fixture(scope="session")
def slide():
    return make_slide()


@pytest.fixture(scope="session")
def other_slide():
    return make_slide(seed=1, regions=3, side=2)
