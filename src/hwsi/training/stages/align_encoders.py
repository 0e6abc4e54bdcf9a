"""Encoders of the registry as ``pretrain`` and ``align`` train them: built with a proof, saved as the registry reads.

- Weights come strictly from the file that was named, and its digest goes into ``stage.json``.
- A text tower of our own that begins at nothing gets a tokenizer made of the texts that it is to read.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwsi.encoders import registry
from hwsi.encoders.locate import locate
from hwsi.encoders.text_nano import TextNano, train_tokenizer
from hwsi.encoders.weights import initialise, load_strict, metadata, save, sha256
from hwsi.errors import HwsiError, Reason
from hwsi.training.stages.align_config import Tower
from hwsi.training.stages.align_model import AlignHeads

BEGUN = "none"
"""What stands for the digest of weights that were random."""


def build_tower(tower: Tower, scale: str, texts: Callable[[], Iterable[str]] = list) -> tuple[Any, str]:
    """An encoder to train, and the digest of the weights that it has.

    Args:
        tower: which, with which weights. scale: that it must encode.
        texts: what a text tower is to read; asked for only where a tokenizer is to be made.

    Raises:
        HwsiError: ENCODER_UNKNOWN, WEIGHTS_MISSING, WEIGHTS_MISMATCH; OPTION_INVALID for an encoder of another scale
            and for one that learns nothing.
    """
    spec = registry.get(tower.id)
    if spec.scale != scale:
        what = f"{spec.id} encodes a {spec.scale}, not a {scale}"
        raise HwsiError(Reason.OPTION_INVALID, what, f"name an encoder of the scale {scale}")
    if tower.weights == "none":
        encoder, digest = spec.build(weights=None), BEGUN
        if isinstance(encoder, TextNano):
            tokenizer = train_tokenizer(texts())
            encoder = initialise(lambda: TextNano(tokenizer), None)
            encoder.spec = spec
    else:
        # what has no weights is refused below
        file = None if not spec.has_weights else locate(spec) if tower.weights == "found" else tower.weights
        encoder, digest = spec.build(weights=file), sha256(file) if file is not None else BEGUN  # type: ignore[arg-type]
    # a forward of its own: ``encode`` runs without gradients
    if not isinstance(encoder, nn.Module) or type(encoder).forward is nn.Module.forward:
        what = f"{spec.id} is nothing that can be trained here"
        raise HwsiError(Reason.OPTION_INVALID, what, f"name a {scale} encoder with weights of its own")
    if not any(True for _ in encoder.parameters()):
        raise HwsiError(Reason.OPTION_INVALID, f"{spec.id} has no weights to train", f"name another {scale} encoder")
    return encoder, digest


def save_tower(encoder: Any, path: Path) -> str:
    """Write an encoder as ``spec.build(weights=path)`` reads it; returns the digest of the file."""
    if isinstance(encoder, TextNano):
        encoder.save(path)
    else:
        save(encoder, path)
        if getattr(encoder, "tokenizer", None) is not None:
            encoder.tokenizer.save(str(path.with_name("tokenizer.json")))
    return sha256(path)


def save_heads(heads: AlignHeads, path: Path) -> str:
    """Write heads with their widths; returns the digest of the file."""
    dims = {name: layer.in_features for name, layer in heads.of.items()}
    width = next(layer.out_features for layer in heads.of.values())
    save(heads, path, texts={"heads": json.dumps({"dims": dims, "width": width})})
    return sha256(path)


def load_heads(path: Path) -> AlignHeads:
    """Heads as :func:`save_heads` wrote them. Raises HwsiError(WEIGHTS_MISSING, WEIGHTS_MISMATCH)."""
    told = metadata(path).get("heads")
    if told is None:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{path} holds no heads", "take heads.safetensors of hwsi train align")
    heads = AlignHeads(**json.loads(told))
    load_strict(heads, path)
    return heads.eval()


def seeded(make: Callable[[], Any], seed: int) -> Any:
    """A module with the same random weights for the same seed; other random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
