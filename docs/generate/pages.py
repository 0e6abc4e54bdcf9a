"""Pages that are made when the site is built, so that they are never older than the code (a hook of MkDocs).

- :func:`pages` says which there are; the tests ask it, too.
- The model card of nano is the one that ships with its weights; its links are turned to the pages of the site.
"""

import re
from pathlib import Path
from typing import Any

from blocks import tested_page
from cli_page import cli_page
from preset_page import preset_page
from python_page import python_page
from reason_page import reason_page
from results_page import results_page

ROOT = Path(__file__).resolve().parents[2]
CARD = ROOT / "src" / "hwsi" / "weights" / "nano" / "README.md"


def pages() -> dict[str, str]:
    """Path below ``docs/`` -> Markdown."""
    return {
        "reference/cli.md": cli_page(),
        "reference/presets.md": preset_page(),
        "reference/python.md": python_page(),
        "reference/reasons.md": reason_page(),
        "reference/tested.md": tested_page(),
        "models/nano.md": nano_page(),
        "results.md": results_page(),
    }


def nano_page() -> str:
    """The card of the embedded model, without what only the Hub reads."""
    _, _, text = CARD.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    return text.strip().replace("](../../../../README.md)", "](../index.md)") + "\n"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: the made pages stand among the written ones."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs: the roles of docstrings (``:func:`` and its like) are for editors; on a page the name is enough."""
    return re.sub(r":(func|class|meth|mod|data|attr):(?=<code)", "", html)
