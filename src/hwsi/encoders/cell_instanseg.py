"""Cell encoder InstanSeg: nuclei of any H&E image by a small network with a free licence; it tells no types.

- It needs the extra ``instanseg`` (``pip install instanseg-torch``) and the file ``instanseg.pt`` of the model
  ``brightfield_nuclei``. That file is TorchScript: operations on tensors, which torch's interpreter runs.
- A cell's vector are the twelve measurements of :data:`hwsi.encoders.cell_crops.MEASURES`.
- InstanSeg has no classes, and the hierarchy no type "unknown": all cells are "connective" with probability 0, so
  that who sorts by probability finds them last, and nobody counts them as tumour.
- Source: Goldsborough et al., InstanSeg (arXiv:2408.15954).

Notation: H, W an image at 0.5 um/px, m nuclei.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwsi.encoders.base import CellSet
from hwsi.encoders.cell_crops import MEASURES, at_work_mpp, describe
from hwsi.encoders.cell_slide_cards import INSTANSEG
from hwsi.encoders.nuclei import WORK_MPP
from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.tree import CELL_TYPES

_SMALL_PX = 1024 * 1024  # larger images are tiled by InstanSeg


class CellInstanSeg(nn.Module):
    """``script`` is the TorchScript module; the package prepares images, tiles them and joins the tiles."""

    spec = INSTANSEG

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def encode(
        self, image: NDArray[np.uint8], mpp: float, core: tuple[float, float, float, float] | None = None
    ) -> CellSet:
        """Cells of RGB uint8 (H, W, 3) at ``mpp`` with their centroid inside ``core``; see the protocol.

        Raises:
            HwsiError: TOO_COARSE above 0.8 um/px, OPTION_INVALID for what is no RGB image.
        """
        work, scale = at_work_mpp(image, mpp)
        nuclei = describe(work, self._segment(work), scale=scale, core=core)
        m = len(nuclei)
        return CellSet(
            xy=nuclei.xy,
            contours=nuclei.contours,
            area_um2=nuclei.area_um2,
            type=np.full(m, CELL_TYPES.index("connective"), np.int64),
            type_prob=np.zeros(m, np.float32),
            features=nuclei.measures.reshape(m, len(MEASURES)),
        )

    @torch.inference_mode()
    def _segment(self, work: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(H, W, 3) at 0.5 um/px -> labels (H, W), numbers 1..m without gaps."""
        at = next((str(p.device) for p in self.script.parameters()), "cpu")
        runner = import_module("instanseg").InstanSeg(self.script, device=at, verbosity=0)
        small = work.shape[0] * work.shape[1] <= _SMALL_PX
        run = runner.eval_small_image if small else runner.eval_medium_image
        pixels = torch.from_numpy(np.ascontiguousarray(work.transpose(2, 0, 1)))
        labels = run(pixels, pixel_size=WORK_MPP, return_image_tensor=False, target="nuclei")
        found = labels.reshape(labels.shape[-2:]).round().long().cpu().numpy()
        numbers, inverse = np.unique(found, return_inverse=True)
        renamed = inverse.reshape(found.shape) + (0 if numbers[0] == 0 else 1)
        return np.asarray(renamed, np.int32)


def build(weights: Path | None) -> CellInstanSeg:
    """The encoder with the TorchScript file of ``brightfield_nuclei``.

    Raises:
        HwsiError: EXTRA_MISSING without the package; WEIGHTS_MISSING; WEIGHTS_MISMATCH for what is no TorchScript.
    """
    if find_spec("instanseg") is None:
        todo = "pip install instanseg-torch"
        raise HwsiError(Reason.EXTRA_MISSING, "cells by InstanSeg need the package instanseg-torch", todo)
    if weights is None or not weights.is_file():
        raise HwsiError(
            Reason.WEIGHTS_MISSING,
            f"there is no InstanSeg model at {weights}",
            f"fetch {INSTANSEG.hub} and hand in its {INSTANSEG.hub_file}",
        )
    try:
        script = torch.jit.load(str(weights), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{weights} is no TorchScript: {first}", "fetch it again") from error
    return CellInstanSeg(script).eval()
