"""Weights in and out of safetensors files, strictly: every tensor has a home and every home its tensor.

- Stored as float16 (half the package), loaded as float32. What training measured holds for the loaded weights
  only if it was measured after this rounding.
- A text in the file's metadata (a tokenizer) travels with the weights it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from torch import nn

    M = TypeVar("M", bound=nn.Module)

_TODO = "install a release of hwsi that holds them, or train them (recipes/nano.sh)"


def embedded(name: str) -> Traversable:
    """The file ``name`` of the embedded weights, which may not exist yet (reading it tells)."""
    return files("hwsi") / "weights" / "nano" / name


def sha256(file: Traversable | Path) -> str:
    """Hex digest of a weights file. Raises HwsiError(WEIGHTS_MISSING)."""
    if isinstance(file, Path) and file.is_file():  # some are larger than the memory
        with file.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    return hashlib.sha256(_bytes(file)).hexdigest()


def initialise(make: Callable[[], M], weights: Traversable | Path | None, *, seed: int = 0) -> M:
    """A module with weights from a file, or, for None, its own random ones: the same for the same seed.

    Args:
        make: constructor without arguments.
        weights: a safetensors file or None.
        seed: of the random initialisation; the caller's random state is left as it was.

    Raises:
        HwsiError: WEIGHTS_MISSING, WEIGHTS_MISMATCH.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    if weights is not None:
        load_strict(module, weights)
    return module


def load_strict(module: nn.Module, file: Traversable | Path) -> None:
    """Copy the file's tensors into ``module`` as the module's own dtypes.

    Raises:
        HwsiError: WEIGHTS_MISSING; WEIGHTS_MISMATCH, which names all tensors that are missing, unexpected or of
            another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        stored = load(_bytes(file))
    except SafetensorError as e:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} is no whole safetensors file: {e}", _TODO) from e
    wanted = module.state_dict()
    faults = [f"missing {k}" for k in sorted(wanted.keys() - stored.keys())]
    faults += [f"unexpected {k}" for k in sorted(stored.keys() - wanted.keys())]
    faults += [
        f"{k} has shape {tuple(stored[k].shape)}, not {tuple(wanted[k].shape)}"
        for k in sorted(wanted.keys() & stored.keys())
        if stored[k].shape != wanted[k].shape
    ]
    if faults:
        what = f"{file.name} doesn't fit {type(module).__name__}: {'; '.join(faults)}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, _TODO)
    module.load_state_dict({k: v.to(wanted[k].dtype) for k, v in stored.items()}, strict=True)


def metadata(file: Traversable | Path) -> dict[str, str]:
    """The texts stored beside the tensors. Raises HwsiError(WEIGHTS_MISSING, WEIGHTS_MISMATCH)."""
    data = _bytes(file)
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        return dict(header.get("__metadata__", {}))
    except (ValueError, AttributeError) as e:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} is no safetensors file: {e}", _TODO) from e


def save(module: nn.Module, path: Path, *, texts: Mapping[str, str] | None = None) -> None:
    """Write a module's state as float16 (integers as they are) with ``texts`` as metadata; atomic."""
    import torch
    from safetensors.torch import save as dump

    state = {
        k: v.detach().cpu().to(torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in module.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as f:
        f.write(dump(state, dict(texts or {})))
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def _bytes(file: Traversable | Path) -> bytes:
    if not file.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"there is no weights file {file.name}", _TODO)
    return file.read_bytes()
