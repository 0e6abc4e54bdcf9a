"""Whether a preset can run on this machine: looked at before a long run, in a few seconds.

- Of weights that are here, names and shapes of the tensors are read, not their numbers: a file that is cut, or of
  another model, is told now.
- torch is imported only for such weights, or where there is a driver to ask; it takes longer than all else together.
- The network is tried once, for two seconds at most, and only if something has to be fetched.
- What a run cannot do without fails; what only limits is a note. A preset whose language model has not been trained on
  slides is there to encode with, so it can run and answers nothing.
"""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Literal
from urllib.parse import urlsplit

from hwsi.encoders import registry
from hwsi.encoders.locate import find, how_to_get
from hwsi.encoders.registry import EncoderSpec
from hwsi.encoding.stack import choose
from hwsi.errors import HwsiError
from hwsi.model import zoo
from hwsi.presets import Preset

State = Literal["ok", "note", "fail"]

ATTEMPT_S = 2.0
_GB = 1e9
_LEAST_DISK_GB = 1.0
_LEAST_PYTHON = (3, 11)
_PROCESS_GB = 1.0  # Python, torch and the embedded encoders
_COPIES = 3  # of a region's pixels: as read, at the patches' resolution, the cells' maps

_LACKING = "its weights are not on this machine"

_EXTRAS = {"instanseg": ("instanseg", "pip install 'hwsi[instanseg]'")}
"""Encoder id -> module that it needs beyond the package's own, and how to get it."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, how it is, what was found, and what to do if that is not enough."""

    name: str
    state: State
    what: str
    todo: str = ""

    def to_dict(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Readiness:
    """All checks of a preset; ``answers`` says whether it has a model that answers questions."""

    checks: tuple[Check, ...]
    answers: bool

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return all(c.state != "fail" for c in self.checks)


def check(preset: Preset, out: Path) -> Readiness:
    """Look at all that a preset needs whose feature files would go to the folder ``out``.

    Raises:
        HwsiError: ENCODER_UNKNOWN, OPTION_INVALID for a preset that names what there is not.
    """
    text = (registry.get(preset.encoders.text),) if preset.encoders.text else ()
    specs = {spec.id: spec for spec in (*choose(preset).all, *text)}
    weights = {encoder: _weights(spec) for encoder, spec in specs.items()}
    model = _language_model(preset)
    missing = [spec for encoder, spec in specs.items() if weights[encoder].what.endswith(_LACKING)]
    card = zoo.get(preset.language_model) if model.state == "fail" else None
    checks = (
        _python(),
        *_packages(),
        *_extras(list(specs)),
        _disk("disk of --out", out, _LEAST_DISK_GB),
        _disk("disk of Hub cache", _hub_cache(), card.size_gb if card is not None else 0.0),
        _memory(preset),
        _gpu(list(specs.values())),
        *weights.values(),
        *_missing(missing),
        *_beside(list(specs.values())),
        model,
        *_access(missing, card),
        *_remote_code(list(specs.values())),
    )
    return Readiness(checks, answers=model.state == "ok")


# --- the machine ------------------------------------------------------------------------------------


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if sys.version_info < _LEAST_PYTHON:
        return Check("python", "fail", found, f"install Python {'.'.join(map(str, _LEAST_PYTHON))} or newer")
    return Check("python", "ok", found)


def _packages() -> Iterator[Check]:
    """One check if all of the package's requirements hold, one for each that does not."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in metadata.requires("hwsi") or []]
    except metadata.PackageNotFoundError:
        yield Check("packages", "note", "hwsi runs from a folder and is not installed", "pip install -e that folder")
        return
    found: dict[str, str] = {}
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check("packages", "fail", f"{requirement.name} is not installed", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            what = f"{requirement.name} {version} is installed, {requirement.specifier} is needed"
            yield Check("packages", "fail", what, f"pip install '{requirement}'")
        found[requirement.name] = version
    named = ", ".join(
        f"{name} {found[name]}" for name in ("torch", "transformers", "openslide-python") if name in found
    )
    yield Check("packages", "ok", f"hwsi {metadata.version('hwsi')}; {named}; {len(found)} in all")


def _extras(encoders: list[str]) -> Iterator[Check]:
    for encoder in encoders:
        module, todo = _EXTRAS.get(encoder, ("", ""))
        if module and find_spec(module) is None:
            yield Check("packages", "fail", f"{encoder} needs the module {module}, which is not installed", todo)


def _disk(name: str, folder: Path, least_gb: float) -> Check:
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        free = shutil.disk_usage(there).free / _GB
    except OSError as error:
        return Check(name, "fail", f"cannot look at {there}: {error.strerror}", "choose another folder")
    what = f"{free:.1f} GB free for {folder.absolute()}"
    if not there.is_dir() or not os.access(there, os.W_OK):
        # what is in a cache can be read all the same
        return Check(name, "fail" if least_gb else "note", f"cannot write to {there}", "choose another folder")
    if free < least_gb:
        return Check(name, "fail", f"{what}, {least_gb:g} GB are needed", "free some space")
    return Check(name, "ok", what)


def _memory(preset: Preset) -> Check:
    """Against what the regions that are read ahead take; the language model's share is told, not demanded."""
    free = _free_memory() / _GB
    finest = min(s.mpp or preset.read_mpp for s in choose(preset).all)
    region_gb = 3 * (preset.region_px * preset.read_mpp / finest) ** 2 / _GB
    ahead = max(1, (os.cpu_count() or 1) // 2) + 1
    need = _PROCESS_GB + _COPIES * ahead * region_gb
    what = f"{free:.1f} GB free; encoding takes about {need:.1f} GB"
    if free < need:
        return Check(
            "memory", "fail", what, "close other programs, or set OMP_NUM_THREADS lower: fewer regions at once"
        )
    card = zoo.get(preset.language_model)
    answering = 2 * card.size_gb if card is not None else 0.0  # float32, stored in half precision
    if free < answering:
        what += f", answering {answering:.0f} GB"
        return Check("memory", "note", what, "encode here and ask on a larger machine")
    return Check("memory", "ok", what)


def _free_memory() -> float:
    """Bytes that a new process may take: of the machine, or of the container if that is less."""
    free = float("inf")
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text("ascii"))  # or the word max
        free = min(free, limit - int((group / "memory.current").read_text("ascii")))
    if free == float("inf"):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free


def _gpu(specs: list[EncoderSpec]) -> Check:
    slow = any(spec.has_weights and spec.weights is None for spec in specs)  # made for machines with a GPU
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        if slow:
            return Check(
                "gpu",
                "note",
                "none; the encoders of this preset are slow without one",
                "run it on a machine with a GPU",
            )
        return Check("gpu", "ok", "none, and none is needed")
    import torch

    if not torch.cuda.is_available():
        what = f"there is a driver, but torch {torch.__version__} cannot use it"
        return Check("gpu", "note", what, "install a torch for CUDA (pytorch.org) if the GPU is to be used")
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Check("gpu", "ok", ", ".join(f"{gpu.name}, {gpu.total_memory / _GB:.0f} GB" for gpu in found))


# --- what is loaded ---------------------------------------------------------------------------------


def _weights(spec: EncoderSpec) -> Check:
    name = f"{spec.scale} {spec.id}"
    if not spec.has_weights:
        return Check(name, "ok", "has no weights")
    try:
        found = find(spec)
    except HwsiError as error:
        return Check(name, "fail", error.what, error.todo)
    if found is not None:
        what = f"{found.file} ({found.source}; {spec.licence})"
        if spec.weights is not None or spec.remote_code or not _importable(spec):
            return Check(name, "ok", what)
        try:
            spec.check()
        except HwsiError as error:
            return Check(name, "fail", error.what, error.todo)
        return Check(name, "ok", f"{what}, its tensors fit")
    if spec.weights is not None:
        return Check(name, "fail", "the package holds no weights of it", how_to_get(spec))
    if spec.scale == "text":
        return Check(name, "note", f"encoding and asking do without; {_LACKING}", how_to_get(spec))
    return Check(name, "fail", _LACKING, how_to_get(spec))


def _importable(spec: EncoderSpec) -> bool:
    module, _ = _EXTRAS.get(spec.id, ("torch", ""))
    return find_spec(module) is not None


def _missing(specs: list[EncoderSpec]) -> Iterator[Check]:
    """All that has to be fetched in one line, with what it may be used for: before anything is downloaded."""
    if specs:
        what = ", ".join(f"{s.id} ({s.licence}{', ask for access first' if s.gated else ''})" for s in specs)
        never = [spec.id for spec in specs if not spec.commercial]
        what += f"; not for commercial use: {', '.join(never)}" if never else ""
        yield Check("to fetch", "note", what, "read the licences; the lines above say from where, and where to put it")


def _beside(specs: list[EncoderSpec]) -> Iterator[Check]:
    """Files without which weights that are here are of no use."""
    for spec in specs:
        with suppress(HwsiError):  # told above
            name, place = spec.beside
            found = find(spec) if name else None
            if found is not None and isinstance(found.file, Path):
                folder = found.file.parent
                if any((folder / other).is_file() for other in (name, "tokenizer.json")):
                    yield Check(f"tokenizer {spec.id}", "ok", str(folder))
                else:
                    todo = f"put {name} of {place} there"
                    yield Check(f"tokenizer {spec.id}", "note", f"no {name} in {folder}: it reads no texts", todo)


def _language_model(preset: Preset) -> Check:
    name, card = f"model {preset.language_model}", zoo.get(preset.language_model)
    if card is None:
        if (Path(preset.language_model) / "config.json").is_file():
            return Check(name, "ok", "a folder on this machine")
        return Check(name, "fail", "neither a known model nor a folder with one", "correct the preset")
    found = zoo.find(card)
    if card.task == "language":
        todo = "train a model on it and name its folder as language_model in a copy of the preset"
        lacking = "" if found else " and is not on this machine"
        what = f"has not been trained on slides{lacking}: this preset encodes, but answers nothing"
        return Check(name, "note", what, todo if found else f"{zoo.how_to_get(card)}; then {todo}")
    if found is None:
        return Check(name, "fail", "is not on this machine", zoo.how_to_get(card))
    return Check(name, "ok", f"{found.file} ({found.source}; {card.licence})")


def _access(missing: list[EncoderSpec], card: zoo.ModelCard | None) -> Iterator[Check]:
    gated = [s.hub for s in missing if s.gated] + ([card.hub] if card is not None and card.gated else [])
    if gated:
        from huggingface_hub import get_token

        names = ", ".join(dict.fromkeys(gated))
        if get_token():
            yield Check("hub token", "ok", f"there is one; each user must have been given access to {names}")
        else:
            yield Check("hub token", "note", f"there is none, and {names} need one", "hf auth login")
    elsewhere = [s for s in missing if s.hub]
    if elsewhere or (card is not None and card.hub):
        yield _network()


def _network() -> Check:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return Check(
            "network", "note", "the Hub is switched off by HF_HUB_OFFLINE", "unset it where there is a network"
        )
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or ""
    at = urlsplit(proxy if "://" in proxy else f"//{proxy}") if proxy else urlsplit(constants.ENDPOINT)
    host, port = at.hostname or "", at.port or (3128 if proxy else 443)
    if _answers(host, port):
        return Check("network", "ok", f"{host} answers")
    what = f"{host} does not answer within {ATTEMPT_S:g} s"
    return Check("network", "note", what, "fetch what is missing on a machine with a network and copy it here")


def _answers(host: str, port: int) -> bool:
    """One attempt to connect. In a thread, since looking up a name has no time limit of its own."""
    reached: list[bool] = []

    def attempt() -> None:
        with suppress(OSError), socket.create_connection((host, port), timeout=ATTEMPT_S):
            reached.append(True)

    thread = Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(ATTEMPT_S)
    return bool(reached)


def _remote_code(specs: list[EncoderSpec]) -> Iterator[Check]:
    needing = [spec for spec in specs if spec.remote_code]
    for spec in needing:
        what = f"{spec.id} runs code of {spec.hub}, which is not trusted by itself"
        yield Check("remote code", "note", what, "read it, and encode with --trust-remote-code")
    if not needing:
        yield Check("remote code", "ok", "no model of this preset runs code of others")


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
