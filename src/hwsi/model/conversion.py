"""A model in another layout: ours and the release's into each other, and the language model alone.

- The language model as any tool reads it is a plain Hugging Face folder with its tokenizer, so that a server such as
  vLLM can serve it. Its weights are those of the model, adapters that training added merged in; nothing of the visual
  part is there.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from pathlib import Path
from typing import Literal

import torch

from hwsi.errors import HwsiError, Reason
from hwsi.model.checkpoint import load
from hwsi.model.language import new_folder, plain_language_model
from hwsi.model.released import is_released, save_released
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration
from hwsi.model.strict import quiet


def convert(
    source: str | Path, target: str | Path, *, dtype: torch.dtype = torch.float32
) -> Literal["ours", "released"]:
    """Our own checkpoint with ``fusion: resample`` to the release's layout, or the release's to ours.

    Args:
        source: a folder of either kind, or the Hub's name.
        target: a new folder, of the other kind.
        dtype: of the written language model; float32 loses nothing, the stored one takes no more room than it did.

    Returns:
        The layout that was written.

    Errors: weights_missing, weights_mismatch, option_invalid (a model of another fusion), output_unwritable.
    """
    model, processor = load(source, dtype=dtype)
    if not isinstance(model, HwsiResampleForConditionalGeneration):
        what = f"the model in {source} has fusion '{model.config.fusion}', which the release's layout cannot hold"
        raise HwsiError(Reason.OPTION_INVALID, what, "convert a model with fusion 'resample'")
    if not Path(source).is_dir() or is_released(Path(source)):
        with new_folder(Path(target)) as part, quiet():
            model.save_pretrained(part)
            processor.save_pretrained(part)
        return "ours"
    save_released(model, processor, target)
    return "released"


def write_language_model(source: str | Path, target: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write the language model of a model, with its tokenizer.

    Args:
        source: as of :func:`hwsi.model.load`. target: a new folder, whole or not there.
        dtype: of the written weights; float32 loses nothing.

    Errors: as of ``load``; output_unwritable, disk_full.
    """
    model, processor = load(source, dtype=dtype)
    with new_folder(Path(target)) as part, quiet():
        plain_language_model(model).save_pretrained(part)
        processor.tokenizer.save_pretrained(part)
