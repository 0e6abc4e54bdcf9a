"""One registry of encoders: what there is, under which licence, and how to build it.

- A spec is data; listing imports neither torch nor any architecture. ``build`` imports the builder by name.
- An encoder is declared by calling :func:`register` in a module named in ``_DECLARED_IN``, or in an extension.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from hwsi import extensions
from hwsi.encoders.locate import locate
from hwsi.encoders.weights import sha256
from hwsi.errors import HwsiError, Reason

Scale = Literal["cell", "patch", "region", "slide", "text", "fusion"]

# modules that declare encoders; they import nothing heavy
_DECLARED_IN = ("hwsi.encoders.nano", "hwsi.encoders.foundation", "hwsi.encoders.cell_slide_cards")
_SPECS: dict[str, EncoderSpec] = {}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What there is to know about an encoder before it is built.

    Attributes:
        id: name in the registry, such as ``patch-nano``.
        scale: cell, patch, region, slide or text; fusion of the cells of a patch to one vector.
        dim: width of its output; 0 for that of what it reads (a mean).
        input_px: side of the square of pixels it sees; None where the input isn't pixels.
        mpp: microns per pixel of these pixels; None where the input isn't pixels.
        licence: SPDX identifier of the weights' licence.
        commercial: the licence allows commercial use.
        gated: the weights need a permission that each user asks for.
        revision: version or commit of the weights.
        builder: ``module:function``, called with the weights (a file or None) and giving the encoder.
        weights: name of the file in the package that holds the weights; None where they lie elsewhere.
        trained_by: the command that makes the weights, where nobody has published any.
        hub: repository on the Hugging Face Hub (or an address) that has the weights, and ``hub_file`` in it.
        beside: (name, address) of a file that has to lie beside the weights, such as a tokenizer; empty for none.
        aliases: other spellings of the id.
        source: where the architecture or the weights come from, in words or as a DOI.
        with_cells: (region) reads a row on the cells of each patch behind its vector, see ``summaries.py``.
        with_tissue: (slide) reads two columns on the tissue of each region behind its vector.
        reads: id of the patch encoder whose vectors it reads. A region encoder without one reads those of the preset's
            own, whichever; a slide encoder without one reads regions.
        remote_code: it runs code of ``hub``, and only where that was trusted (``build(trust_remote_code=True)``).
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
    trained_by: str = ""
    hub: str = ""
    hub_file: str = ""
    beside: tuple[str, str] = ("", "")
    aliases: tuple[str, ...] = ()
    source: str = field(default="", compare=False)
    with_cells: bool = False
    with_tissue: bool = False
    reads: str = ""
    remote_code: bool = False

    def build(
        self,
        device: str = "cpu",
        *,
        weights: Path | Literal["found"] | None = "found",
        trust_remote_code: bool = False,
    ) -> Any:
        """The encoder on ``device``, in evaluation mode, with ``encoder.spec`` set to this.

        Args:
            weights: a file; ``found`` for what :mod:`hwsi.encoders.locate` finds; or None for a seeded random
                initialisation (training and tests).
            trust_remote_code: whoever calls has read the code that an encoder with ``remote_code`` runs.

        Raises:
            HwsiError: WEIGHTS_MISSING, WEIGHTS_MISMATCH; OPTION_INVALID for code that was not trusted.
        """
        module, function = self.builder.split(":")
        at = (locate(self) if self.has_weights else None) if weights == "found" else weights
        options = {"trust_remote_code": trust_remote_code} if self.remote_code else {}
        encoder = getattr(import_module(module), function)(at, **options)
        encoder.spec = self
        return encoder.to(device).eval()

    def check(self) -> None:
        """Whether the weights that are found fit: their names and shapes are read, not their numbers. Raises as above.

        Takes about a second, whatever their size.
        """
        from hwsi.encoders.checkpoints import shapes_only

        with shapes_only():
            self.build("meta")

    @property
    def has_weights(self) -> bool:
        """Whether there are any to find: a mean has none."""
        return bool(self.weights or self.hub or self.trained_by)

    def weights_sha256(self) -> str:
        """Hex digest of the weights that are found, empty for what has none. Raises HwsiError(WEIGHTS_MISSING)."""
        return sha256(locate(self)) if self.has_weights else ""


def register(spec: EncoderSpec) -> EncoderSpec:
    """Add ``spec``. A second, different spec under the same id is a bug of the caller: ValueError."""
    if spec.scale not in get_args(Scale):
        raise ValueError(f"{spec.id}: scale {spec.scale!r} is none of {get_args(Scale)}")
    if _SPECS.setdefault(spec.id, spec) != spec:
        raise ValueError(f"{spec.id} is already registered with other values")
    return spec


def get(encoder_id: str) -> EncoderSpec:
    """The spec of an id or of another spelling of it. Raises HwsiError(ENCODER_UNKNOWN) that names near matches."""
    _declare()
    if encoder_id not in _SPECS:
        for spec in _SPECS.values():
            if encoder_id.lower() in (spec.id.lower(), *(a.lower() for a in spec.aliases)):
                return spec
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
    extensions.load()
