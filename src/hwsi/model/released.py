"""The authors' release on disk: read strictly, written back.

- A folder in that layout is a Hugging Face language model with its tokenizer, ``projector_config.json``, and the
  projector in one of three pickles. Pickles are read with ``weights_only=True``; one that holds code is refused.
- Nothing is downloaded: ``Bastech/MLLM-HWSI`` is looked for in the local Hub cache.
- A projector whose LayerNorms are exactly one and zero was never trained (the release's last training stage can write
  such a file); loading it warns, since answers then do not rest on the slide.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hwsi.errors import HwsiError, Reason
from hwsi.model.config import HwsiResampleConfig
from hwsi.model.language import new_folder, plain_language_model
from hwsi.model.resample import ResampleVisual
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.strict import check_loading, quiet

HUB = "Bastech/MLLM-HWSI"
SYSTEM = "You are an expert histopathology assistant."
"""The system message that the released model was trained with."""

CONFIG = "projector_config.json"
FILES = ("vl_projector.pt", "best_vl_projector.pt", "pytorch_model.bin")
KEYS = ("vl_projector_state_dict", "pathology_encoder_state_dict", "state_dict")
"""Where the projector's weights may lie, and under which key of the file (or bare)."""

# our name of a scale's projector, part of the fusion or resampler -> the release's
_SCALES = {"slide": "wsi", "region": "region", "patch": "patch", "cell": "cell"}
_LAYERS = {"mlp": {"norm": 0, "up": 1, "out": 4}, "linear": {"norm": 0, "out": 1}}
_PARTS = {
    "fusion.norm": "fusion.fuse.0",
    "fusion.up": "fusion.fuse.1",
    "fusion.out": "fusion.fuse.4",
    "fusion.out_norm": "fusion.out_norm",
    "resampler.norm1": "compressor.norm1",
    "resampler.attn.out_proj": "compressor.attn.out_proj",
    "resampler.norm2": "compressor.norm2",
    "resampler.up": "compressor.mlp.0",
    "resampler.out": "compressor.mlp.3",
}
_BARE = {
    "resampler.queries": "compressor.queries",
    "resampler.attn.in_proj_weight": "compressor.attn.in_proj_weight",
    "resampler.attn.in_proj_bias": "compressor.attn.in_proj_bias",
}
_TODO = (
    f"use a whole folder in the layout of {HUB}: config.json and the language model, tokenizer, {CONFIG}, {FILES[0]}"
)
_NAMED = 12
_FIXED = HwsiResampleConfig()
"""What the release's settings do not name is as here."""


class NeverTrained(UserWarning):
    """The projector is as at birth."""


def released_names(projector: str) -> dict[str, str]:
    """Our key of the visual part -> the release's, for a projector of kind ``mlp`` or ``linear``."""
    parts = dict(_PARTS)
    for ours, theirs in _SCALES.items():
        for name, number in _LAYERS[projector].items():
            parts[f"projectors.{ours}.{name}"] = f"{theirs}_proj.proj.projector.{number}"
    both = {f"{a}.{kind}": f"{b}.{kind}" for a, b in parts.items() for kind in ("weight", "bias")}
    return both | _BARE


def is_released(folder: Path) -> bool:
    """Whether a folder is in the release's layout."""
    return any((folder / name).is_file() for name in (CONFIG, *FILES[:2]))


def load_released(
    source: str | Path = HUB, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> tuple[HwsiResampleForConditionalGeneration, HwsiResampleProcessor]:
    """The released model and its processor.

    Args:
        source: a local folder, or the Hub's name, which is looked for in the local cache.
        dtype: of the language model; the projector is float32 whatever this is.
        device: where the model goes.

    Returns:
        The model in evaluation mode, and a processor with masks everywhere (set ``processor.masking = "none"`` for
        what the release does at inference).

    Errors: weights_missing, weights_mismatch.

    Warns: the projector was never trained.
    """
    folder = Path(source) if Path(source).is_dir() else _cached(str(source))
    settings, weights, file = _projector(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, local_files_only=True
            )
    except SafetensorError as error:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"weights in {folder} are damaged: {error}", _TODO) from error
    except (OSError, ValueError) as error:
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no language model in {folder}: {error}", _TODO) from error
    language_model, info = loaded
    check_loading(info, folder)
    config = _config(settings, language_model.config, folder)
    visual = ResampleVisual(config).float()
    _load_strict(visual, weights, config.projector, file)
    with torch.device("meta"):  # its parts are there already: no second copy of the language model
        model = HwsiResampleForConditionalGeneration(config)
    model.model.visual = visual
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    model.generation_config = language_model.generation_config
    model.to(device)  # type: ignore[arg-type]
    model.eval()
    if never_trained(visual):
        what = f"the projector in {file} was never trained (every LayerNorm is exactly one and zero)"
        warnings.warn(f"{what}: answers do not rest on the slide", NeverTrained, stacklevel=2)
    return model, HwsiResampleProcessor.for_model(config, tokenizer, system=SYSTEM)


def save_released(
    model: HwsiResampleForConditionalGeneration, processor: HwsiResampleProcessor, folder: str | Path
) -> None:
    """Write a model in the release's layout.

    Args:
        model, processor: what is written; the processor's system words and masking have no place in that layout.
        folder: a new one, whole or not there.

    Errors: option_invalid (heads or feature widths that the layout cannot tell), output_unwritable, disk_full.
    """
    config = model.config
    if (config.heads, config.dims) != (_FIXED.heads, _FIXED.dims):
        what = f"the release's layout has no place for {config.heads} heads and features of {config.dims}"
        todo = f"it always has {_FIXED.heads} heads and {_FIXED.dims}; keep the model in our own layout"
        raise HwsiError(Reason.OPTION_INVALID, what, todo)
    names = released_names(config.projector)
    state = {names[key]: value.detach().cpu() for key, value in model.model.visual.state_dict().items()}
    settings = {
        "llm_dim": config.text_config.hidden_size,
        "hidden_dim": config.hidden,
        "dropout": config.dropout,
        "use_layernorm": True,
        "num_query_tokens": config.queries,
        "projector_type": config.projector,
    }
    with new_folder(Path(folder)) as part, quiet():
        plain_language_model(model).save_pretrained(part)
        processor.tokenizer.save_pretrained(part)
        (part / CONFIG).write_text(json.dumps(settings, indent=2), "utf-8")
        torch.save({KEYS[0]: state}, part / FILES[0])


def never_trained(visual: ResampleVisual) -> bool:
    """Whether every LayerNorm is as at birth: weights exactly one, biases exactly zero."""
    norms = [module for module in visual.modules() if isinstance(module, torch.nn.LayerNorm)]
    return all(bool((norm.weight == 1).all() and (norm.bias == 0).all()) for norm in norms)


def _cached(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise HwsiError(
            Reason.WEIGHTS_MISSING,
            f"{name} is neither a folder nor in the Hub cache {constants.HF_HUB_CACHE}",
            f"fetch it from https://huggingface.co/{HUB} where there is a network (hf download {HUB}) and put it into "
            "that cache, or hand in the folder where it lies",
        ) from error


def _projector(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """Settings and weights of the projector, and the file that holds these."""
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no projector in {folder} ({', '.join(FILES)})", _TODO)
    try:
        payload: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle can fail in any way; torch names what it would not run
        what = f"{file} is damaged, or holds code, which is never run: {str(error).splitlines()[0][:200]}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, _TODO) from error
    held = payload if isinstance(payload, dict) else {}
    weights = next((held[key] for key in KEYS if key in held), held)
    if not isinstance(weights, dict) or not weights or not all(isinstance(x, Tensor) for x in weights.values()):
        what = f"{file} holds no weights, neither bare nor under {', '.join(KEYS)}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, _TODO)
    settings = held.get("projector_cfg")
    if (folder / CONFIG).is_file():
        try:
            settings = json.loads((folder / CONFIG).read_text("utf-8"))
        except ValueError as error:
            raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{folder / CONFIG} is damaged: {error}", _TODO) from error
    if not isinstance(settings, dict):
        what = f"nothing in {folder} says how the projector is built (no {CONFIG}, no projector_cfg in {file.name})"
        raise HwsiError(Reason.WEIGHTS_MISSING, what, _TODO)
    return settings, weights, file


def _config(settings: dict[str, Any], text_config: Any, folder: Path) -> HwsiResampleConfig:
    wanted = {"llm_dim", "hidden_dim", "num_query_tokens", "projector_type"}
    if wanted - settings.keys():
        what = f"the projector's settings in {folder} lack {', '.join(sorted(wanted - settings.keys()))}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, _TODO)
    if settings["llm_dim"] != text_config.hidden_size:
        what = f"the projector in {folder} is {settings['llm_dim']} wide, its language model {text_config.hidden_size}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, _TODO)
    if not settings.get("use_layernorm", True) or settings["projector_type"] not in _LAYERS:
        what = f"projector '{settings['projector_type']}', use_layernorm {settings.get('use_layernorm')} in {folder}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"unknown {what}", f"use {' or '.join(_LAYERS)} with LayerNorms")
    return HwsiResampleConfig(
        text_config=text_config,
        projector=settings["projector_type"],
        hidden=settings["hidden_dim"],
        queries=settings["num_query_tokens"],
        dropout=settings.get("dropout", 0.0),
    )


def _load_strict(visual: ResampleVisual, weights: dict[str, Tensor], projector: str, file: Path) -> None:
    state = visual.state_dict()
    names = {theirs: ours for ours, theirs in released_names(projector).items()}
    faults = {
        "missing": sorted(names.keys() - weights.keys()),
        "unexpected": sorted(str(key) for key in weights.keys() - names.keys()),
        "of another shape": [
            f"{theirs} {tuple(weights[theirs].shape)} for {tuple(state[ours].shape)}"
            for theirs, ours in sorted(names.items())
            if theirs in weights and weights[theirs].shape != state[ours].shape
        ],
    }
    if any(faults.values()):
        what = "; ".join(f"{kind}: {_some(keys)}" for kind, keys in faults.items() if keys)
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"the projector in {file} does not fit; {what}", _TODO)
    visual.load_state_dict({ours: weights[theirs] for theirs, ours in names.items()}, strict=True)


def _some(keys: list[str]) -> str:
    """The first names; a language model in the projector's place would have hundreds."""
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
