"""Checkpoints of others into our modules, strictly: each tensor of a file is used, or known and left out.

- A :class:`Naming` says how a family of files calls its tensors; whatever it does not explain is refused by name.
- safetensors and torch's own format are told apart by content. A pickle is read as tensors only: one that would run
  code is refused, not run.
- The module is made without memory and takes the tensors where the file lies, so 4 GB of weights are not held twice.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hwsi.encoders.weights import initialise
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from torch import Tensor, nn

    M = TypeVar("M", bound=nn.Module)

_TODO = "hand in the file that the encoder's model card names, downloaded whole"
_NAMED = 4  # faults of each kind that are named one by one
_AT: ContextVar[str] = ContextVar("_AT", default="cpu")
"""Where tensors of checkpoints go: ``meta`` for shapes without numbers."""


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, checkpoints are opened but not read: all is checked as ever, and the modules hold shapes, no numbers."""
    before = _AT.set("meta")
    try:
        yield
    finally:
        _AT.reset(before)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How a family of files calls the tensors of a module.

    Attributes:
        inside: the key under which a checkpoint of a training run keeps the weights, if it has such a key.
        prefixes: taken off the front of a key, each once, in this order.
        dropped: patterns of whole keys (without prefixes) that such files hold and the module has no use for.
        rules: (pattern, replacement), all applied in turn. A result ``name#0`` is the first of several parts that
            are joined along the first axis into ``name``.
    """

    inside: str | None = None
    prefixes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()

    def rename(self, key: str) -> str | None:
        """Our name of a file's key; None for what is left out."""
        for prefix in self.prefixes:
            key = key.removeprefix(prefix)
        if any(re.fullmatch(pattern, key) for pattern in self.dropped):
            return None
        for pattern, replacement in self.rules:
            key = re.sub(pattern, replacement, key)
        return key


def load_checkpoint(make: Callable[[], M], file: Path | None, naming: Naming | None = None) -> M:
    """A module with the weights of ``file``, in float32; for None with its own seeded random ones.

    Args:
        make: constructor without arguments.
        file: safetensors, or what ``torch.save`` wrote.
        naming: of the file's tensors; None where the file calls them as the module does.

    Raises:
        HwsiError: WEIGHTS_MISSING; WEIGHTS_MISMATCH, which names tensors that are missing, unexpected or of another
            shape, and is raised for files that are cut or hold code.
    """
    if file is None:
        return initialise(make, None)
    import torch

    naming = naming or Naming()
    content = read_checkpoint(file)
    if naming.inside in content and isinstance(content[naming.inside], Mapping):
        content = content[naming.inside]
    with torch.device("meta"):
        module = make()
    wanted = module.state_dict()
    found, faults = _rename(content, naming)
    lists = (
        faults,
        [
            f"{found[k][0]} has shape {tuple(found[k][1].shape)}, not {tuple(wanted[k].shape)}"
            for k in sorted(wanted.keys() & found.keys())
            if found[k][1].shape != wanted[k].shape
        ],
        [f"unexpected {found[k][0]}" for k in sorted(found.keys() - wanted.keys())],
        [f"missing {k}" for k in sorted(wanted.keys() - found.keys())],
    )
    if any(lists):
        # some of each kind: of a file for another model hundreds are missing, and the few others tell what it is
        named = [fault for kind in lists for fault in kind[:_NAMED]]
        more = sum(map(len, lists)) - len(named)
        what = f"{file.name} doesn't fit {type(module).__name__}: {'; '.join(named)}"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what + (f"; and {more} more" if more else ""), _TODO)
    module.load_state_dict({k: v.to(wanted[k].dtype) for k, (_, v) in found.items()}, strict=True, assign=True)
    return module


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What a checkpoint holds, by its keys: tensors on the CPU, possibly nested. Raises HwsiError as above."""
    if not file.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"there is no weights file {file}", _TODO)
    with file.open("rb") as f:
        head = f.read(4)
    # zip archives, and the bare pickles that torch wrote before 1.6
    content = _read_torch(file, head) if head[:2] in (b"PK", b"\x80\x02") else _read_safetensors(file)
    if not isinstance(content, Mapping) or not all(isinstance(k, str) for k in content):
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} holds no tensors by name", _TODO)
    return dict(content)


def _read_torch(file: Path, head: bytes) -> Any:
    import torch

    try:
        # DINO's training writes its command line beside the weights: a Namespace, which holds values and no code
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location=_AT.get(), weights_only=True, mmap=head[:2] == b"PK")
    except pickle.UnpicklingError as e:
        name = re.search(r"GLOBAL ([\w.]+)", str(e))
        held = f"code ({name[1]})" if name else "more than tensors"
        what = f"{file.name} was not read: it holds {held}, which would run on loading"
        raise HwsiError(Reason.WEIGHTS_MISMATCH, what, "take the safetensors file of the same weights") from e
    except (RuntimeError, EOFError, ValueError, OSError) as e:
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} is no whole checkpoint: {first}", _TODO) from e


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        if _AT.get() == "cpu":
            return load_file(file)
        with safe_open(file, "pt") as f:
            return {k: torch.empty(f.get_slice(k).get_shape(), device=_AT.get()) for k in f.keys()}  # noqa: SIM118
    except SafetensorError as e:
        raise HwsiError(Reason.WEIGHTS_MISMATCH, f"{file.name} is no whole safetensors file: {e}", _TODO) from e


def _rename(content: Mapping[str, Any], naming: Naming) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Our name -> (the file's key, tensor), and what is wrong with the file."""
    import torch

    found: dict[str, tuple[str, Tensor]] = {}
    parts: dict[str, dict[str, tuple[str, Tensor]]] = {}
    faults = []
    for key, value in content.items():
        name = naming.rename(key)
        if name is None:
            continue
        whole, _, part = name.partition("#")
        home = parts.setdefault(whole, {}) if part else found
        if not isinstance(value, torch.Tensor):
            faults.append(f"{key} is no tensor")
        elif (part or whole) in home:
            faults.append(f"{key} and {home[part or whole][0]} are the same")
        else:
            home[part or whole] = (key, value)
    for whole, pieces in parts.items():
        tensors = [pieces[p][1] for p in sorted(pieces)]
        if len({t.shape[1:] for t in tensors}) == 1:
            found[whole] = (" + ".join(pieces[p][0] for p in sorted(pieces)), torch.cat(tensors))
        else:
            faults += [f"{key} has shape {tuple(t.shape)}, unlike its neighbours" for key, t in pieces.values()]
    return found, faults
