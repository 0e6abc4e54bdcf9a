"""The model behind a session, loaded once per process."""

import hashlib
from functools import lru_cache

import torch

from hwsi.encoding.device import choose_device
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
def load_model(preset: str, device: str = "auto") -> tuple[Model, HwsiProcessor | HwsiResampleProcessor, str]:
    """Model, processor and digest of the weights of a preset; loaded once, however many slides are studied.

    Args:
        preset: its name or file. device: of torch, or ``auto``, see :func:`hwsi.encoding.device.choose_device`.

    Errors: preset_unknown, option_invalid (a wrong preset file, no such device), weights_missing, weights_mismatch.
    """
    chosen = load_preset(preset)
    where = choose_device(device, small=chosen.language_model == "nano")
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
    return model.to(where), processor, weights_sha256(model)


def weights_sha256(model: Model) -> str:
    """Digest of the weights that are in memory, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
