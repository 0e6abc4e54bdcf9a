"""Pixels as a model was trained on them: resized, cropped, normalised.

- Resizing is Pillow's, on 8-bit pixels: what torchvision does to a picture, and so what the public weights have seen.
  The same filter on floats or in torch differs by up to a dozen grey levels at edges.
- Pixels stay 8-bit until they are on the device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hwsi.errors import HwsiError, Reason

Colour = tuple[float, float, float]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
"""Mean and standard deviation of red, green and blue, of values in [0, 1]."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to an image before a model sees it.

    Attributes:
        side: pixels of a side after resizing.
        crop: pixels of a side of the centre that is kept; None for all.
        colour: mean and standard deviation, such as :data:`IMAGENET`.
        filter: by which it is resized.
    """

    side: int
    colour: tuple[Colour, Colour]
    crop: int | None = None
    filter: Literal["bilinear", "bicubic"] = "bicubic"

    def __call__(self, images: Tensor, device: torch.device) -> Tensor:
        """uint8 (B, h, h, 3) RGB -> float32 (B, 3, s, s) on ``device``, s being ``crop`` or else ``side``.

        Raises:
            HwsiError: OPTION_INVALID for what are no square RGB images of 8 bits.
        """
        images = self.resized(images)
        if self.crop is not None:
            edge = round((self.side - self.crop) / 2)
            images = images[:, edge : edge + self.crop, edge : edge + self.crop]
        x = images.to(device).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        mean, deviation = (torch.tensor(c, device=device).view(3, 1, 1) for c in self.colour)
        return x.sub_(mean).div_(deviation).contiguous()

    def resized(self, images: Tensor) -> Tensor:
        """The part of it that is the CPU's, which may be done ahead of time: uint8 (B, side, side, 3).

        Raises:
            HwsiError: OPTION_INVALID, as above.
        """
        if (
            images.dtype != torch.uint8
            or images.ndim != 4
            or images.shape[3] != 3
            or images.shape[1] != images.shape[2]
        ):
            what = f"patches are square RGB uint8 (B, H, H, 3), not {images.dtype} {tuple(images.shape)}"
            raise HwsiError(Reason.OPTION_INVALID, what, "read square patches")
        if images.shape[1] == self.side or not len(images):
            return images
        return torch.from_numpy(np.stack([self._resize(image) for image in images.cpu().numpy()]))

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(image).resize((self.side, self.side), _FILTERS[self.filter]))
