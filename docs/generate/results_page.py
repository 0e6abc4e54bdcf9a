"""The page of results: every table of figures in the repository, gathered from where it is kept, never copied."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# (heading here, file, heading there, link to where it is explained)
KEPT = (
    ("At a glance", "README.md", "Measured", ""),
    ("The embedded model on unseen phantoms", "src/hwsi/weights/nano/README.md", "Held-out figures", "models/nano.md"),
    ("How faithful ways of finding evidence are", "docs/evidence.md", "Three ways", "evidence.md"),
    ("What each scale and loss is worth", "docs/ablation.md", "Accuracy by what decides the question", "ablation.md"),
    ("Rates of one worker", "docs/scale.md", "What is measured", "scale.md"),
    ("What a cohort would take", "docs/scale.md", "What comes of it", "scale.md"),
)

HEAD = """# Results

Every table of figures that this repository holds, with the command that makes it. They are gathered from the pages that
keep them when this site is built.

- **Phantoms** are drawn slides: their figures say that the machinery works, and nothing about real tissue.
- Figures of other papers are never among ours: `hwsi bench table` prints them below, marked as quoted.
- A figure that is not here was not measured. What could not be: published weights, GPUs, cohorts of patients
  ([what is known of each preset](models/index.md)).
"""

MORE = """## Make them yourself

Each prints one table. Run them on a quiet machine: neighbours move every time.

| command | what it measures |
|---|---|
{rows}

On datasets of others (`hwsi bench list` says how each is got): `hwsi bench run NAME --model nano --features JOB --out
run`, then `hwsi bench table run --one`. What words alone reach needs no slides: `hwsi bench run NAME --no-features`
([benchmarks](benchmarks.md)).
"""

VERBS = {
    "hwsi bench run phantom --slides 40": "closed questions by scale, reports, with all controls",
    "hwsi bench run phantom2": "what each scale decides, pairs, false premises, shifts of stain and scanner",
    "hwsi bench evidence --slides 40": "faithfulness, citations, silence, risk, cost of evidence",
    "hwsi bench ablate phantom --out ablation": "the same small budget without each scale and loss",
    "hwsi bench encode": "rates of one worker",
}


def results_page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for title, file, heading, link in KEPT:
        told = f"\n[More of it]({link}).\n" if link else ""
        parts.append(f"## {title}\n\n{_tables(section(ROOT / file, heading))}\n{told}")
    rows = {f"`{command}`": what for command, what in VERBS.items()}
    rows |= {
        f"`python benchmarks/{path.name}`": _what(path)
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        if _runs(path)
    }
    parts.append(MORE.format(rows="\n".join(f"| {command} | {what} |" for command, what in rows.items())))
    return "\n".join(parts)


def section(path: Path, heading: str) -> str:
    """What stands below a heading of the second level. Raises LookupError if the file has none of that name."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    if found is None:
        raise LookupError(f"{path} has no section '{heading}' (docs/generate/results_page.py reads it)")
    return found[1].strip()


def _tables(text: str) -> str:
    """The section without commands to type: those stand in the tables, or on the page itself."""
    return re.sub(r"(<!--[^>]*-->\n)?```(sh|bash)\n.*?```\n", "", text, flags=re.DOTALL)


def _runs(path: Path) -> bool:
    return '__name__ == "__main__"' in path.read_text("utf-8")


def _what(path: Path) -> str:
    """The first sentence of a script's docstring."""
    first = path.read_text("utf-8").split('"""')[1].strip().partition("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|").replace("``", "`").rstrip(".")
