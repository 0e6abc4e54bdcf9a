"""The blocks of code of the pages, and whether they can be run as they stand.

- A comment above the fence says it: ``<!-- run -->``, ``<!-- needs: a GPU -->`` for what is not everywhere, or
  ``<!-- shown: signatures -->`` for what is no program. Every block in bash or Python has one.
- Those to run are run by ``tests/test_docs.py``, page by page, in order, in a folder with a small phantom; a block
  with a title (``title="mine.yaml"``) is written there under that name. The others are listed on the page made here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
TESTED_APART = ("extending.md",)
"""Pages whose code is run by a test of their own."""

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>run|needs|shown)(?:: (?P<why>[^>]+?))? -->\n)?"
    r"```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

HEAD = """# What is tested of these pages

The blocks counted under *run* are run by `pytest tests/test_docs.py -m slow`, page by page and in order, with the
embedded model on a small phantom. The others need what is not everywhere; their verbs and options are held against the
program. The README's are run by `tests/test_readme.py`, those of [Extending](../extending.md) by
`tests/test_extending.py`.

| page | run | not run, since they need |
|---|---|---|
"""


@dataclass(frozen=True)
class Block:
    """A fence.

    Attributes:
        page: path below ``docs/``. language: of the fence. title: the file that it is, or empty.
        mark: ``run``, ``needs`` or ``shown``; empty if nothing is said. why: what is needed.
        text: what stands in it.
    """

    page: str
    language: str
    title: str
    mark: str
    why: str
    text: str

    @property
    def is_program(self) -> bool:
        """Whether it could be run at all."""
        return self.language in ("bash", "sh", "python")


def written_pages() -> list[Path]:
    """All pages that are kept in the repository."""
    return sorted(DOCS.rglob("*.md"))


def blocks(path: Path) -> list[Block]:
    """The fences of a page, in order."""
    found = []
    for match in _FENCE.finditer(path.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', match["info"])
        found.append(
            Block(
                page=path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else path.name,
                language=match["language"],
                title=title[1] if title else "",
                mark=match["mark"] or "",
                why=match["why"] or "",
                text=match["text"],
            )
        )
    return found


def tested_page() -> str:
    """The page that lists them, as Markdown."""
    rows = []
    for path in written_pages():
        programs = [block for block in blocks(path) if block.is_program and block.mark in ("run", "needs")]
        if programs:
            page = path.relative_to(DOCS).as_posix()
            ran = sum(block.mark == "run" for block in programs)
            rows.append(f"| [{page}](../{page}) | {ran} | {_joined(b.why for b in programs if b.mark == 'needs')} |")
    return HEAD + "\n".join(rows) + "\n"


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons))
