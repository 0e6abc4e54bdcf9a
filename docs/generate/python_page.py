"""The page of the Python API: the public names of the rooms, their docstrings shown by mkdocstrings."""

from importlib import import_module
from types import ModuleType

ROOMS = {
    "hwsi.inference": "A slide under study",
    "hwsi.slide": "Slides",
    "hwsi.encoding": "Pixels to feature files",
    "hwsi.features": "Feature files",
    "hwsi.hierarchy": "The hierarchy",
    "hwsi.encoders": "Encoders",
    "hwsi.model": "The model",
    "hwsi.presets": "Presets",
    "hwsi.errors": "Errors",
}

HEAD = """# Python

`import hwsi` is quick; what is heavy is imported when it is first used. The shortest way stands at the top level:
{short}. Arrays are numpy unless a text says torch; places are level-0 pixels, x before y; `mpp` is micrometres a pixel.
"""


def python_page() -> str:
    """The page, as Markdown with mkdocstrings' directives. Nothing heavy is imported for it."""
    short = ", ".join(f"`hwsi.{name}`" for name in import_module("hwsi").__all__)
    parts = [HEAD.format(short=short)]
    for room, title in ROOMS.items():
        parts.append(f"## {title}: `{room}` {{ #{room.replace('.', '-')} }}\n")
        parts += [f"::: {path}\n" for path in _public(import_module(room))]
    return "\n".join(parts)


def _public(module: ModuleType) -> list[str]:
    """Where the public names of a room are defined."""
    lazy = getattr(module, "_PUBLIC", None)
    if lazy is not None:
        homes = {name: home if home.startswith("hwsi.") else f"{module.__name__}.{home}" for name, home in lazy.items()}
        return [f"{home}.{name}" for name, home in homes.items()]
    names = getattr(module, "__all__", None) or [name for name, value in vars(module).items() if _own(value, module)]
    # a constant has no docstring to show
    return [f"{module.__name__}.{name}" for name in names if hasattr(getattr(module, name), "__qualname__")]


def _own(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", "") == module.__name__ and not getattr(value, "__name__", "_").startswith("_")
