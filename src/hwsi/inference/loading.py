"""The model behind a session, loaded once per process."""

import hashlib
from functools import lru_cache

import torch

from hwsi.errors import HwsiError, Reason
from hwsi.model import zoo
from hwsi.model.checkpoint import load
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.presets import load_preset

Model = HwsiForConditionalGeneration | HwsiResampleForConditionalGeneration


@lru_cache(maxsize=2)
def load_model(preset: str) -> tuple[Model, HwsiProcessor | HwsiResampleProcessor, str]:
    """Model, processor and digest of the weights of a preset; loaded once, however many slides are studied.

    Errors: preset_unknown, option_invalid (a wrong preset file), weights_missing, weights_mismatch.
    """
    chosen = load_preset(preset)
    card = zoo.get(chosen.language_model)
    if card is not None and card.task == "language":
        lacking = "" if zoo.find(card) else ", nor is it on this machine"
        raise HwsiError(
            Reason.WEIGHTS_MISSING,
            f"preset {chosen.name} has no model that answers: {card.hub} has not been trained on slides{lacking}",
            f"{zoo.how_to_get(card) + '; then ' if lacking else ''}train a model on it (it starts with "
            "hwsi.model.from_language_model) and name its folder as language_model in a copy of the preset",
        )
    model, processor = load(card.hub or card.id if card is not None else chosen.language_model)
    return model, processor, weights_sha256(model)


def weights_sha256(model: Model) -> str:
    """Digest of the weights that are in memory, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
