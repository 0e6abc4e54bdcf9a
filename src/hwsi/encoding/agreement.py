"""How near a precision is to float32, on patches of the slide itself."""

import numpy as np
import torch
from torch.nn import functional as F

from hwsi.encoders.base import PatchEncoder
from hwsi.encoding.encode import find_tree
from hwsi.encoding.pixels import plan_regions, read_region
from hwsi.encoding.precision import precise
from hwsi.encoding.stack import Stack
from hwsi.presets import Preset
from hwsi.slide import Slide

_TRIED = 16  # patches on which a precision is compared with float32


def agreement(exact: Stack, stack: Stack, slide: Slide, preset: Preset) -> dict[str, float]:
    """Patch encoder -> the least cosine, over some patches of a slide, between float32 and the preset's precision.

    Args:
        exact: the stack as it was loaded. stack: the same by :func:`in_precision`.
        slide: its first region with the most tissue is read. preset: as encoding takes it.

    Raises:
        HwsiError: what opening and finding tissue say.
    """
    _, tree = find_tree(slide, preset, None)
    plan = max(plan_regions(tree), key=lambda plan: len(plan.patches))
    pixels = read_region(slide, tree, plan, halo_um=0, cell_mpp=preset.read_mpp)
    some = np.linspace(0, len(plan.patches) - 1, min(_TRIED, len(plan.patches))).astype(int)
    images = torch.from_numpy(pixels.patches()[some]).to(stack.device)

    def near(encoder: PatchEncoder, other: PatchEncoder) -> float:
        with torch.inference_mode():
            want = encoder.encode(images).float()
            with precise(preset, stack.device):
                found = other.encode(images).float()
        return float(F.cosine_similarity(want, found, dim=-1).min())

    return {e.spec.id: near(e, o) for e, o in zip(exact.patches, stack.patches, strict=True)}
