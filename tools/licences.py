"""The ledger of licences: what this project stands on, and which weights it can read.

    python tools/licences.py > docs/licences.md        # make licences

- Dependencies are those of ``pyproject.toml``; the licence is what the installed package's own metadata states.
- What is not installed here (large extras), and what states none that can be read, is in the tables below by hand.
- Weights are those of the registries: a new encoder's licence is written where the encoder is.
"""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hwsi.encoders import available
from hwsi.model import zoo

ROOT = Path(__file__).resolve().parents[1]

BY_HAND = {
    "anndata": "BSD-3-Clause",
    "fsspec": "BSD-3-Clause",
    "geopandas": "BSD-3-Clause",
    "instanseg-torch": "Apache-2.0",
    "mkdocs-material": "MIT",
    "pyarrow": "Apache-2.0",
    "ray": "Apache-2.0",
    "spatialdata": "BSD-3-Clause",
}
"""Licences of what may not be installed, as their projects state them."""

SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD",
    "BSD-3": "BSD-3-Clause",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.1-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""How metadata spell a licence -> its SPDX identifier."""


def requirements() -> dict[str, list[str]]:
    """Canonical name -> the parts of the project that ask for it: ``core`` or extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {"core": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for part, lines in asked.items():
        for line in lines:
            name = canonicalize_name(Requirement(line).name)
            if name != project["name"]:
                found.setdefault(name, []).append(part)
    return dict(sorted(found.items()))


def licence(name: str) -> str:
    """SPDX identifier of a package's licence, or what it states; ``unknown`` where that is neither here nor by hand."""
    about = _installed(name)
    if about is None:
        return BY_HAND.get(name, "unknown")
    meta = about.metadata
    if expression := meta.get("License-Expression"):
        return str(expression)
    stated = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License :: ")]
    stated += [(meta.get("License") or "").strip().partition("\n")[0]]
    told = next((s for s in stated if s and s != "OSI Approved" and len(s) < 80), "")
    return SPDX.get(told, told) or BY_HAND.get(name, "unknown")


def brought(names: list[str]) -> list[str]:
    """What these bring with them, all the way down, of what is installed here."""
    seen, left = set(names), list(names)
    while left:
        about = _installed(left.pop())
        for line in (about.requires if about else None) or []:
            wanted = Requirement(line)
            name = canonicalize_name(wanted.name)
            needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
            if needed and name not in seen and _installed(name):
                seen.add(name)
                left.append(name)
    return sorted(seen - set(names))


def weights() -> list[str]:
    """A table's line for each encoder and model that has weights."""
    lines = []
    for spec in available():
        if spec.has_weights:
            place = "in the package" if spec.weights else spec.hub or f"`{spec.trained_by}`"
            rights = (spec.licence, _yes(spec.commercial), _yes(spec.gated))
            lines.append(_line(f"`{spec.id}`", spec.scale, *rights, place))
    for card in zoo.available():
        rights = (card.licence, _yes(card.commercial), _yes(card.gated))
        lines.append(_line(f"`{card.id}`", card.task, *rights, card.hub or "in the package"))
    return lines


def page() -> str:
    """The ledger as Markdown."""
    asked = requirements()
    users = [name for name, of in asked.items() if set(of) - {"dev", "docs"}]
    parts = [
        "# Licences",
        "HWSI itself is Apache-2.0. This page is made by `make licences`; licences are those that packages and model "
        "cards state, which is no legal advice.",
        "## Packages",
        "`core` is what `pip install hwsi` installs; the others are extras. `dev` and `docs` are for work on it.",
        _table("package", "licence", "of", lines=(_line(n, licence(n), ", ".join(of)) for n, of in asked.items())),
        "LGPL packages are used as they are, as libraries that can be exchanged.",
        "These bring with them (on the machine where this page was made):",
        _table("package", "licence", lines=(_line(name, licence(name)) for name in brought(users))),
        "## Weights",
        "Only those of `nano` are in the package; all others are fetched by whoever uses them, under the licence that "
        "stands here. Gated ones need a permission that each user asks for. `NOASSERTION`: published without a "
        "licence, so that nobody may use it commercially, or pass it on.",
        _table("id", "reads or does", "licence", "commercial use", "gated", "from", lines=weights()),
        "What the viewer's page is built from is listed with versions in `web/package-lock.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _table(*head: str, lines: Iterable[str]) -> str:
    return "\n".join((_line(*head), _line(*("---" for _ in head)), *lines))


def _line(*cells: str) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells) + " |"


def _yes(told: bool) -> str:
    return "yes" if told else "no"


if __name__ == "__main__":
    print(page(), end="")
