"""The encoders that read a slide: which a preset asks for, whether they fit together, and what tells them apart.

- A region encoder may have been made for vectors of another patch encoder than the one that the language model sees
  (``EncoderSpec.reads``): then both encode the same pixels. A slide encoder that reads patches reads the latter's.
- All weights are looked for before any is loaded, so that what is missing is said at once, and all of it.
- That widths agree is tried out, on one region of zeros: cards do not say what an encoder takes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hwsi.encoders import registry
from hwsi.encoders.base import CellEncoder, CellFusion, PatchEncoder, RegionEncoder, SlideEncoder
from hwsi.encoders.locate import LIST, find, locate, variable
from hwsi.encoders.registry import EncoderSpec
from hwsi.encoding.device import choose_device
from hwsi.errors import HwsiError, Reason
from hwsi.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stack:
    """One encoder for each scale.

    Attributes:
        cell, patch, region, slide: the encoders, on ``device``.
        weights_sha256: encoder id -> digest of its weights; none for what has no weights file.
        device: where they compute.
        region_patch: patch encoder whose vectors the region encoder reads, where it is not ``patch``.
        fusion: makes one vector of the cells of a patch, for a model that does not.
        batches: encoder id -> what was measured of it: ``batch``, ``channels_last``, ``images_per_s``
            (``hwsi.encoding.tuning``).
    """

    cell: CellEncoder
    patch: PatchEncoder
    region: RegionEncoder
    slide: SlideEncoder
    weights_sha256: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    region_patch: PatchEncoder | None = None
    fusion: CellFusion | None = None
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def patches(self) -> tuple[PatchEncoder, ...]:
        """The patch encoders, the language model's first; the region encoder reads the vectors of the last."""
        return (self.patch,) if self.region_patch is None else (self.patch, self.region_patch)

    def batch_of(self, encoder: PatchEncoder, preset: Preset) -> int:
        """How many patches an encoder takes at once."""
        if preset.patch_batch != "measured":
            return preset.patch_batch
        return int(self.batches[encoder.spec.id]["batch"]) if encoder.spec.id in self.batches else 1

    def identity(self) -> dict[str, dict[str, Any]]:
        """Encoder id -> what tells it apart: scale, revision, digest of the weights, width, licence."""
        return {
            spec.id: {
                "scale": spec.scale,
                "revision": spec.revision,
                "weights_sha256": self.weights_sha256.get(spec.id, ""),
                "dim": spec.dim,
                "licence": spec.licence,
            }
            for spec in self._specs
        }

    @property
    def _specs(self) -> tuple[EncoderSpec, ...]:
        fusion = () if self.fusion is None else (self.fusion.spec,)
        return (self.cell.spec, *fusion, *(e.spec for e in self.patches), self.region.spec, self.slide.spec)

    def check(self, preset: Preset) -> None:
        """Refuse a preset whose pixels a patch encoder does not see, and encoders that do not fit one another.

        An encoder that prepares its pixels (``pixels.Preparation``) resizes them: only the resolution must be its own.

        Raises:
            HwsiError: OPTION_INVALID.
        """
        for encoder in self.patches:
            spec = encoder.spec
            side = None if hasattr(encoder, "preparation") else spec.input_px
            if side not in (None, preset.patch_px) or spec.mpp not in (None, preset.read_mpp):
                raise HwsiError(
                    Reason.OPTION_INVALID,
                    f"preset {preset.name} reads patches of {preset.patch_px} px at {preset.read_mpp} um/px, "
                    f"but {spec.id} sees {spec.input_px} px at {spec.mpp} um/px",
                    "correct the preset",
                )
        if preset.patch_spread is not None and self.region_patch is None:
            what = f"patch_spread spares {self.patch.spec.id} nothing: the region encoder reads all of its vectors"
            raise HwsiError(Reason.OPTION_INVALID, what, "leave it out of the preset")
        wanted, read = self.region.spec.reads, self.patches[-1].spec
        if wanted not in ("", read.id):
            what = f"{self.region.spec.id} reads vectors of {wanted}, not of {read.id}"
            raise HwsiError(Reason.OPTION_INVALID, what, f"encode the patches by {wanted}, too")
        wanted, side = self.slide.spec.reads, self.slide.spec.input_px
        if wanted not in ("", self.patch.spec.id) or side not in (None, preset.patch_px):
            what = f"{self.slide.spec.id} reads patches of {wanted}" + (f" of {side} px" if side else "")
            what += f", not of {self.patch.spec.id} of {preset.patch_px} px"
            raise HwsiError(Reason.OPTION_INVALID, what, f"write patch: {wanted} and that size into the preset")
        self._try(preset)

    def _try(self, preset: Preset) -> None:
        """One region of zeros through the encoders of regions and slides."""
        import torch

        from hwsi.encoders.summaries import TISSUE_DIM, cells_dim

        side = preset.region_px // preset.patch_px
        grid = torch.arange(side, device=self.device)
        places = torch.cartesian_prod(grid, grid)[None]
        region, slide = self.region, self.slide
        width = self.patches[-1].spec.dim + (cells_dim(self.cell.spec.dim) if region.spec.with_cells else 0)
        patches = torch.zeros(1, side * side, width, device=self.device)
        there = torch.ones(1, side * side, dtype=torch.bool, device=self.device)
        tokens = _tried(region.spec, width, lambda: region.encode(patches, there, places))[:, None]
        if slide.spec.reads:
            tokens = tokens.new_zeros(1, 1, self.patch.spec.dim)
        width = tokens.shape[-1]
        if slide.spec.with_tissue:
            tokens = torch.cat([tokens, tokens.new_zeros(1, 1, TISSUE_DIM)], -1)
        _tried(slide.spec, width, lambda: slide.encode(tokens, there[:, :1], tokens.new_zeros(1, 1, 2)))
        if (fusion := self.fusion) is not None:
            cells = tokens.new_zeros(1, 1, self.cell.spec.dim)
            _tried(fusion.spec, self.cell.spec.dim, lambda: fusion(cells, there[:, :1]))


def _tried(spec: EncoderSpec, width: int, encode: "Callable[[], Tensor]") -> "Tensor":
    """What an encoder makes of one thing, (1, D). Raises HwsiError(OPTION_INVALID) if it can't, or D is another."""
    import torch

    try:
        with torch.inference_mode():
            made = encode().float()
    except (RuntimeError, IndexError) as error:
        what = f"{spec.id} does not read vectors of {width} numbers of the scale below: {str(error).splitlines()[0]}"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose encoders that fit one another") from error
    if made.shape != (1, spec.dim or width):
        what = f"{spec.id} makes {made.shape[-1]} numbers of vectors of {width}, where its card says {spec.dim}"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose encoders that fit one another")
    return made


@dataclass(frozen=True)
class Chosen:
    """Specs of the encoders of a preset; ``region_patch`` and ``fusion`` as in :class:`Stack`."""

    cell: EncoderSpec
    patch: EncoderSpec
    region: EncoderSpec
    slide: EncoderSpec
    region_patch: EncoderSpec | None
    fusion: EncoderSpec | None

    @property
    def all(self) -> tuple[EncoderSpec, ...]:
        """Each once, in the order in which a slide passes through them."""
        found = (self.cell, self.fusion, self.patch, self.region_patch, self.region, self.slide)
        return tuple(spec for spec in found if spec is not None)


def choose(preset: Preset) -> Chosen:
    """What a preset asks for, with the widths that means have in it; nothing is loaded.

    Raises:
        HwsiError: ENCODER_UNKNOWN; OPTION_INVALID for an encoder of another scale.
    """
    ids = preset.encoders
    cell, patch, region, slide = (registry.get(name) for name in (ids.cell, ids.patch, ids.region, ids.slide))
    extra = registry.get(region.reads) if region.reads not in ("", patch.id) else None
    wanted = [(cell, "cell"), (patch, "patch"), (region, "region"), (slide, "slide")]
    fusion = registry.get(ids.fusion) if ids.fusion else None
    wanted += [(spec, scale) for spec, scale in ((extra, "patch"), (fusion, "fusion")) if spec is not None]
    for spec, scale in wanted:
        if spec.scale != scale:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"preset {preset.name} takes {spec.id} for the scale {scale}, but it encodes a {spec.scale}",
                "correct the preset",
            )
    # a mean is as wide as what it reads
    region = region if region.dim else replace(region, dim=(extra or patch).dim)
    slide = slide if slide.dim else replace(slide, dim=region.dim)
    return Chosen(cell, patch, region, slide, extra, fusion)


def is_small(preset: Preset) -> bool:
    """Whether all weights of a preset's encoders are in the package. Raises as :func:`choose`."""
    return all(spec.weights or not spec.has_weights for spec in choose(preset).all)


def load_stack(preset: Preset, device: str = "auto", *, trust_remote_code: bool = False) -> Stack:
    """The encoders that a preset names, with the weights that are on this machine.

    Args:
        preset: which encoders.
        device: where they compute, see :func:`hwsi.encoding.device.choose_device`.
        trust_remote_code: the caller has read the code that encoders of the preset bring (TITAN, PRISM).

    Raises:
        HwsiError: ENCODER_UNKNOWN, WEIGHTS_MISSING (names all that are missing), WEIGHTS_MISMATCH, EXTRA_MISSING,
            OPTION_INVALID.
    """
    chosen = choose(preset)
    _refuse_missing(preset, chosen)
    at = choose_device(device, small=is_small(preset))
    digests = {spec.id: spec.weights_sha256() for spec in chosen.all}

    def build(spec: EncoderSpec | None) -> Any:
        return None if spec is None else spec.build(at, trust_remote_code=trust_remote_code)

    stack = Stack(
        cell=build(chosen.cell),
        patch=build(chosen.patch),
        region=build(chosen.region),
        slide=build(chosen.slide),
        weights_sha256=digests,
        device=at,
        region_patch=build(chosen.region_patch),
        fusion=build(chosen.fusion),
    )
    stack.check(preset)
    return stack


def _refuse_missing(preset: Preset, chosen: Chosen) -> None:
    missing = [spec for spec in chosen.all if spec.has_weights and find(spec) is None]
    if len(missing) == 1 or any(spec.weights for spec in missing):
        locate(missing[0])  # says it of one
    if missing:
        raise HwsiError(
            Reason.WEIGHTS_MISSING,
            f"preset {preset.name} needs weights that are not on this machine: {', '.join(s.id for s in missing)}",
            f"fetch {'; '.join(_source(spec) for spec in missing)}; list the files in "
            f"{os.environ.get('HWSI_WEIGHTS') or LIST} (a line 'id: /path' for each) or name them in variables such as "
            f"{variable(missing[0].id)}; hwsi doctor tells what else is needed",
        )


def _source(spec: EncoderSpec) -> str:
    place = spec.hub if spec.hub.startswith("http") else f"https://huggingface.co/{spec.hub}"
    ask = "; ask for access there first" if spec.gated else ""
    return f"{spec.id}: {spec.hub_file} from {place} (licence {spec.licence}{ask})"
