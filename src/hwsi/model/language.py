"""The language model of a model alone, and folders that are written whole or not at all."""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told


def plain_language_model(model: Any) -> Any:
    """The causal language model of a model of either kind; it shares its weights."""
    with torch.device("meta"):
        language_model: Any = AutoModelForCausalLM.from_config(model.config.text_config)
    setattr(language_model, language_model.base_model_prefix, model.model.language_model)
    language_model.set_output_embeddings(model.lm_head)
    language_model.generation_config = model.generation_config
    return language_model


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends without an error.

    Errors: output_unwritable, disk_full.
    """
    if folder.exists():
        raise HwsiError(Reason.OUTPUT_UNWRITABLE, f"{folder} is there already", "choose another folder")
    part = folder.with_name(f".{folder.name}.part")
    with told(folder):
        rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
            part.replace(folder)
        finally:
            rmtree(part, ignore_errors=True)
