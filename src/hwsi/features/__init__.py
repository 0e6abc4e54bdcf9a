"""The feature file of a slide, and GeoJSON of what is in it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsi.features.file import check_features, load_features, read_features, write_features
    from hwsi.features.geojson import evidence_geojson, write_evidence, write_geojson
    from hwsi.features.slide_features import SlideFeatures

# public name -> module; resolved on first use, since HDF5 is not needed to import the package
_PUBLIC = {
    "SlideFeatures": "slide_features",
    "check_features": "file",
    "evidence_geojson": "geojson",
    "load_features": "file",
    "read_features": "file",
    "write_evidence": "geojson",
    "write_features": "file",
    "write_geojson": "geojson",
}

__all__ = [
    "SlideFeatures",
    "check_features",
    "evidence_geojson",
    "load_features",
    "read_features",
    "write_evidence",
    "write_features",
    "write_geojson",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
