"""Encoders of the five kinds of things: patches, regions, slides, cells and texts. Tensors in, tensors out.

- ``get("patch-nano").build()`` gives an encoder; ``available("patch")`` lists what there is, without torch.
- The protocols in :mod:`hwsi.encoders.base` say what each scale takes and gives.
"""

from hwsi.encoders.base import CellEncoder, CellSet, PatchEncoder, RegionEncoder, SlideEncoder, TextEncoder
from hwsi.encoders.registry import EncoderSpec, available, get, register

__all__ = [
    "CellEncoder",
    "CellSet",
    "EncoderSpec",
    "PatchEncoder",
    "RegionEncoder",
    "SlideEncoder",
    "TextEncoder",
    "available",
    "get",
    "register",
]
