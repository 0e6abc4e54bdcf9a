"""Cell encoder CellViT: nuclei of H&E at 0.25 um/px, each with one of five types and the tokens that it touches.

- An image is seen in windows of 256 px, the size of training, that overlap by 64 px (16 um). A nucleus is taken from
  the window where it lies deepest inside. What the borders of all windows cut, such as the largest nuclei of a tumour,
  is seen a second time, in a window around it.
- A nucleus' vector is the mean of the last block's tokens, before the final norm, whose 16 px its mask touches.
- The type is that of most of its pixels (HoVer-Net); its probability is the mean over these pixels of the softmax,
  where the vote's share would be one for nearly all.
- The network was trained at 0.25 um/px and is always shown that; other images are resized.

Notation: B windows, H, W an image, m nuclei, D width of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwsi.encoders import hover
from hwsi.encoders.base import CellSet
from hwsi.encoders.cell_crops import COARSEST_MPP
from hwsi.encoders.cell_slide_cards import CELLVIT_256, CELLVIT_SAM_H
from hwsi.encoders.cellvit_network import CLASSES, CellVitNetwork, Maps, cellvit_256, cellvit_sam_h
from hwsi.encoders.checkpoints import Naming, load_checkpoint, read_checkpoint
from hwsi.encoders.registry import EncoderSpec
from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.tree import CELL_TYPES

Image = NDArray[np.uint8]
Core = tuple[float, float, float, float]

WINDOW_PX = 256
OVERLAP_PX = 64
_MPP = 0.25
_SAME = 0.5  # of a nucleus' pixels already taken: it is the same one, seen by two windows
_TYPE_OF_CLASS = np.array([CELL_TYPES.index(name) for name in CLASSES[1:]])


@dataclass(frozen=True)
class _Find:
    """A nucleus as one window saw it; ``x``, ``y``, ``top`` and ``left`` in pixels of the whole image."""

    cut: bool
    depth: float
    x: float
    y: float
    top: int
    left: int
    mask: NDArray[np.bool_]
    type: int
    type_prob: float
    vector: NDArray[np.float32]

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the mask."""
        h, w = self.mask.shape
        return slice(self.top, self.top + h), slice(self.left, self.left + w)


class CellVit(nn.Module):
    """``maps`` runs the network on windows; ``encode`` finds the cells of an image of any size."""

    spec: EncoderSpec

    def __init__(self, network: CellVitNetwork) -> None:
        super().__init__()
        self.network = network
        self.batch = 4  # windows at once; who has measured a better number sets it
        # of the published checkpoints; a checkpoint that says otherwise is heard
        self.mean = (0.5, 0.5, 0.5)
        self.deviation = (0.5, 0.5, 0.5)

    @torch.no_grad()
    def maps(self, windows: Tensor) -> Maps:
        """Raw outputs for uint8 (B, H, W, 3), H and W multiples of 16, on the encoder's device."""
        at = self.network.encoder.pos_embed.device
        x = windows.to(at).permute(0, 3, 1, 2).float() / 255
        mean, deviation = (x.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.deviation))
        return self.network((x - mean) / deviation)  # type: ignore[no-any-return]

    def encode(self, image: Image, mpp: float, core: Core | None = None) -> CellSet:
        """Cells of RGB uint8 (H, W, 3) at ``mpp`` with their centroid inside ``core``; see the protocol.

        Raises:
            HwsiError: TOO_COARSE above 0.8 um/px, OPTION_INVALID for what is no RGB image.
        """
        work, zoom = _at_mpp(image, mpp)
        core = core or (-0.5, -0.5, image.shape[1] - 0.5, image.shape[0] - 0.5)
        finds = self._look(work, _to_work(core, zoom))
        xy = ((np.array([(f.x, f.y) for f in finds]).reshape(-1, 2) + 0.5) * zoom - 0.5).astype(np.float32)
        inside = (xy[:, 0] >= core[0]) & (xy[:, 0] < core[2]) & (xy[:, 1] >= core[1]) & (xy[:, 1] < core[3])
        kept = np.flatnonzero(inside)
        kept = kept[np.lexsort((xy[kept, 0], xy[kept, 1].round()))]
        ours = [finds[i] for i in kept.tolist()]
        corners = (np.array([f.left, f.top]) for f in ours)
        dim = self.spec.dim
        return CellSet(
            xy=xy[kept],
            contours=[
                ((hover.outline(f.mask) + corner + 0.5) * zoom - 0.5).astype(np.float32)
                for f, corner in zip(ours, corners, strict=True)
            ],
            area_um2=np.array([f.mask.sum() * _MPP**2 for f in ours], np.float32),
            type=np.array([f.type for f in ours], np.int64),
            type_prob=np.array([f.type_prob for f in ours], np.float32),
            features=np.array([f.vector for f in ours], np.float32).reshape(-1, dim),
        )

    def _look(self, work: Image, core: Core) -> list[_Find]:
        """The nuclei of an image at 0.25 um/px, each once; complete inside the core, more or less so around it."""
        h, w = work.shape[:2]
        finds = self._windows(
            work, [(y, x) for y in _starts(h, core[1], core[3]) for x in _starts(w, core[0], core[2])]
        )
        kept = _once(finds, (h, w))
        cut = [f for f in kept if f.cut and core[0] <= f.x < core[2] and core[1] <= f.y < core[3]]
        if not cut:
            return kept
        around = {(_clamped(f.y, h), _clamped(f.x, w)) for f in cut}
        return _once(finds + self._windows(work, sorted(around)), (h, w))

    def _windows(self, work: Image, corners: list[tuple[int, int]]) -> list[_Find]:
        """All that the windows with these first pixels (row, column) find, each nucleus as often as windows see it."""
        h, w = work.shape[:2]
        # glass around an image that is smaller than a window
        padding = ((0, max(0, WINDOW_PX - h)), (0, max(0, WINDOW_PX - w)), (0, 0))
        padded = np.pad(work, padding, constant_values=255) if min(h, w) < WINDOW_PX else work
        finds: list[_Find] = []
        for start in range(0, len(corners), self.batch):
            some = corners[start : start + self.batch]
            maps = self.maps(
                torch.from_numpy(np.stack([padded[y : y + WINDOW_PX, x : x + WINDOW_PX] for y, x in some]))
            )
            inside = (maps.nuclei[:, 1] > maps.nuclei[:, 0]).cpu().numpy()
            hv, tokens = maps.hv.float().cpu().numpy(), maps.tokens.float().cpu().numpy()
            probs = maps.types.float().softmax(1).cpu().numpy()
            for k, corner in enumerate(some):
                finds += _in_window(inside[k], hv[k], probs[k], tokens[k], corner, (h, w))
        return finds


def build_256(weights: Path | None) -> CellVit:
    """CellViT-256 with the weights of a published checkpoint, or with seeded random ones."""
    return _build(weights, cellvit_256, "CellViT256", CELLVIT_256)


def build_sam_h(weights: Path | None) -> CellVit:
    """CellViT-SAM-H with the weights of a published checkpoint, or with seeded random ones."""
    return _build(weights, cellvit_sam_h, "CellViTSAM", CELLVIT_SAM_H)


def _build(weights: Path | None, make: Callable[[], CellVitNetwork], arch: str, spec: EncoderSpec) -> CellVit:
    """Such a checkpoint has the keys ``arch``, ``config`` (flattened with dots) and ``model_state_dict``."""
    content = {} if weights is None else read_checkpoint(weights)
    if weights is not None and content.get("arch", arch) != arch:
        what = f"{weights.name} holds a {content['arch']}, not a {arch}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, f"hand in {spec.hub_file}")
    encoder = CellVit(load_checkpoint(make, weights, Naming(inside="model_state_dict")))
    config = content.get("config") or {}
    encoder.mean = tuple(config.get("transformations.normalize.mean", encoder.mean))
    encoder.deviation = tuple(config.get("transformations.normalize.std", encoder.deviation))
    encoder.spec = spec
    return encoder.eval()


def _in_window(
    inside: NDArray[np.bool_],
    hv: NDArray[np.float32],
    probs: NDArray[np.float32],
    tokens: NDArray[np.float32],
    corner: tuple[int, int],
    size: tuple[int, int],
) -> list[_Find]:
    """The nuclei of one window whose first pixel is ``corner`` (row, column) of an image of ``size``."""
    labels = hover.segment(inside, hv)
    nuclei = hover.describe(labels, probs.argmax(0))
    # where the image goes on behind the window's border: before and behind, in rows and columns
    before = [c > 0 for c in corner]
    behind = [c + WINDOW_PX < s for c, s in zip(corner, size, strict=True)]
    middle = (WINDOW_PX - 1) / 2
    finds = []
    for nucleus, vector in zip(nuclei, hover.mean_tokens(labels, tokens, nuclei), strict=True):
        r0, c0, r1, c1 = nucleus.box
        x, y = nucleus.centroid
        mask = labels[nucleus.window] == nucleus.number
        prob = probs[:, *nucleus.window][1:, mask].mean(1)
        class_ = nucleus.type - 1 if nucleus.type else int(prob.argmax())
        finds.append(
            _Find(
                cut=any(b and at == 0 for b, at in zip(before, (r0, c0), strict=True))
                or any(b and at == WINDOW_PX for b, at in zip(behind, (r1, c1), strict=True)),
                depth=middle - max(abs(x - middle), abs(y - middle)),
                x=x + corner[1],
                y=y + corner[0],
                top=r0 + corner[0],
                left=c0 + corner[1],
                mask=mask,
                type=int(_TYPE_OF_CLASS[class_]),
                type_prob=float(prob[class_] / prob.sum()),
                vector=vector,
            )
        )
    return finds


def _once(finds: list[_Find], size: tuple[int, ...]) -> list[_Find]:
    """Each nucleus once: whole ones first, those deep inside their window first, and none upon another."""
    # a window may be padded beyond the image
    taken = np.zeros([max(s, WINDOW_PX) for s in size], bool)
    kept = []
    for find in sorted(finds, key=lambda f: (f.cut, -f.depth, f.y, f.x)):
        if taken[find.box][find.mask].mean() < _SAME:
            taken[find.box] |= find.mask
            kept.append(find)
    return kept


def _clamped(middle: float, size: int) -> int:
    """First pixel, along one axis, of the window around a place, moved as far as needed to lie in the image."""
    return min(max(0, round(middle) - WINDOW_PX // 2), max(0, size - WINDOW_PX))


def _starts(size: int, low: float, high: float) -> list[int]:
    """First pixels, along one axis, of windows over [low, high) and half an overlap around it, inside the image."""
    half = OVERLAP_PX // 2
    first = min(max(0, int(np.floor(low)) - half), max(0, size - WINDOW_PX))
    last = max(first, min(size, int(np.ceil(high)) + half) - WINDOW_PX)
    steps = int(np.ceil((last - first) / (WINDOW_PX - OVERLAP_PX)))
    return [round(s) for s in np.linspace(first, last, steps + 1).tolist()]


def _at_mpp(image: Image, mpp: float) -> tuple[Image, NDArray[np.float64]]:
    """The image at 0.25 um/px, and how many pixels of the image one of its pixels is, along x and y."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        what = f"cells are looked for in RGB uint8 (H, W, 3), not in {image.dtype} {image.shape}"
        raise HwsiError(Reason.OPTION_INVALID, what, "hand in an RGB image")
    if not 0 < mpp <= COARSEST_MPP:
        what = f"nuclei can't be told apart at {mpp:g} um/px"
        raise HwsiError(Reason.TOO_COARSE, what, f"hand in an image of at most {COARSEST_MPP} um/px")
    h, w = image.shape[:2]
    size = max(1, round(w * mpp / _MPP)), max(1, round(h * mpp / _MPP))
    if size == (w, h):
        return image, np.ones(2)
    how = cv2.INTER_AREA if mpp < _MPP else cv2.INTER_CUBIC
    resized = cv2.resize(image, size, interpolation=how).astype(np.uint8, copy=False)
    return resized, np.array([w / size[0], h / size[1]])


def _to_work(core: Core, zoom: NDArray[np.float64]) -> Core:
    """The core in pixels at 0.25 um/px."""
    x0, y0, x1, y1 = ((np.array(core).reshape(2, 2) + 0.5) / zoom - 0.5).ravel().tolist()
    return x0, y0, x1, y1
