"""Where encoders compute, and in which precision.

- ``auto`` takes a GPU where there is one, but not for the embedded encoders: they are quick enough anywhere, and then
  their features are the same bytes on every machine of a kind.
- ``int8`` (CPU) and ``bfloat16`` (GPU) are for the patch encoders, which take most of the time. Their vectors are not
  quite float32's; :func:`agreement` tells how near they are, on patches of the slide itself.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsi.errors import HwsiError, Reason
from hwsi.presets import Preset

if TYPE_CHECKING:
    from hwsi.encoders.base import PatchEncoder
    from hwsi.encoding.stack import Stack
    from hwsi.slide import Slide

_TRIED = 16  # patches on which a precision is compared with float32


def choose_device(name: str, *, small: bool) -> str:
    """A device of torch that there is.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        small: all weights are in the package, so ``auto`` is the CPU.

    Raises:
        HwsiError: OPTION_INVALID for what is no device, or is not here.
    """
    import torch

    if name == "auto":
        return "cuda" if not small and torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = f"there is no device {name!r} to compute on: {str(error).splitlines()[0]}"
        raise HwsiError(Reason.OPTION_INVALID, what, "take cpu, or auto; hwsi doctor tells what it sees") from error
    return str(device)


def devices_of(name: str, *, small: bool) -> tuple[str, ...]:
    """The devices that a name stands for: those that it lists, or all GPUs; each worker has one, in turns.

    Args:
        name: as of :func:`choose_device`, or several with commas between: ``cuda:0,cuda:2``.
        small: all weights are in the package, so ``auto`` is the CPU.
    """
    if name not in ("auto", "cuda"):
        return tuple(part.strip() for part in name.split(","))
    if name == "auto" and small:
        return (name,)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{i}" for i in range(count)) if count > 1 else (name,)


def precise(preset: Preset, device: str) -> AbstractContextManager[Any]:
    """In which patches are encoded: float32, but for a preset that asks for bfloat16."""
    import torch

    if preset.precision == "bfloat16":
        return torch.autocast(device.partition(":")[0], torch.bfloat16)
    return nullcontext()


def in_precision(stack: "Stack", preset: Preset) -> "Stack":
    """The stack with its patch encoders in the preset's precision; ``stack`` stays as it is.

    Raises:
        HwsiError: OPTION_INVALID where this device has no use for it.
    """
    if preset.precision == "bfloat16" and stack.device == "cpu":
        raise HwsiError(Reason.OPTION_INVALID, "bfloat16 is for GPUs: on a CPU it is slower", "take int8, or float32")
    if preset.precision != "int8":
        return stack
    from hwsi.encoders.int8 import Int8Linear, quantise

    def light(encoder: Any) -> Any:
        done = encoder is None or any(isinstance(m, Int8Linear) for m in encoder.modules())
        return encoder if done else quantise(encoder)

    return replace(stack, patch=light(stack.patch), region_patch=light(stack.region_patch))


def agreement(exact: "Stack", stack: "Stack", slide: "Slide", preset: Preset) -> dict[str, float]:
    """Patch encoder -> the least cosine, over some patches of a slide, between float32 and the preset's precision.

    Args:
        exact: the stack as it was loaded. stack: the same by :func:`in_precision`.
        slide: its first region with the most tissue is read. preset: as encoding takes it.

    Raises:
        HwsiError: what opening and finding tissue say.
    """
    import torch
    from torch.nn import functional as F

    from hwsi.encoding.encode import find_tree
    from hwsi.encoding.pixels import plan_regions, read_region

    _, tree = find_tree(slide, preset, None)
    plan = max(plan_regions(tree), key=lambda plan: len(plan.patches))
    pixels = read_region(slide, tree, plan, halo_um=0, cell_mpp=preset.read_mpp)
    some = np.linspace(0, len(plan.patches) - 1, min(_TRIED, len(plan.patches))).astype(int)
    images = torch.from_numpy(pixels.patches()[some]).to(stack.device)

    def near(encoder: "PatchEncoder", other: "PatchEncoder") -> float:
        with torch.inference_mode():
            want = encoder.encode(images).float()
            with precise(preset, stack.device):
                found = other.encode(images).float()
        return float(F.cosine_similarity(want, found, dim=-1).min())

    return {e.spec.id: near(e, o) for e, o in zip(exact.patches, stack.patches, strict=True)}
