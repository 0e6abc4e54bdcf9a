"""The network CellViT: four depths of a Vision Transformer through three UNETR-like decoders to maps of pixels.

- The skip paths (``decoder0`` to ``decoder3``) are shared by the three branches and computed once.
- Parameters have the names of the published checkpoints. Batch norm's eps 1e-5; dropout is left out: at inference it
  does nothing, and nothing is trained here.
- Source: Hoerst et al., CellViT (10.1016/j.media.2024.103143), figure 2.

Notation: B images of H x W px, D width of the backbone, h = H / 16, w = W / 16.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hwsi.encoders.cellvit_backbones import DinoBackbone, SamBackbone

ORGANS = 19  # of PanNuke
CLASSES = ("background", "neoplastic", "inflammatory", "connective", "dead", "epithelial")
"""What the columns of the type map mean (PanNuke)."""


class Maps(NamedTuple):
    """What the network says about images.

    Attributes:
        organ: (B, 19) logits. nuclei: (B, 2, H, W) logits of no nucleus, nucleus. hv: (B, 2, H, W) distances from the
            nucleus' centre, horizontal and vertical. types: (B, 6, H, W) logits of :data:`CLASSES`.
        tokens: (B, D, h, w), last block of the backbone, before its norm.
    """

    organ: Tensor
    nuclei: Tensor
    hv: Tensor
    types: Tensor
    tokens: Tensor


class _Conv(nn.Module):
    """Convolution 3 x 3, batch norm, ReLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Twice as large: transposed convolution, convolution 3 x 3, batch norm, ReLU."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _double(into, out), nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


def _double(into: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(into, out, 2, stride=2)


class _Branch(nn.Module):
    """One decoder: the deepest map up to the pixels, joined at each size by a skip path."""

    def __init__(self, *, dim: int, bottleneck: int, out: int) -> None:
        super().__init__()
        b = bottleneck
        self.bottleneck_upsampler = _double(dim, b)
        self.decoder3_upsampler = nn.Sequential(_Conv(2 * b, b), _Conv(b, b), _Conv(b, b), _double(b, 256))
        self.decoder2_upsampler = nn.Sequential(_Conv(512, 256), _Conv(256, 256), _double(256, 128))
        self.decoder1_upsampler = nn.Sequential(_Conv(256, 128), _Conv(128, 128), _double(128, 64))
        self.decoder0_header = nn.Sequential(_Conv(128, 64), _Conv(64, 64), nn.Conv2d(64, out, 1))

    def forward(self, deepest: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """(B, D, h, w), skips from fine to coarse -> (B, out, H, W)."""
        s0, s1, s2, s3 = skips
        x = self.decoder3_upsampler(torch.cat([s3, self.bottleneck_upsampler(deepest)], 1))
        x = self.decoder2_upsampler(torch.cat([s2, x], 1))
        x = self.decoder1_upsampler(torch.cat([s1, x], 1))
        return self.decoder0_header(torch.cat([s0, x], 1))  # type: ignore[no-any-return]


class CellVitNetwork(nn.Module):
    """A backbone with CellViT's decoders.

    Args:
        encoder: the backbone.
        dim: its width.
        classifier_head: from the backbone's summary to logits of the organ; the identity where it has its own.
    """

    def __init__(self, *, encoder: DinoBackbone | SamBackbone, dim: int, classifier_head: nn.Module) -> None:
        super().__init__()
        # wide backbones have wide decoders
        skip1, skip2, bottleneck = (256, 128, 312) if dim < 512 else (512, 256, 512)
        self.encoder = encoder
        self.classifier_head = classifier_head
        self.decoder0 = nn.Sequential(_Conv(3, 32), _Conv(32, 64))
        self.decoder1 = nn.Sequential(_Up(dim, skip1), _Up(skip1, skip2), _Up(skip2, 128))
        self.decoder2 = nn.Sequential(_Up(dim, skip1), _Up(skip1, 256))
        self.decoder3 = nn.Sequential(_Up(dim, bottleneck))
        self.nuclei_binary_map_decoder = _Branch(dim=dim, bottleneck=bottleneck, out=2)
        self.hv_map_decoder = _Branch(dim=dim, bottleneck=bottleneck, out=2)
        self.nuclei_type_maps_decoder = _Branch(dim=dim, bottleneck=bottleneck, out=len(CLASSES))

    def forward(self, images: Tensor) -> Maps:
        """Normalised (B, 3, H, W), H and W multiples of 16."""
        stages = self.encoder.stages(images)
        z1, z2, z3, z4 = stages.maps
        skips = (self.decoder0(images), self.decoder1(z1), self.decoder2(z2), self.decoder3(z3))
        return Maps(
            organ=self.classifier_head(stages.summary),
            nuclei=self.nuclei_binary_map_decoder(z4, skips),
            hv=self.hv_map_decoder(z4, skips),
            types=self.nuclei_type_maps_decoder(z4, skips),
            tokens=z4,
        )


def cellvit_256() -> CellVitNetwork:
    """CellViT-256: HIPT's ViT-S/16; 46.8 M parameters."""
    encoder = DinoBackbone(dim=384, depth=12, heads=6, taps=(3, 6, 9, 12), classes=ORGANS)
    return CellVitNetwork(encoder=encoder, dim=384, classifier_head=nn.Identity())


def cellvit_sam_h() -> CellVitNetwork:
    """CellViT-SAM-H: the image encoder ViT-H/16 of SAM; 699.7 M parameters."""
    encoder = SamBackbone(dim=1280, depth=32, heads=16, taps=(8, 16, 24, 32), global_blocks=(7, 15, 23, 31))
    return CellVitNetwork(encoder=encoder, dim=1280, classifier_head=nn.Linear(256, ORGANS))
