"""In which precision patches are encoded.

- ``int8`` (CPU) and ``bfloat16`` (GPU) are for the patch encoders, which take most of the time. Their vectors are not
  quite float32's; ``agreement.py`` tells how near they are.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from hwsi.encoding.stack import Stack
from hwsi.errors import HwsiError, Reason
from hwsi.presets import Preset


def precise(preset: Preset, device: str) -> AbstractContextManager[Any]:
    """In which patches are encoded: float32, but for a preset that asks for bfloat16."""
    import torch

    if preset.precision == "bfloat16":
        return torch.autocast(device.partition(":")[0], torch.bfloat16)
    return nullcontext()


def in_precision(stack: Stack, preset: Preset) -> Stack:
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
