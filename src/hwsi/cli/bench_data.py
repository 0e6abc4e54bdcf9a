"""``hwsi bench list``, ``audit`` and ``baselines``: the data of benchmarks, before any model is asked.

- Files are given by path (recognised by their fields), as ``NAME=FILE``, or by a dataset's name under ``--data``.
- Rows that cannot be used are told on stderr, one line for each file, and counted; they end nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwsi.cli.console import note, out, print_json
from hwsi.cli.options import JsonOpt

if TYPE_CHECKING:
    from hwsi.benchmarks.datasets.record import Loaded

DataOpt = Annotated[
    Path | None, typer.Option("--data", help="Folder with a folder for each dataset (else: HWSI_DATA).")
]
FilesArg = Annotated[list[str], typer.Argument(metavar="DATA...", help="Files, NAME=FILE, or names of datasets.")]


def list_(data: DataOpt = None, json: JsonOpt = False) -> None:
    """List the datasets: task, size, licence, how to get them, and whether they are here."""
    from rich.markup import escape
    from rich.table import Table

    from hwsi.benchmarks.datasets.registry import listing

    rows = listing(data)
    if json:
        print_json(rows)
        return
    table = Table()
    for name in ("name", "task", "size", "licence", "here", "how to get it"):
        table.add_column(name, overflow="fold")
    for row in rows:
        here = f"{len(row['here'])} files" if row["here"] else "no"
        cells = (row["name"], row["task"], row["size"], row["licence"], here, row["how"])
        table.add_row(*map(escape, cells))
    out().print(table)


def baselines(
    files: FilesArg,
    train: Annotated[
        list[str] | None, typer.Option("--train", help="Learn majorities from this instead of from the data itself.")
    ] = None,
    data: DataOpt = None,
    json: JsonOpt = False,
) -> None:
    """Print what words alone reach: majority, majority letter, longest option, same question, opening words."""
    from hwsi.benchmarks import baselines as words
    from hwsi.benchmarks.datasets.record import together

    taught = together(_load(train, data)) if train else None
    lines = words.baselines(together(_load(files, data)), taught)
    if json:
        print_json([line.to_dict() for line in lines])
    else:
        out().print(words.table(lines))


def audit(
    files: Annotated[
        list[str],
        typer.Argument(metavar="TRAIN... TEST", help="The last is the test; one alone is parted by its own splits."),
    ],
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for train and test without what is shared.")
    ] = None,
    overlap: Annotated[
        float, typer.Option("--max-overlap", min=0, max=1, help="Share of test slides and patients in training.")
    ] = 0.0,
    near: Annotated[
        float, typer.Option("--max-near", min=0, max=1, help="Share of test texts that are nearly in training.")
    ] = 0.05,
    shortcut: Annotated[
        float, typer.Option("--max-shortcut", min=0, max=1, help="Accuracy without a slide, above chance.")
    ] = 0.15,
    data: DataOpt = None,
    json: JsonOpt = False,
) -> None:
    """Find what of a test stands in training data, and what words alone reach; ends with 1 above a threshold."""
    from hwsi.benchmarks import audit as audits

    train, test = _sides(_load(files, data))
    limits = audits.Thresholds(slides=overlap, patients=overlap, near=near, shortcut=shortcut)
    found = audits.audit(train, test, limits)
    if json:
        print_json(found.to_dict())
    else:
        out().print(found.table())
        for line in found.notes:
            note(line)
    if output is not None:
        left_train, left_test = audits.write_clean(found, output)
        note(f"{output}: train.jsonl {left_train:,} items, test.jsonl {left_test:,} items, removed.csv")
    if found.failed:
        raise typer.Exit(1)


def open_told(what: str, data: Path | None) -> "Loaded":
    """A dataset; rows that cannot be used are told in one line."""
    from hwsi.benchmarks.datasets.registry import open_data

    loaded = open_data(what, data)
    if loaded.unusable:
        note(loaded.told())
    for line in loaded.notes:
        note(f"{loaded.version}: {line}")
    return loaded


def _load(files: list[str], data: Path | None) -> "list[Loaded]":
    return [open_told(what, data) for what in files]


def _sides(found: "list[Loaded]") -> "tuple[list[Loaded], list[Loaded]]":
    """Training and test: all but the last and the last, or the splits of the only one."""
    from dataclasses import replace

    from hwsi.errors import HwsiError, Reason

    if len(found) > 1:
        return found[:-1], found[-1:]
    (only,) = found
    train = tuple(r for r in only.records if r.split in ("train", "val"))
    test = tuple(r for r in only.records if r.split == "test")
    if not train or not test:
        what = f"{only.version} has not both training and test splits of its own"
        raise HwsiError(Reason.OPTION_INVALID, what, "give the files of training, then the one of the test")
    return [replace(only, records=train)], [replace(only, records=test)]
