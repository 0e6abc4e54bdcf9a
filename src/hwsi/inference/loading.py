"""The model behind a session, loaded once per process."""

import hashlib
from functools import lru_cache

import torch

from hwsi.model.checkpoint import load
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor


@lru_cache(maxsize=2)
def load_model(preset: str) -> tuple[HwsiForConditionalGeneration, HwsiProcessor, str]:
    """Model, processor and digest of the weights of a preset; loaded once, however many slides are studied.

    Errors: preset_unknown, weights_missing, weights_mismatch.
    """
    model, processor = load(preset)
    return model, processor, weights_sha256(model)


def weights_sha256(model: HwsiForConditionalGeneration) -> str:
    """Digest of the weights that are in memory, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
