"""Slide encoders whose architecture is code of their Hub repository: TITAN and PRISM, run only where that was trusted.

- Such code may do anything. It is refused by default; who has read it says so (``hwsi encode --trust-remote-code``, or
  ``trust_remote_code=True``).
- It is run from a folder on this machine, never fetched here: what was read is what is run.
- Both take vectors of patches, not of regions: hand in the slide's patches as the protocol's "regions". TITAN wants
  those of conch_v15 (768 numbers, 512 px at 0.5 um/px), PRISM those of virchow (2560 numbers, 224 px at 0.5 um/px).

Notation: B slides, R patches, D width of a patch vector.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwsi.encoders.cell_slide_cards import PRISM, TITAN
from hwsi.encoders.registry import EncoderSpec
from hwsi.errors import HwsiError, Reason

_PATCH_PX = 512
_NAMED = 12  # missing tensors that are named one by one
_PATCH_MM = _PATCH_PX * 0.5e-3  # side of TITAN's patches on the glass


class Titan(nn.Module):
    """TITAN's vision tower (arXiv:2411.19666). ``model`` has ``encode_slide_from_patch_features``."""

    spec = TITAN

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @torch.no_grad()
    def encode(self, regions: Tensor, mask: Tensor, centre_mm: Tensor) -> Tensor:
        """Patches (B, R, 768) of a regular grid, bool (B, R), their centres (B, R, 2) in mm -> float32 (B, 768).

        Raises:
            HwsiError: OPTION_INVALID for vectors of another width.
        """
        _check_width(regions, 768, "titan", "conch_v15")
        out = []
        for row, present, centre in zip(regions, mask, centre_mm, strict=True):
            if not present.any():
                out.append(row.new_zeros(TITAN.dim, dtype=torch.float32))
                continue
            at = centre[present].double()
            # the model divides and rounds down, which a rounding error would move by a whole patch: it is given
            # the places of the grid themselves
            place = ((at - at.amin(0)) / _PATCH_MM).round().long()
            features = row[present].float()[None]
            found = self.model.encode_slide_from_patch_features(features, (place * _PATCH_PX)[None], _PATCH_PX)
            out.append(found.float().reshape(-1))
        return torch.stack(out)


class Prism(nn.Module):
    """PRISM's Perceiver (arXiv:2405.10254). ``model`` has ``slide_representations``; places are not looked at."""

    spec = PRISM

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @torch.no_grad()
    def encode(self, regions: Tensor, mask: Tensor, centre_mm: Tensor) -> Tensor:
        """Patches (B, R, 2560), bool (B, R), centres (B, R, 2) -> float32 (B, 1280).

        Raises:
            HwsiError: OPTION_INVALID for vectors of another width.
        """
        _check_width(regions, 2560, "prism", "virchow")
        out = []
        for row, present in zip(regions, mask, strict=True):
            if not present.any():
                out.append(row.new_zeros(PRISM.dim, dtype=torch.float32))
                continue
            found = self.model.slide_representations(row[present].float()[None])["image_embedding"]
            out.append(found.float().reshape(-1))
        return torch.stack(out)


def titan(weights: Path | None, *, trust_remote_code: bool = False) -> Titan:
    """TITAN from a downloaded snapshot of its repository; ``weights`` is the file ``model.safetensors`` in it.

    Raises:
        HwsiError: OPTION_INVALID without trust; WEIGHTS_MISSING, EXTRA_MISSING, WEIGHTS_MISMATCH.
    """
    return Titan(_run(TITAN, weights, trust_remote_code)).eval()


def prism(weights: Path | None, *, trust_remote_code: bool = False) -> Prism:
    """PRISM from a downloaded snapshot of its repository; ``weights`` is the file ``model.safetensors`` in it.

    Raises:
        HwsiError: OPTION_INVALID without trust; WEIGHTS_MISSING, EXTRA_MISSING, WEIGHTS_MISMATCH.
    """
    return Prism(_run(PRISM, weights, trust_remote_code)).eval()


def _run(spec: EncoderSpec, weights: Path | None, trust_remote_code: bool) -> Any:
    """The model that the code in the weights' folder makes."""
    revision = spec.revision or (weights.parent.name if weights is not None else "not pinned")
    if not trust_remote_code:
        raise HwsiError(
            Reason.OPTION_INVALID,
            f"{spec.id} runs code of {spec.hub} (revision {revision}, licence {spec.licence}), which was not trusted",
            f"read that code; then hwsi encode --trust-remote-code, or in Python "
            f"{spec.builder.replace(':', '.')}(file, trust_remote_code=True)",
        )
    if weights is None or not weights.is_file():
        raise HwsiError(
            Reason.WEIGHTS_MISSING,
            f"there is no snapshot of {spec.hub} at {weights}",
            f"download the repository at revision {revision} and hand in its {spec.hub_file}",
        )
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        model, told = AutoModel.from_pretrained(
            weights.parent, trust_remote_code=True, local_files_only=True, output_loading_info=True
        )
    except ImportError as error:
        what = f"the code of {spec.hub} needs packages that are not installed: {error}"
        raise HwsiError(Reason.EXTRA_MISSING, what, "install them") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        what = f"{weights.parent} is no whole snapshot of {spec.hub}: {weights.name}: {str(error).splitlines()[0]}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "download the whole repository") from error
    # transformers fills up with random numbers
    if lacking := sorted(told["missing_keys"]):
        what = f"{weights} lacks {', '.join(lacking[:_NAMED])}" + (", ..." if len(lacking) > _NAMED else "")
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "download the whole repository")
    return model


def _check_width(regions: Tensor, width: int, encoder_id: str, source: str) -> None:
    if regions.shape[-1] != width:
        what = f"{encoder_id} takes patch vectors of {width} numbers, not of {regions.shape[-1]}"
        raise HwsiError(Reason.OPTION_INVALID, what, f"encode the patches by {source}")
