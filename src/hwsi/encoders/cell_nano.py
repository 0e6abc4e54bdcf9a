"""Cell encoder of the embedded preset: nuclei of any H&E image, each with a type and 64 numbers.

- Finding nuclei needs no weights (:mod:`hwsi.encoders.nuclei`); a small network over a crop of 16 um with the
  nucleus' mask, and over twelve measurements, gives vector and type.
- It is trained on the kinds of cells that the phantom draws; a type's probability is the sum over its kinds.
"""

from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.base import CellSet
from hwsi.encoders.cell_crops import MEASURES, find_nuclei
from hwsi.encoders.nano import CELL
from hwsi.encoders.weights import initialise
from hwsi.hierarchy.tree import CELL_TYPES
from hwsi.phantom.drawing import CellKind

TYPE_OF_KIND = {
    CellKind.TUMOUR: "neoplastic",
    CellKind.EPITHELIUM: "epithelial",
    CellKind.LYMPHOCYTE: "inflammatory",
    CellKind.FIBROBLAST: "connective",
    CellKind.MITOSIS: "neoplastic",
    CellKind.APOPTOTIC: "dead",
    CellKind.PLASMA: "inflammatory",
    CellKind.ENDOTHELIUM: "connective",
    CellKind.MYOEPITHELIUM: "epithelial",
    CellKind.SMOOTH_MUSCLE: "connective",
}
_CHUNK = 512


class CellNano(nn.Module):
    """``forward``: crops uint8 (m, 32, 32, 4), measures float (m, 12) -> vectors (m, 64), logits of kinds (m, 10).

    Column ``k`` of the logits is ``CellKind(k + 1)``. ``fit`` sets the standardisation before training.
    """

    spec = CELL
    mean: Tensor
    deviation: Tensor
    kind_to_type: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 32, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        self.look = nn.Linear(4 * 4 * 64, 64)
        self.mix = nn.Linear(64 + len(MEASURES), 96)
        self.out = nn.Linear(96, 64)
        self.kinds = nn.Linear(64, len(CellKind))
        self.register_buffer("mean", torch.zeros(len(MEASURES)))
        self.register_buffer("deviation", torch.ones(len(MEASURES)))
        to_type = torch.zeros(len(CellKind), len(CELL_TYPES))
        for kind, name in TYPE_OF_KIND.items():
            to_type[kind - 1, CELL_TYPES.index(name)] = 1
        self.register_buffer("kind_to_type", to_type, persistent=False)

    def fit(self, measures: Tensor) -> None:
        """Set mean and deviation of the measurements from those (n, 12) of a training set."""
        self.mean.copy_(measures.mean(0))
        self.deviation.copy_(measures.std(0).clamp(min=1e-3))

    def forward(self, crops: Tensor, measures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (m, 32, 32, 4), float (m, 12) -> (m, 64), (m, 10)."""
        x = 1 - crops.permute(0, 3, 1, 2).to(self.mean.dtype) / 127.5
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.relu(self.look(x.flatten(1)))
        # a nucleus far outside what was seen in training mustn't drown the picture
        m = ((measures - self.mean) / self.deviation).clamp(-4, 4)
        x = F.relu(self.mix(torch.cat([x, m], dim=1)))
        vectors = self.out(x)
        return vectors, self.kinds(F.relu(vectors))

    def type_probs(self, logits: Tensor) -> Tensor:
        """Logits of kinds (m, 10) -> probabilities (m, 5) of :data:`hwsi.hierarchy.tree.CELL_TYPES`."""
        return logits.softmax(-1) @ self.kind_to_type

    @torch.no_grad()
    def encode(
        self, image: NDArray[np.uint8], mpp: float, core: tuple[float, float, float, float] | None = None
    ) -> CellSet:
        """Cells of RGB uint8 (H, W, 3) at ``mpp`` with their centroid inside ``core``; see the protocol.

        Raises:
            HwsiError: TOO_COARSE above 0.8 um/px, OPTION_INVALID for what is no RGB image.
        """
        found = find_nuclei(image, mpp, core)
        at = self.mean.device
        vectors, probs = [torch.zeros(0, 64)], [torch.zeros(0, len(CELL_TYPES))]
        for start in range(0, len(found), _CHUNK):
            rows = slice(start, start + _CHUNK)
            crops = torch.from_numpy(found.crops[rows]).to(at)
            v, logits = self(crops, torch.from_numpy(found.measures[rows]).to(at))
            vectors.append(v.cpu())
            probs.append(self.type_probs(logits).cpu())
        best = torch.cat(probs).max(1)
        return CellSet(
            xy=found.xy,
            contours=found.contours,
            area_um2=found.area_um2,
            type=best.indices.numpy(),
            type_prob=best.values.numpy(),
            features=torch.cat(vectors).numpy(),
        )


def build(weights: Traversable | Path | None) -> CellNano:
    """The encoder with the weights of a file, or with seeded random ones."""
    return initialise(CellNano, weights)
