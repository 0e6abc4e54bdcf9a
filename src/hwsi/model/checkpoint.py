"""Saved models: strict loading, and the Auto classes.

- ``from_pretrained`` only warns when a weight is missing and puts a random one there; here that is an error
  which names every key.
- A checkpoint folder holds the model (safetensors) and its processor; nothing is fetched from anywhere.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
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

_TODO = "use a folder that save_pretrained of the model and the processor wrote, whole"
_KINDS: dict[str, tuple[Any, Any]] = {
    HwsiConfig.model_type: (HwsiForConditionalGeneration, HwsiProcessor),
    HwsiResampleConfig.model_type: (HwsiResampleForConditionalGeneration, HwsiResampleProcessor),
}
"""Type of a saved model -> classes of the model and of its processor."""


def register() -> None:
    """Make the Auto classes know the model; done on importing ``hwsi.model.checkpoint``."""
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
    kind, _ = _kind(folder)
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
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no weights in {folder}: {error}", _TODO) from error
    except SafetensorError as error:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"weights in {folder} are damaged: {error}", _TODO) from error
    model, info = loaded
    check_loading(info, folder)
    model.to(device)
    model.eval()
    return model


def load(
    path_or_preset: str | Path = "nano",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[Any, Any]:
    """A model and its processor.

    Args:
        path_or_preset: ``nano``, the one inside the package; a local checkpoint folder, ours or in the release's
            layout; or ``Bastech/MLLM-HWSI``, the release, if it lies in the local Hub cache.
        dtype, device: as of :func:`load_strict`.

    Errors: preset_unknown, and as of :func:`load_strict`.
    """
    from hwsi.model import released  # it stands on this module

    if str(path_or_preset) == released.HUB or released.is_released(Path(path_or_preset)):
        return released.load_released(path_or_preset, dtype=dtype, device=device)
    with ExitStack() as stack:
        folder = Path(path_or_preset)
        if str(path_or_preset) == "nano":
            folder = stack.enter_context(as_file(files("hwsi") / "weights" / "nano" / "model"))
            todo = "install a release of hwsi that holds them, or train them (recipes/nano.sh)"
            reason = Reason.WEIGHTS_MISSING
        else:
            todo, reason = "use 'nano' or a folder with a saved model", Reason.PRESET_UNKNOWN
        if not folder.is_dir():
            raise HwsiError(reason, f"no model '{path_or_preset}'", todo)
        model = load_strict(folder, dtype=dtype, device=device)
        try:
            processor = _kind(folder)[1].from_pretrained(folder, local_files_only=True)
        except OSError as error:
            raise HwsiError(Reason.WEIGHTS_MISSING, f"no processor in {folder}: {error}", _TODO) from error
    return model, processor


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
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"weights in {folder} do not fit; {'; '.join(problems)}", _TODO)


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


def _kind(folder: Path) -> tuple[Any, Any]:
    """Classes of the model and the processor that a folder holds; its language model may be an extension's."""
    extensions.load()
    file = folder / "config.json"
    if not file.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no model in {folder} (no config.json)", _TODO)
    try:
        config: Any = json.loads(file.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file} is damaged: {error}", _TODO) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _KINDS:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file} is of a '{kind}' model, not of ours", _TODO)
    return _KINDS[kind]


register()
