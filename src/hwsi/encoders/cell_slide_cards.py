"""Cards of cell, region and slide encoders beyond our own: data only, nothing is built or fetched here.

- CellViT is Apache-2.0 with the Commons Clause and was trained on PanNuke (CC BY-NC-SA 4.0): no commercial use.
- TITAN and PRISM run code of their repositories; see :mod:`hwsi.encoders.slide_hub` for the consent that this takes.
"""

from functools import partial

from hwsi.encoders.registry import EncoderSpec, register

_cellvit = partial(
    EncoderSpec,
    scale="cell",
    input_px=256,
    mpp=0.25,
    licence="LicenseRef-Commons-Clause",
    commercial=False,
    gated=False,
    revision="15094831",
    hub="https://zenodo.org/records/15094831",
    source="CellViT, 10.1016/j.media.2024.103143; CellViT++, arXiv:2501.05269",
)

CELLVIT_256 = register(_cellvit(
    id="cellvit_256", dim=384, hub_file="CellViT-256-x40-AMP.pth", aliases=("cellvit-256", "cellvit_hipt"),
    builder="hwsi.encoders.cellvit:build_256",
))  # fmt: skip
CELLVIT_SAM_H = register(_cellvit(
    id="cellvit_sam_h", dim=1280, hub_file="CellViT-SAM-H-x40-AMP.pth", aliases=("cellvit-sam-h", "cellvit_sam"),
    builder="hwsi.encoders.cellvit:build_sam_h",
))  # fmt: skip
INSTANSEG = register(EncoderSpec(
    id="instanseg", scale="cell", dim=12, input_px=None, mpp=0.5, licence="Apache-2.0", commercial=True, gated=False,
    revision="0.1.1", hub="https://github.com/instanseg/instanseg/releases/download/instanseg_models_v0.1.1/brightfield_nuclei.zip",
    hub_file="instanseg.pt", aliases=("instanseg_brightfield_nuclei",),
    builder="hwsi.encoders.cell_instanseg:build", source="InstanSeg, arXiv:2408.15954",
))  # fmt: skip
CCAF_DINO = register(EncoderSpec(
    id="ccaf_dino", scale="fusion", dim=384, input_px=None, mpp=None, licence="Apache-2.0", commercial=True,
    gated=False, revision="1", hub="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14",
    hub_file="dinov2_vits14_pretrain.pth", builder="hwsi.encoders.ccaf_dino:build",
    source="DINOv2, arXiv:2304.07193; its blocks fuse cells in the released MLLM-HWSI",
))  # fmt: skip
_mean = partial(
    EncoderSpec,
    dim=0,
    input_px=None,
    mpp=None,
    licence="Apache-2.0",
    commercial=True,
    gated=False,
    revision="1",
)

REGION_MEAN = register(_mean(
    id="region-mean", scale="region", aliases=("region_mean",), builder="hwsi.encoders.region_mean:build",
    source="mean of the patches",
))  # fmt: skip
SLIDE_MEAN = register(_mean(
    id="slide-mean", scale="slide", aliases=("mean", "slide_mean"), builder="hwsi.encoders.slide_mean:build",
    source="mean of the regions, as the released MLLM-HWSI takes it",
))  # fmt: skip
VIT_WSI_192 = register(EncoderSpec(
    id="vit-wsi-192", scale="slide", dim=192, input_px=None, mpp=None, licence="Apache-2.0", commercial=True,
    gated=False, revision="1", trained_by="hwsi train align", aliases=("vit_wsi_192",),
    builder="hwsi.encoders.vit_wsi:build_192", source="ours, on regions of hipt_vit4k",
))  # fmt: skip

_hub_code = partial(
    EncoderSpec,
    scale="slide",
    licence="CC-BY-NC-ND-4.0",
    commercial=False,
    gated=True,
    hub_file="model.safetensors",
    remote_code=True,
)

TITAN = register(_hub_code(
    # it was trained on a grid of patches of 512 px
    id="titan", dim=768, input_px=512, mpp=0.5, reads="conch_v15", hub="MahmoodLab/TITAN",
    revision="dac6773d9961cfc75503440676ff157a2c6e8d2e", builder="hwsi.encoders.slide_hub:titan",
    source="TITAN, arXiv:2411.19666",
))  # fmt: skip
PRISM = register(_hub_code(
    id="prism", dim=1280, input_px=None, mpp=None, reads="virchow", hub="paige-ai/Prism",
    revision="adeb3376909b4fb3fba5a5243a1df05d42d57fdd", builder="hwsi.encoders.slide_hub:prism",
    source="PRISM, arXiv:2405.10254",
))  # fmt: skip
