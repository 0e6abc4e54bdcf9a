"""Hierarchical whole-slide images and language.

- ``hwsi.study(slide)`` opens a slide, encodes it at four scales (once) and answers questions about it;
- everything heavy (torch, transformers, OpenSlide) is imported on first use, so ``import hwsi`` is quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it; resolved on first use
_PUBLIC = {
    "open_slide": "hwsi.slide",
    "Slide": "hwsi.slide",
    "find_tissue": "hwsi.slide",
    "Hierarchy": "hwsi.hierarchy",
    "encode_slide": "hwsi.encoding",
    "load_features": "hwsi.features",
    "load": "hwsi.model",
    "study": "hwsi.inference",
    "Answer": "hwsi.inference",
    "HwsiError": "hwsi.errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hwsi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
