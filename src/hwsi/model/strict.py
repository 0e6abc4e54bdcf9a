"""Weights read strictly, and the Auto classes.

- ``from_pretrained`` only warns when a weight is missing and puts a random one there; here that is an error
  which names every key.
- A checkpoint folder holds the model (safetensors) and its processor; nothing is fetched from anywhere.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)
from transformers.utils import logging

from hwsi import extensions
from hwsi.errors import HwsiError, Reason
from hwsi.model.config import HwsiConfig, HwsiResampleConfig, HwsiVisualConfig
from hwsi.model.modeling import HwsiForConditionalGeneration, HwsiModel
from hwsi.model.processor import HwsiProcessor
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration, HwsiResampleModel
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.visual import HwsiVisual

TODO = "use a folder that save_pretrained of the model and the processor wrote, whole"
_KINDS: dict[str, tuple[Any, Any]] = {
    HwsiConfig.model_type: (HwsiForConditionalGeneration, HwsiProcessor),
    HwsiResampleConfig.model_type: (HwsiResampleForConditionalGeneration, HwsiResampleProcessor),
}
"""Type of a saved model -> classes of the model and of its processor."""


def register() -> None:
    """Make the Auto classes know the model; done on importing this module."""
    AutoConfig.register(HwsiConfig.model_type, HwsiConfig, exist_ok=True)
    AutoConfig.register(HwsiVisualConfig.model_type, HwsiVisualConfig, exist_ok=True)
    AutoModel.register(HwsiVisualConfig, HwsiVisual, exist_ok=True)
    AutoModel.register(HwsiConfig, HwsiModel, exist_ok=True)
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
        auto.register(HwsiConfig, HwsiForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(HwsiConfig, HwsiProcessor, exist_ok=True)
    AutoConfig.register(HwsiResampleConfig.model_type, HwsiResampleConfig, exist_ok=True)
    AutoModel.register(HwsiResampleConfig, HwsiResampleModel, exist_ok=True)
    for auto in (AutoModelForImageTextToText, AutoModelForCausalLM):
        auto.register(HwsiResampleConfig, HwsiResampleForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(HwsiResampleConfig, HwsiResampleProcessor, exist_ok=True)


def load_strict(folder: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Any:
    """A model from a folder, every weight of it from the file and every weight of the file in it.

    Args:
        folder: where ``save_pretrained`` wrote it.
        dtype: of the loaded weights, whatever they are stored in.
        device: where they go.

    Returns:
        The model in evaluation mode: of the class that the folder says, for ``fusion`` interleave or resample.

    Errors: weights_missing (no such checkpoint), weights_mismatch (all missing, unexpected and misshapen
        keys).
    """
    folder = Path(folder)
    kind, _ = kind_of(folder)
    try:
        with quiet():
            loaded: Any = kind.from_pretrained(
                folder,
                dtype=dtype,
                output_loading_info=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # so that these, too, are told by name
            )
    except OSError as error:
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no weights in {folder}: {error}", TODO) from error
    except SafetensorError as error:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"weights in {folder} are damaged: {error}", TODO) from error
    model, info = loaded
    check_loading(info, folder)
    model.to(device)
    model.eval()
    return model


def check_loading(info: dict[str, Any], folder: Path) -> None:
    """Refuse what ``output_loading_info`` only reports. Raises HwsiError(WEIGHTS_MISMATCH)."""
    problems = [
        f"{name}: {', '.join(sorted(str(key) for key in info[f'{name}_keys']))}"
        for name in ("missing", "unexpected", "mismatched")
        if info[f"{name}_keys"]
    ]
    if info.get("error_msgs"):
        problems.append(f"errors: {'; '.join(map(str, info['error_msgs']))}")
    if problems:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"weights in {folder} do not fit; {'; '.join(problems)}", TODO)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no table of missing keys on stderr: what is wrong is said by the error."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def kind_of(folder: Path) -> tuple[Any, Any]:
    """Classes of the model and the processor that a folder holds; its language model may be an extension's."""
    extensions.load()
    file = folder / "config.json"
    if not file.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no model in {folder} (no config.json)", TODO)
    try:
        config: Any = json.loads(file.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file} is damaged: {error}", TODO) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _KINDS:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file} is of a '{kind}' model, not of ours", TODO)
    return _KINDS[kind]


register()
