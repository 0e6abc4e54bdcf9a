"""One registry of encoders: what there is, under which licence, and how to build it.

- A spec is data; listing imports neither torch nor any architecture. ``build`` imports the builder by name.
- An encoder is declared by calling :func:`register` in a module named in ``_DECLARED_IN`` (or in user code).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from hwsi.encoders.weights import embedded, sha256
from hwsi.errors import HwsiError, Reason

Scale = Literal["cell", "patch", "region", "slide", "text"]

# modules that declare encoders; they import nothing heavy
_DECLARED_IN = ("hwsi.encoders.nano",)
_SPECS: dict[str, EncoderSpec] = {}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What there is to know about an encoder before it is built.

    Attributes:
        id: name in the registry, such as ``patch-nano``.
        scale: cell, patch, region, slide or text.
        dim: width of its output.
        input_px: side of the square of pixels it sees; None where the input isn't pixels.
        mpp: microns per pixel of these pixels; None where the input isn't pixels.
        licence: SPDX identifier of the weights' licence.
        commercial: the licence allows commercial use.
        gated: the weights need a permission that each user asks for.
        revision: version or commit of the weights.
        builder: ``module:function``, called with the weights (a file or None) and giving the encoder.
        weights: name of the file in the package that holds the weights; None where they lie elsewhere.
        source: where the architecture or the weights come from, in words or as a DOI.
    """

    id: str
    scale: Scale
    dim: int
    input_px: int | None
    mpp: float | None
    licence: str
    commercial: bool
    gated: bool
    revision: str
    builder: str
    weights: str | None = None
    source: str = field(default="", compare=False)

    def build(self, device: str = "cpu", *, weights: Path | Literal["embedded"] | None = "embedded") -> Any:
        """The encoder on ``device``, in evaluation mode, with ``encoder.spec`` set to this.

        Args:
            weights: ``embedded`` for those of the package, a safetensors file, or None for a seeded random
                initialisation (training and tests).

        Raises:
            HwsiError: WEIGHTS_MISSING, WEIGHTS_MISMATCH.
        """
        module, function = self.builder.split(":")
        at = embedded(self._embedded_name()) if weights == "embedded" else weights
        encoder = getattr(import_module(module), function)(at)
        encoder.spec = self
        return encoder.to(device).eval()

    def weights_sha256(self) -> str:
        """Hex digest of the embedded weights. Raises HwsiError(WEIGHTS_MISSING)."""
        return sha256(embedded(self._embedded_name()))

    def _embedded_name(self) -> str:
        if self.weights is None:
            raise HwsiError(
                Reason.WEIGHTS_MISSING, f"the package holds no weights of {self.id}", "hand in a weights file"
            )
        return self.weights


def register(spec: EncoderSpec) -> EncoderSpec:
    """Add ``spec``. A second, different spec under the same id is a bug of the caller: ValueError."""
    if spec.scale not in get_args(Scale):
        raise ValueError(f"{spec.id}: scale {spec.scale!r} is none of {get_args(Scale)}")
    if _SPECS.setdefault(spec.id, spec) != spec:
        raise ValueError(f"{spec.id} is already registered with other values")
    return spec


def get(encoder_id: str) -> EncoderSpec:
    """The spec of an id. Raises HwsiError(ENCODER_UNKNOWN) that names near matches."""
    _declare()
    if encoder_id not in _SPECS:
        near = difflib.get_close_matches(encoder_id.lower(), _SPECS, n=3, cutoff=0.4)
        raise HwsiError(
            Reason.ENCODER_UNKNOWN,
            f"no encoder is called {encoder_id!r}",
            f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(_SPECS))}",
        )
    return _SPECS[encoder_id]


def available(scale: Scale | None = None) -> tuple[EncoderSpec, ...]:
    """All specs (of one scale), ordered by id."""
    _declare()
    return tuple(spec for _, spec in sorted(_SPECS.items()) if scale in (None, spec.scale))


@cache
def _declare() -> None:
    for name in _DECLARED_IN:
        import_module(name)
