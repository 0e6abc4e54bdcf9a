"""Pixels to a feature file: one slide, resumable."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsi.encoding.encode import encode_slide, encode_to_file
    from hwsi.encoding.progress import Progress
    from hwsi.encoding.stack import Stack, load_stack
    from hwsi.encoding.timing import Timings

# public name -> module; resolved on first use, since encoding needs torch
_PUBLIC = {
    "Progress": "progress",
    "Stack": "stack",
    "Timings": "timing",
    "encode_slide": "encode",
    "encode_to_file": "encode",
    "load_stack": "stack",
}

__all__ = ["Progress", "Stack", "Timings", "encode_slide", "encode_to_file", "load_stack"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
