"""Where the weights of an encoder lie on this machine: nothing is asked of the network, and nothing at import.

- The order: a path that was handed in, an environment variable, the user's list, the package, the Hub's cache.
- The variable of ``uni_v1`` is ``HWSI_WEIGHTS_UNI_V1``. The list is ``~/.config/hwsi/weights.yaml`` (or the file that
  ``HWSI_WEIGHTS`` names), one line for each encoder: ``uni_v1: /data/weights/uni/pytorch_model.bin``.
- A place that was named and holds nothing is an error, never a reason to look elsewhere: other weights than those that
  were meant would go unnoticed.
- From the Hub's cache comes the pinned revision only; another one is taken by naming its file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.encoders.registry import EncoderSpec

LIST = Path("~/.config/hwsi/weights.yaml")


@dataclass(frozen=True)
class Located:
    """Weights that are here, and which step of the order found them."""

    file: Traversable | Path
    source: str


def variable(encoder_id: str) -> str:
    """The environment variable that names the weights of an encoder."""
    return "HWSI_WEIGHTS_" + re.sub(r"[^A-Z0-9]+", "_", encoder_id.upper())


def find(spec: EncoderSpec, path: Path | None = None) -> Located | None:
    """The weights of an encoder, or None where they are not on this machine.

    Raises:
        HwsiError: WEIGHTS_MISSING where a named place holds nothing; OPTION_INVALID where the list is damaged.
    """
    if path is not None:
        return _named(path, "path", f"handed in for {spec.id}")
    if os.environ.get(variable(spec.id)):
        return _named(Path(os.environ[variable(spec.id)]), "environment", variable(spec.id))
    listed = _list()
    if spec.id in listed:
        return _named(Path(listed[spec.id]), "list", f"{spec.id} in {_list_file()}")
    if spec.weights is not None:
        from hwsi.encoders.weights import embedded

        file = embedded(spec.weights)
        return Located(file, "package") if file.is_file() else None
    if spec.hub and not spec.hub.startswith("http"):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(spec.hub, spec.hub_file, revision=spec.revision or None)
        if isinstance(cached, str):
            return Located(Path(cached), "Hub cache")
    return None


def locate(spec: EncoderSpec, path: Path | None = None) -> Traversable | Path:
    """The file with the weights of an encoder.

    Raises:
        HwsiError: WEIGHTS_MISSING, which says what to fetch, from where, under which licence, and where to put it.
    """
    found = find(spec, path)
    if found is not None:
        return found.file
    what = f"the weights of {spec.id} are not on this machine"
    if spec.weights is not None:
        what = f"the package holds no weights of {spec.id}"
    raise HwsiError(Reason.WEIGHTS_MISSING, what, how_to_get(spec))


def how_to_get(spec: EncoderSpec) -> str:
    """One line: what to fetch, from where, under which licence, and where to put it."""
    if spec.weights is not None:
        return "install a release of hwsi that holds them, or train them (recipes/nano.sh)"
    if spec.trained_by:
        return f"train it ({spec.trained_by}) and set {variable(spec.id)} to the file, or list it in {_list_file()}"
    revision = f" at revision {spec.revision}" if spec.revision else ""
    ask = "ask for access there first, then " if spec.gated else ""
    place = spec.hub if spec.hub.startswith("http") else f"https://huggingface.co/{spec.hub}"
    beside = "; beside it goes {} of {}".format(*spec.beside) if spec.beside[0] else ""
    return (
        f"{ask}fetch {spec.hub_file} from {place}{revision} (licence {spec.licence}) and set "
        f"{variable(spec.id)} to the file, or list it in {_list_file()}{beside}"
    )


def _named(path: Path, source: str, where: str) -> Located:
    path = path.expanduser()
    if not path.is_file():
        raise HwsiError(Reason.WEIGHTS_MISSING, f"there is no weights file {path} ({where})", "correct the path")
    return Located(path, source)


def _list_file() -> Path:
    return Path(os.environ.get("HWSI_WEIGHTS") or LIST).expanduser()


def _list() -> dict[str, str]:
    file = _list_file()
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HwsiError(Reason.OPTION_INVALID, f"cannot read {file}: {error}", "correct it") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise HwsiError(Reason.OPTION_INVALID, f"{file} does not map encoders to files", "write lines 'id: /path'")
    return {str(k): v for k, v in content.items()}
