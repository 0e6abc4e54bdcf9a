"""Hierarchical whole-slide images and language.

- ``hwsi.study(slide)`` opens a slide, encodes it at four scales (once) and answers questions about it;
- everything heavy (torch, transformers, OpenSlide) is imported on first use, so ``import hwsi`` is quick;
- ``hwsi.__version__`` is the installed package's, which has it from the git tag.
"""

from importlib import import_module
from typing import Any

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
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return globals().setdefault(name, version("hwsi"))
        except PackageNotFoundError:  # the source tree on the path, without an installation
            return globals().setdefault(name, "0+unknown")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hwsi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
