"""Saved models of every layout by one call: ours, the one inside the package, the authors' release.

- A checkpoint folder of ours holds the model (safetensors) and its processor; nothing is fetched from anywhere.
"""

from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch

from hwsi.errors import HwsiError, Reason
from hwsi.model import released
from hwsi.model.strict import TODO, kind_of, load_strict


def load(
    path_or_preset: str | Path = "nano",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[Any, Any]:
    """A model and its processor.

    Args:
        path_or_preset: ``nano``, the one inside the package; a local checkpoint folder, ours or in the release's
            layout; or ``Bastech/MLLM-HWSI``, the release, if it lies in the local Hub cache.
        dtype, device: as of :func:`load_strict`.

    Errors: preset_unknown, and as of :func:`load_strict`.
    """
    if str(path_or_preset) == released.HUB or released.is_released(Path(path_or_preset)):
        return released.load_released(path_or_preset, dtype=dtype, device=device)
    with ExitStack() as stack:
        folder = Path(path_or_preset)
        if str(path_or_preset) == "nano":
            folder = stack.enter_context(as_file(files("hwsi") / "weights" / "nano" / "model"))
            todo = "install a release of hwsi that holds them, or train them (recipes/nano.sh)"
            reason = Reason.WEIGHTS_MISSING
        else:
            todo, reason = "use 'nano' or a folder with a saved model", Reason.PRESET_UNKNOWN
        if not folder.is_dir():
            raise HwsiError(reason, f"no model '{path_or_preset}'", todo)
        model = load_strict(folder, dtype=dtype, device=device)
        try:
            processor = kind_of(folder)[1].from_pretrained(folder, local_files_only=True)
        except OSError as error:
            raise HwsiError(Reason.WEIGHTS_MISSING, f"no processor in {folder}: {error}", TODO) from error
    return model, processor
