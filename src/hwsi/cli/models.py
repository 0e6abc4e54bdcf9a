"""``hwsi models``: what there is to read a slide with, under which licence, and what of it is on this machine."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from hwsi.cli.console import out, print_json
from hwsi.cli.options import JsonOpt
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.encoders import EncoderSpec
    from hwsi.model.zoo import ModelCard

_PLACE = 27  # columns that a place may take
_SHA = 7  # of a commit, enough to tell it
TASKS = ("cell", "fusion", "patch", "region", "slide", "text", "language", "answer")


def models(
    scale: Annotated[str | None, typer.Option("--scale", help=f"Only one of {', '.join(TASKS)}.")] = None,
    json: JsonOpt = False,
) -> None:
    """List encoders and language models; nothing is loaded or fetched."""
    if scale not in (None, *TASKS):
        raise HwsiError(Reason.OPTION_INVALID, f"there is no scale {scale!r}", f"take one of {', '.join(TASKS)}")
    from hwsi.encoders import available
    from hwsi.model import zoo

    rows = [_of_encoder(spec) for spec in available()] + [_of_model(card) for card in zoo.available()]
    rows.sort(key=lambda row: TASKS.index(row["task"]))
    rows = [row for row in rows if scale in (None, row["task"])]
    if json:
        print_json(rows)
    else:
        _show(rows)


def _of_encoder(spec: "EncoderSpec") -> dict[str, Any]:
    from hwsi.encoders.locate import find, how_to_get

    found, problem = None, None
    try:
        found = find(spec)
    except HwsiError as error:  # a place that was named and is empty: the others are listed all the same
        problem = error.what
    lacks = spec.has_weights and found is None
    return {
        "id": spec.id,
        "task": spec.scale,
        "dim": spec.dim,
        "input_px": spec.input_px,
        "mpp": spec.mpp,
        "licence": spec.licence,
        "commercial": spec.commercial,
        "gated": spec.gated,
        "revision": spec.revision,
        "weights_from": spec.hub or spec.trained_by or ("package" if spec.weights else None),
        "here": not lacks,
        "found_by": found.source if found is not None else None,
        "file": str(found.file) if found is not None else None,
        "problem": problem,
        "how_to_get": how_to_get(spec) if lacks else None,
    }


def _of_model(card: "ModelCard") -> dict[str, Any]:
    from hwsi.model import zoo

    found = zoo.find(card)
    return {
        "id": card.id,
        "task": card.task,
        "dim": card.width,
        "input_px": None,
        "mpp": None,
        "licence": card.licence,
        "commercial": card.commercial,
        "gated": card.gated,
        "revision": card.revision,
        "weights_from": card.hub or "package",
        "here": found is not None,
        "found_by": found.source if found is not None else None,
        "file": str(found.file) if found is not None else None,
        "problem": None,
        "how_to_get": zoo.how_to_get(card) if found is None else None,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    names = ("id", "task", "dim", "px", "um/px", "licence", "com-\nmerc.", "gated", "weights from", "at", "here")
    for name in names:
        table.add_column(name, overflow="fold", vertical="bottom", justify="right" if name in names[2:5] else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in _cells(row)))
    console = out()
    console.print(table)
    lacking = sum(not row["here"] for row in rows)
    if lacking:
        console.print(f"\n{lacking} of {len(rows)} are not here; hwsi models --json says how to get each", markup=False)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table: short, so that all fits a terminal of 120 columns."""
    here = "variable" if row["found_by"] == "environment" else row["found_by"]
    here = here or ("no weights" if row["here"] else "missing" if row["problem"] else "no")
    return (
        row["id"],
        row["task"],
        str(row["dim"] or "any"),
        "" if row["input_px"] is None else str(row["input_px"]),
        "" if row["mpp"] is None else f"{row['mpp']:g}",
        row["licence"].removeprefix("LicenseRef-"),
        "yes" if row["commercial"] else "no",
        "yes" if row["gated"] else "no",
        _short(row["weights_from"] or ""),
        _pin(row["revision"] or "newest", row["weights_from"] or "package"),
        here,
    )


def _pin(revision: str, place: str) -> str:
    """The version, where the place doesn't say it."""
    return "" if place == "package" or revision in place else revision[:_SHA]


def _short(place: str) -> str:
    """A repository as it is; of an address the host and as much of what comes first as there is room for."""
    if not place.startswith("http"):
        return place
    at = urlsplit(place)
    owner, name, *_ = [*at.path.strip("/").split("/"), "", ""]
    host = at.netloc.removesuffix(".com").removesuffix(".org")
    named = f"{host}:{owner}/{name}".rstrip("/")
    return named if len(named) <= _PLACE else host[-_PLACE:]
