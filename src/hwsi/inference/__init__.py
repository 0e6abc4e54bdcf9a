"""A slide under study: ask it, and see what the answer rests on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsi.inference.answer import Answer, Evidence, Provenance
    from hwsi.inference.report import Report, Statement
    from hwsi.inference.resample_session import ResampleSession
    from hwsi.inference.session import Session, study
    from hwsi.inference.studied import StudiedSlide

# public name -> module that defines it; resolved on first use, since the session needs torch
_PUBLIC = {
    "Answer": "answer",
    "Evidence": "answer",
    "Provenance": "answer",
    "Report": "report",
    "Statement": "report",
    "ResampleSession": "resample_session",
    "Session": "session",
    "StudiedSlide": "studied",
    "study": "session",
}

__all__ = [
    "Answer",
    "Evidence",
    "Provenance",
    "Report",
    "ResampleSession",
    "Session",
    "Statement",
    "StudiedSlide",
    "study",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
