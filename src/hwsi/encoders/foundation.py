"""The public encoders of pathology that read patches, regions and phrases: what there is, under which licence, where.

- Declarations only, nothing heavy is imported; the numbers of the architectures are in ``patch_vits``, ``hipt``,
  ``conch`` and ``conch_v15``. Ids are spelled as TRIDENT spells them.
- Values are those of the model cards. ``input_px`` is the side at which a model sees a patch: other sides are resized
  to it, as the cards do. All of them were made for 0.5 um/px.
- No weights are in the package. Gated ones need a permission that each user asks for on the Hugging Face Hub.
- Commits are those at which others publish their results with these weights; a repository's later state may be tried
  by naming its file (``hwsi.encoders.locate``).
"""

from functools import partial
from typing import Any

from hwsi.encoders.registry import EncoderSpec, register

_HUB: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "uni_v1": ("MahmoodLab/UNI", "b55a5ec6cade1a39edfe6534189a9b8ca7a022f0", "pytorch_model.bin", ("uni",)),
    "uni_v2": (
        "MahmoodLab/UNI2-h", "d517a8dd47902dd7c308b3c36f63bce47e7b9a43", "pytorch_model.bin",
        ("uni2", "uni2-h", "uni2_h"),
    ),
    "virchow": (
        "paige-ai/Virchow", "19eebc84ae33e79f1b2d866e6ff90ae50e522f9a", "pytorch_model.bin", ("virchow_v1",),
    ),
    "virchow2": (
        "paige-ai/Virchow2", "3158645804b69e3f3bc4439d4116edddf0840a72", "pytorch_model.bin",
        ("virchow_v2", "virchow-v2"),
    ),
    "hoptimus0": (
        "bioptimus/H-optimus-0", "b145cc1e6c6b30d3251aa8b1f844e6974188a743", "pytorch_model.bin",
        ("h-optimus-0", "h_optimus_0"),
    ),
    "hoptimus1": (
        "bioptimus/H-optimus-1", "3592cb220dec7a150c5d7813fb56e68bd57473b9", "model.safetensors",
        ("h-optimus-1", "h_optimus_1"),
    ),
    "h0-mini": (
        "bioptimus/H0-mini", "5b5cc0505d19ae558270045eb0df8c34df4d9609", "model.safetensors", ("h0_mini", "h0mini"),
    ),
    "gigapath": (
        "prov-gigapath/prov-gigapath", "eba85dd46097c3eedfcc2a3a9a930baecb6bcc19", "pytorch_model.bin",
        ("prov-gigapath", "prov_gigapath"),
    ),
    "midnight12k": (
        "kaiko-ai/midnight", "adc6b15679c981cce6f9b018bbad09d16eeeda9f", "model.safetensors",
        ("midnight", "midnight-12k", "midnight_12k"),
    ),
    "phikon": ("owkin/phikon", "057cc0295895c2df3dd7681a89680da6015cbefe", "model.safetensors", ("phikon_v1",)),
    "phikon_v2": (
        "owkin/phikon-v2", "2ae989a9c40cffaa27f0a6cb29cc94d1d6f9a5fd", "model.safetensors", ("phikon-v2", "phikonv2"),
    ),
    "conch_v1": ("MahmoodLab/conch", "f9ca9f877171a28ade80228fb195ac5d79003357", "pytorch_model.bin", ("conch",)),
    "conch_v15": (
        "MahmoodLab/conchv1_5", "3e5766a5d1500d53c73c03005e24c30c1f27be13", "pytorch_model_vision.bin",
        ("conchv1_5", "conch_v1_5", "conch-v1.5"),
    ),
    "conch_v1_text": (
        "MahmoodLab/conch", "f9ca9f877171a28ade80228fb195ac5d79003357", "pytorch_model.bin",
        ("conch-text", "conch_text"),
    ),
    "hipt_vit256": (
        "https://github.com/mahmoodlab/HIPT", "780fafaed2e5b112bc1ed6e78852af1fe6714342",
        "HIPT_4K/Checkpoints/vit256_small_dino.pth", ("vit256", "hipt-vit256"),
    ),
    "hipt_vit4k": (
        "https://github.com/mahmoodlab/HIPT", "780fafaed2e5b112bc1ed6e78852af1fe6714342",
        "HIPT_4K/Checkpoints/vit4k_xs_dino.pth", ("vit4k", "hipt-vit4k"),
    ),
}  # fmt: skip
"""Id -> repository of the weights (of the Hugging Face Hub, unless it is an address), commit, file, other names."""


def _where(encoder_id: str) -> dict[str, Any]:
    hub, revision, file, aliases = _HUB[encoder_id]
    return {"id": encoder_id, "hub": hub, "revision": revision, "hub_file": file, "aliases": aliases}


_patch = partial(EncoderSpec, scale="patch", input_px=224, mpp=0.5)
# gated: agreed to in the browser; no commercial use, no derivatives
_no_derivatives = partial(_patch, licence="CC-BY-NC-ND-4.0", commercial=False, gated=True)
_owkin = partial(_patch, licence="LicenseRef-Owkin-NC", commercial=False, gated=False)
# Apache-2.0 with the Commons Clause, which takes the right to sell away
_hipt = partial(EncoderSpec, licence="LicenseRef-Commons-Clause", commercial=False, gated=False)

UNI_V1 = register(_no_derivatives(
    **_where("uni_v1"), dim=1024, builder="hwsi.encoders.patch_vits:uni_v1", source="doi:10.1038/s41591-024-02857-3",
))  # fmt: skip
UNI_V2 = register(_no_derivatives(
    **_where("uni_v2"), dim=1536, builder="hwsi.encoders.patch_vits:uni_v2", source="doi:10.1038/s41591-024-02857-3",
))  # fmt: skip
VIRCHOW = register(_patch(
    **_where("virchow"), dim=2560, licence="Apache-2.0", commercial=True, gated=True,
    builder="hwsi.encoders.patch_vits:virchow", source="doi:10.1038/s41591-024-03141-0",
))  # fmt: skip
VIRCHOW2 = register(_no_derivatives(
    **_where("virchow2"), dim=2560, builder="hwsi.encoders.patch_vits:virchow2", source="doi:10.48550/arXiv.2408.00738",
))  # fmt: skip
HOPTIMUS0 = register(_patch(
    **_where("hoptimus0"), dim=1536, licence="Apache-2.0", commercial=True, gated=True,
    builder="hwsi.encoders.patch_vits:hoptimus0", source="Saillard et al. 2024, bioptimus/H-optimus-0",
))  # fmt: skip
HOPTIMUS1 = register(_no_derivatives(
    **_where("hoptimus1"), dim=1536, builder="hwsi.encoders.patch_vits:hoptimus1", source="bioptimus/H-optimus-1, 2025",
))  # fmt: skip
H0_MINI = register(_no_derivatives(
    **_where("h0-mini"), dim=1536, builder="hwsi.encoders.patch_vits:h0_mini", source="doi:10.48550/arXiv.2501.16239",
))  # fmt: skip
GIGAPATH = register(_patch(
    # the licence would allow commercial use, the conditions of access ask for research only
    **_where("gigapath"), dim=1536, input_px=256, licence="Apache-2.0", commercial=False, gated=True,
    builder="hwsi.encoders.patch_vits:gigapath", source="doi:10.1038/s41586-024-07441-w",
))  # fmt: skip
MIDNIGHT_12K = register(_patch(
    **_where("midnight12k"), dim=3072, licence="MIT", commercial=True, gated=False,
    builder="hwsi.encoders.patch_vits:midnight12k", source="doi:10.1007/978-3-032-04984-1_55",
))  # fmt: skip
PHIKON = register(_owkin(
    **_where("phikon"), dim=768, builder="hwsi.encoders.patch_vits:phikon", source="doi:10.1101/2023.07.21.23292757",
))  # fmt: skip
PHIKON_V2 = register(_owkin(
    **_where("phikon_v2"), dim=1024, builder="hwsi.encoders.patch_vits:phikon_v2",
    source="doi:10.48550/arXiv.2409.09173",
))  # fmt: skip
CONCH_V1 = register(_no_derivatives(
    **_where("conch_v1"), dim=512, input_px=448, builder="hwsi.encoders.conch:build",
    source="doi:10.1038/s41591-024-02856-4",
))  # fmt: skip
CONCH_V15 = register(_no_derivatives(
    **_where("conch_v15"), dim=768, input_px=448, builder="hwsi.encoders.conch_v15:build",
    source="doi:10.48550/arXiv.2411.19666",
))  # fmt: skip
CONCH_V1_TEXT = register(_no_derivatives(
    **_where("conch_v1_text"), scale="text", dim=512, input_px=None, mpp=None,
    beside=(
        "conch_byte_level_bpe_uncased.json",
        "https://github.com/mahmoodlab/CONCH/tree/main/conch/open_clip_custom/tokenizers",
    ),
    builder="hwsi.encoders.conch_text:build", source="doi:10.1038/s41591-024-02856-4",
))  # fmt: skip
HIPT_VIT256 = register(_hipt(
    **_where("hipt_vit256"), scale="patch", dim=384, input_px=256, mpp=0.5,
    builder="hwsi.encoders.hipt:build_vit256", source="arXiv:2206.02647",
))  # fmt: skip
HIPT_VIT4K = register(_hipt(
    **_where("hipt_vit4k"), scale="region", dim=192, input_px=None, mpp=None,
    builder="hwsi.encoders.hipt:build_vit4k", reads="hipt_vit256", source="arXiv:2206.02647",
))  # fmt: skip
