"""How many images the encoders of a job take at once: measured once, on the device that begins it.

- Kept in the job folder as ``batches.json``: other slides, other processes and a run that goes on after a break take
  what stands there, so that a file has the same bytes however often its making was interrupted.
- Measured with random pixels of the preset's size; what an image shows doesn't change how long it takes.
- The same goes for the layout of convolutions' weights, which changes nothing but speed.
- Only where the preset asks for it (``patch_batch: measured``): the embedded encoders have a fixed batch.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hwsi.encoders.pixels import Preparation
from hwsi.encoders.throughput import Rate, best_batch
from hwsi.encoding.precision import precise
from hwsi.encoding.stack import Stack
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import told as told_by_system
from hwsi.features.atomic import write_atomic
from hwsi.presets import Preset

FILE = "batches.json"
_SECONDS = 0.5  # for each measurement
_CANDIDATES = {"cpu": (1, 4, 16), "cuda": (16, 64, 256)}
_WINDOWS = 256  # side of what a cell network sees, where it takes batches


def tune(stack: Stack, preset: Preset, out: Path) -> None:
    """Give the stack its batch sizes and its encoders their layout, if the preset wants them measured.

    Args:
        stack: its ``batches`` are filled in; cell encoders that take batches (``batch``) get theirs.
        preset: says whether, and the size of a patch.
        out: job folder.

    Raises:
        HwsiError: OPTION_INVALID for a damaged ``batches.json``; DISK_FULL, OUTPUT_UNWRITABLE.
    """
    if preset.patch_batch != "measured":
        return
    file, name = out / FILE, f"{torch.device(stack.device).type} {preset.precision}"
    with _alone(out):
        told = _read(file)
        if name not in told:
            found = stack.batches or {e.spec.id: _measure(e, stack, preset) for e in _batched(stack)}
            told |= {name: found}
            write_atomic(file, json.dumps(told, indent=2).encode())
    try:
        for encoder in _batched(stack):
            said = told[name][encoder.spec.id]
            if said["channels_last"]:
                encoder.to(memory_format=torch.channels_last)
            stack.batches[encoder.spec.id] = {**said, "batch": int(said["batch"])}
            if hasattr(encoder, "batch"):
                encoder.batch = int(said["batch"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"{file} does not say how many images encoders take at once on {name}"
        raise HwsiError(Reason.OPTION_INVALID, what, "remove that file: they are measured again") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: two that measure side by side would measure each other."""
    with told_by_system(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _batched(stack: Stack) -> list[Any]:
    """The encoders that take images by the batch and are modules of torch, in which layouts can be changed."""
    cells = [stack.cell] if hasattr(stack.cell, "batch") else []
    return [e for e in (*stack.patches, *cells) if isinstance(e, torch.nn.Module)]


def _measure(encoder: Any, stack: Stack, preset: Preset) -> dict[str, Any]:
    device = torch.device(stack.device)
    candidates = _CANDIDATES.get(device.type, _CANDIDATES["cpu"])
    rate: Rate = best_batch(encoder, device, candidates, _SECONDS, batch=partial(_batch, encoder, stack, preset))
    return {"batch": rate.batch, "channels_last": rate.channels_last, "images_per_s": round(rate.images_per_s, 2)}


def _batch(encoder: Any, stack: Stack, preset: Preset, n: int) -> Callable[[], object]:
    """What encodes ``n`` random images, prepared as they come to the encoder."""
    rng = torch.Generator().manual_seed(0)
    side = preset.patch_px
    if hasattr(encoder, "batch"):
        windows = torch.randint(0, 256, (n, _WINDOWS, _WINDOWS, 3), dtype=torch.uint8, generator=rng)
        return partial(encoder.maps, windows)
    images = torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=rng)
    if isinstance(preparation := getattr(encoder, "preparation", None), Preparation):
        images = preparation.resized(images)

    def run() -> object:
        with torch.inference_mode(), precise(preset, stack.device):
            return encoder.encode(images)

    return run


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        what = f"cannot read {file}: {error}"
        raise HwsiError(Reason.OPTION_INVALID, what, "remove that file: batches are measured again") from error
    return told if isinstance(told, dict) else {}
