"""Results as tables: Markdown, LaTeX and the terminal.

- One table for each benchmark, version, task and metric profile: figures of different ones are never side by side.
- Baselines stand first, then what was run, with intervals; then what others published, marked as quoted, with source
  and version. A quoted row is there only if it has a column that was measured here.
- Under the table: rows, patients, what could not be used, seeds and the SHA-256 of the predictions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from hwsi.benchmarks.results import RunResult
from hwsi.benchmarks.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table as RichTable

BASELINE, RUN, QUOTED = "baseline", "run", "quoted"


@dataclass(frozen=True)
class Published:
    """Figures of others: of which benchmarks and task, whose, where from, on which version."""

    benchmarks: Sequence[str]
    task: str
    system: str
    source: str
    version: str
    metrics: Mapping[str, float]
    profile: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line. ``cells``: metric -> figure; a float where there is no interval. ``mark``: number of its note, or 0."""

    label: str
    kind: str
    cells: Mapping[str, Interval | float]
    mark: int = 0


@dataclass(frozen=True)
class Table:
    """A table before it has a form. ``columns``: metrics. ``notes``: numbered from 1 by rows. ``below``: about all."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    below: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


@cache
def published() -> tuple[Published, ...]:
    """The figures of ``published.yaml``."""
    from importlib.resources import files

    import yaml

    text = files("hwsi.benchmarks").joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(Published(**entry) for entry in yaml.safe_load(text))


def tables_of(results: Iterable[RunResult], quoted: Sequence[Published] | None = None) -> list[Table]:
    """The tables of results, in the order of their first appearance.

    Args:
        quoted: figures of others; those of ``published.yaml`` if left out.
    """
    groups: dict[tuple[str, ...], list[RunResult]] = {}
    for result in results:
        key = (result.benchmark, result.version, result.version_sha, result.task, result.profile)
        groups.setdefault(key, []).append(result)
    return [_table(group, published() if quoted is None else quoted) for group in groups.values()]


def _table(results: Sequence[RunResult], quoted: Sequence[Published]) -> Table:
    first = results[0]
    measured = [figures for r in results for figures in (r.metrics, *r.baselines.values())]
    columns = tuple(dict.fromkeys(name for figures in measured for name in figures))
    rows = [*_baselines(results), *(Row(r.model, RUN, r.metrics) for r in results if r.metrics)]
    notes: list[str] = []
    for entry in quoted:
        shared = {name: value for name, value in entry.metrics.items() if name in columns}
        if first.benchmark in entry.benchmarks and entry.task == first.task and shared:
            what = [entry.source, f"version: {entry.version}", entry.profile and f"profile {entry.profile}", entry.note]
            notes.append("; ".join(part for part in what if part))
            rows.append(Row(entry.system, QUOTED, shared, len(notes)))
    title = f"{first.benchmark}, {first.task}, version {first.version} ({first.version_sha[:12]})"
    return Table(title, columns, tuple(rows), tuple(_below(results)), tuple(notes))


def _baselines(results: Sequence[RunResult]) -> list[Row]:
    """One row for each baseline; with the model's name where runs do not agree on it (a model without the slide)."""
    rows = []
    for name in dict.fromkeys(name for result in results for name in result.baselines):
        having = [r for r in results if name in r.baselines]
        if all(r.baselines[name] == having[0].baselines[name] for r in having):
            rows.append(Row(name, BASELINE, having[0].baselines[name]))
        else:
            rows += [Row(f"{name} ({r.model})", BASELINE, r.baselines[name]) for r in having]
    return rows


def _below(results: Sequence[RunResult]) -> Iterable[str]:
    if results[0].profile:
        from hwsi.benchmarks.metrics.profiles import PROFILES

        name = results[0].profile
        yield PROFILES[name].describe() if name in PROFILES else f"profile {name}"
    level = next((i.level for r in results for i in r.metrics.values()), 0.95)
    yield f"intervals: {level:.0%}, patients resampled"
    for r in results:
        unusable = ", ".join(f"{count} {reason}" for reason, count in sorted(r.unusable.items())) or "none"
        seeds = ", ".join(f"{name} {value}" for name, value in sorted(r.seeds.items())) or "none"
        yield (
            f"{r.model}: {r.rows} rows of {r.patients} patients, unusable: {unusable}; seeds: {seeds}; {r.hardware}; "
            f"predictions {r.predictions_sha[:12]}"
        )
    yield from dict.fromkeys(note for r in results for note in r.notes)


def _cell(cell: Interval | float | None) -> tuple[str, str]:
    """Figure and interval as text; a dash where there is none."""
    if isinstance(cell, Interval):
        between = f"[{cell.low:.3f}, {cell.high:.3f}]" if cell.low is not None and cell.high is not None else ""
        return ("-" if cell.value is None else f"{cell.value:.3f}"), between
    return ("-" if cell is None else f"{cell:.3f}"), ""


def markdown(table: Table) -> str:
    """The table in Markdown; baselines in italics, quoted figures with the number of their source."""
    lines = [f"### {table.title}", "", _pipes(["", *table.columns]), _pipes(["---", *["---:"] * len(table.columns)])]
    for row in table.rows:
        label = _escaped(row.label, "|*_<")
        label = {BASELINE: f"*{label}*", QUOTED: f"{label} (quoted, {row.mark})"}.get(row.kind, f"**{label}**")
        lines.append(_pipes([label, *(" ".join(_cell(row.cells.get(c))).strip() for c in table.columns)]))
    lines += ["", *(f"- {_escaped(line, '|*_<')}" for line in table.below)]
    lines += [f"- quoted, {k}: {_escaped(note, '|*_<')}" for k, note in enumerate(table.notes, 1)]
    return "\n".join(lines) + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{c}" if c in special else c for c in text)


def latex(table: Table) -> str:
    """The table in LaTeX, with the rules of the package ``booktabs``."""
    head = " & ".join(["", *(_tex(c) for c in table.columns)])
    lines = [
        "% \\usepackage{booktabs}", "\\begin{table}", f"\\caption{{{_tex(table.title)}.}}",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}", "\\toprule", head + r" \\", "\\midrule",
    ]  # fmt: skip
    before = table.rows[0].kind if table.rows else ""
    for row in table.rows:
        if row.kind != before:
            lines.append("\\midrule")
        before = row.kind
        label = {BASELINE: f"\\emph{{{_tex(row.label)}}}", QUOTED: f"{_tex(row.label)}$^{{q{row.mark}}}$"}.get(
            row.kind, f"\\textbf{{{_tex(row.label)}}}"
        )
        cells = [_cell(row.cells.get(c)) for c in table.columns]
        shown = [value + (f" {{\\scriptsize {between}}}" if between else "") for value, between in cells]
        lines.append(" & ".join([label, *shown]) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    lines += [rf"\par\footnotesize {_tex(line)}." for line in table.below]
    lines += [rf"\par\footnotesize $^{{q{k}}}$ quoted: {_tex(note)}." for k, note in enumerate(table.notes, 1)]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(c) or (f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def rich_table(table: Table) -> "RichTable":
    """The table for the terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(title=Text(table.title), caption_justify="left")
    made.add_column("")
    for name in table.columns:
        made.add_column(Text(name), justify="right")
    style: dict[str, Any] = {BASELINE: "dim", RUN: "bold", QUOTED: "italic"}
    for row in table.rows:
        label = f"{row.label} (quoted, {row.mark})" if row.kind == QUOTED else row.label
        cells = ("\n".join(filter(None, _cell(row.cells.get(c)))) for c in table.columns)
        made.add_row(Text(label), *(Text(cell) for cell in cells), style=style[row.kind])
    quoted = [f"quoted, {k}: {note}" for k, note in enumerate(table.notes, 1)]
    made.caption = Text("\n".join([*table.below, *quoted]))
    return made
