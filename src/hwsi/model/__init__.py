"""CCAF, projectors, fusion, the Hugging Face model and its processor.

- ``load("nano")`` or ``load(folder)`` gives a model and its processor, strictly loaded; the folder may be in the
  authors' released layout, and ``load("Bastech/MLLM-HWSI")`` is the release in the local Hub cache.
- Importing any public name from here registers the model with the Auto classes; ``import hwsi`` alone does
  not, and stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsi.model.attention import leave_out as leave_out
    from hwsi.model.build import add_scales as add_scales
    from hwsi.model.build import from_language_model as from_language_model
    from hwsi.model.checkpoint import load as load
    from hwsi.model.config import HwsiConfig as HwsiConfig
    from hwsi.model.config import HwsiResampleConfig as HwsiResampleConfig
    from hwsi.model.config import HwsiVisualConfig as HwsiVisualConfig
    from hwsi.model.conversion import convert as convert
    from hwsi.model.modeling import HwsiForConditionalGeneration as HwsiForConditionalGeneration
    from hwsi.model.modeling import HwsiModel as HwsiModel
    from hwsi.model.nano import build_nano as build_nano
    from hwsi.model.nano import nano_config as nano_config
    from hwsi.model.processor import HwsiProcessor as HwsiProcessor
    from hwsi.model.processor import SlidePrefix as SlidePrefix
    from hwsi.model.prompt import Layout as Layout
    from hwsi.model.prompt import Node as Node
    from hwsi.model.released import load_released as load_released
    from hwsi.model.released import save_released as save_released
    from hwsi.model.resample_model import HwsiResampleForConditionalGeneration as HwsiResampleForConditionalGeneration
    from hwsi.model.resample_processor import HwsiResampleProcessor as HwsiResampleProcessor
    from hwsi.model.scoring import PrefixCache as PrefixCache
    from hwsi.model.scoring import generate as generate
    from hwsi.model.scoring import prefill as prefill
    from hwsi.model.scoring import score as score
    from hwsi.model.strict import load_strict as load_strict
    from hwsi.model.strict import register as register
    from hwsi.model.tokenizer import train_nano_tokenizer as train_nano_tokenizer

_PUBLIC = {
    "leave_out": "attention",
    "add_scales": "build",
    "from_language_model": "build",
    "load": "checkpoint",
    "load_strict": "strict",
    "register": "strict",
    "HwsiConfig": "config",
    "HwsiResampleConfig": "config",
    "HwsiVisualConfig": "config",
    "HwsiForConditionalGeneration": "modeling",
    "HwsiModel": "modeling",
    "build_nano": "nano",
    "nano_config": "nano",
    "HwsiProcessor": "processor",
    "SlidePrefix": "processor",
    "Layout": "prompt",
    "Node": "prompt",
    "HwsiResampleForConditionalGeneration": "resample_model",
    "HwsiResampleProcessor": "resample_processor",
    "convert": "conversion",
    "load_released": "released",
    "save_released": "released",
    "PrefixCache": "scoring",
    "generate": "scoring",
    "prefill": "scoring",
    "score": "scoring",
    "train_nano_tokenizer": "tokenizer",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hwsi.model' has no attribute {name!r}")
    import_module("hwsi.model.strict")  # registers the Auto classes
    return getattr(import_module(f"hwsi.model.{_PUBLIC[name]}"), name)
