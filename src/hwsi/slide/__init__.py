"""Slides: open any of them, exact microns per pixel, tissue, quality. Heavy imports happen on first use."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Level": "hwsi.slide.backend",
    "Slide": "hwsi.slide.slide",
    "open_slide": "hwsi.slide.slide",
    "slide_name": "hwsi.slide.slide",
    "Tissue": "hwsi.slide.tissue",
    "find_tissue": "hwsi.slide.tissue",
    "refuse_unsuitable": "hwsi.slide.suitability",
    "region_focus": "hwsi.slide.quality",
    "region_glance": "hwsi.slide.glance",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hwsi.slide' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
