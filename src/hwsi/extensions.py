"""Code of yours that adds to the registries: an encoder, a dataset, a metric, a language model's architecture.

- One file is enough: ``HWSI_EXTENSIONS=my_encoder.py hwsi encode ...``; several are parted as in ``PATH``. A variable
  and no option, since the processes of a cohort must know it, too.
- An installed package names its modules under the entry points ``hwsi.extensions`` and needs no variable: on the other
  machines of a cluster there is none.
- A file is imported under its own name, so that a builder can be named ``my_encoder:build``.
- Registries call :func:`load` when they are first asked; ``import hwsi`` runs no foreign code.
"""

import os
import sys
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from hwsi.errors import HwsiError, Reason

VARIABLE = "HWSI_EXTENSIONS"
GROUP = "hwsi.extensions"


@cache
def load() -> None:
    """Import all extensions, once.

    Raises:
        HwsiError: OPTION_INVALID (one is not there, breaks on import, or has the name of another module).
    """
    from importlib.metadata import entry_points

    for module in sorted({point.module for point in entry_points(group=GROUP)}):
        try:
            import_module(module)
        except Exception as error:  # it is not our code: whatever it raises is told as one line
            raise _broken(module, error) from error
    for told in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _import_file(Path(told).absolute())


def _import_file(path: Path) -> None:
    spec = spec_from_file_location(path.stem, path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise HwsiError(Reason.OPTION_INVALID, f"{VARIABLE} names {path}, which is no Python file", "correct the path")
    if path.stem in sys.modules:
        if getattr(sys.modules[path.stem], "__file__", None) == str(path):
            return
        what = f"the extension {path} has the name of the module {path.stem}, which is there already"
        raise HwsiError(Reason.OPTION_INVALID, what, "rename the file")
    module = sys.modules[path.stem] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        del sys.modules[path.stem]
        raise _broken(path, error) from error


def _broken(what: object, error: Exception) -> HwsiError:
    told = f"the extension {what} cannot be imported: {type(error).__name__}: {error}"
    return HwsiError(Reason.OPTION_INVALID, told, "correct it, or leave it out")
