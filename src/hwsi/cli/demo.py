"""``hwsi demo``: the whole way on a slide whose truth is known, from pixels to a page of cited answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwsi.cli.console import bars, note, out
from hwsi.cli.options import PresetOpt
from hwsi.cli.outputs import check_writable

if TYPE_CHECKING:
    from hwsi.inference.html import Entry

SCALES = ("cell", "patch", "region", "slide")
PER_SCALE = 2


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the slide, its features and the page.")
    ] = Path("hwsi-demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which slide; training never saw any of them.")] = 0,
    preset: PresetOpt = "nano",
) -> None:
    """Make a synthetic slide, read it, ask it, and show the answers beside the truth."""
    page = output / "report.html"
    check_writable(page)

    from hwsi.inference import study
    from hwsi.inference.html import write_html
    from hwsi.phantom.cohort import is_whole, write_phantom
    from hwsi.phantom.sampling import draw_plans
    from hwsi.phantom.truth import fill_labels, load_truth

    slide = output / f"demo-{seed}.svs"
    spec = draw_plans(1, seed, "demo")[0].spec
    with bars() as progress:
        progress("drawing", 0, 1)
        if not is_whole(slide, spec):
            note(f"drawing a synthetic slide ({spec.organ}, {spec.width_um} x {spec.height_um} µm)")
            # what was there under this name was another slide, and so are its features
            (output / "features" / f"{slide.stem}.h5").unlink(missing_ok=True)
            write_phantom(slide, spec)
        progress("drawing", 1, 1)
        truth = load_truth(slide)
        note("reading the slide at four scales")
        session = study(slide, preset=preset, out=output, progress=progress)
        asked = _questions(truth, session.region_at)
        note(f"asking {len(asked)} questions")
        entries = []
        for i, question in enumerate(asked):
            progress("asking", i, len(asked))
            entries.append(_ask(session, question))
        progress("asking", len(asked), len(asked))
        note("writing the report")
        report = session.report()
    real = fill_labels(
        str(truth["report"]), lambda row, col: session.region_at(row, col) or "A region that was not read"
    )
    write_html(page, session, entries, report, report_truth=real)
    _show(entries)
    console = out()
    console.print(f"\nreport\n  {report.text}\n", markup=False)
    for warning in session.warnings:
        note(f"hwsi: note: {warning}")
    console.print(f"report written to {page}", markup=False)


def _questions(truth: dict[str, Any], region_at: Any) -> list[dict[str, Any]]:
    """Up to two closed questions of each scale, a description, and one that no slide can answer."""
    from hwsi.phantom.truth import cited, fill_labels

    chosen: list[dict[str, Any]] = []
    for scale in SCALES:
        fit = [q for q in truth["questions"] if q["scale"] == scale and q["closed_eval"]]
        # a region that the tissue finder left out cannot be asked about
        fit = [q for q in fit if all(region_at(*grid) for grid in cited(q["question"]))]
        chosen += fit[:PER_SCALE]
    for kind in ("describe", "never"):
        chosen += [q for q in truth["questions"] if q["kind"] == kind][:1]
    return [{**q, "question": fill_labels(q["question"], region_at)} for q in chosen]


def _ask(session: Any, question: dict[str, Any]) -> "Entry":
    from hwsi.inference.html import Entry
    from hwsi.phantom.truth import fill_labels

    truth = fill_labels(str(question["answer"]), session.region_at)
    answer = session.ask(question["question"], question["choices"] or None)
    correct = answer.text == truth if question["choices"] else None
    return Entry(answer, scale=question["scale"], truth=truth, correct=correct)


def _show(entries: "list[Entry]") -> None:
    """Closed questions as a table beside the truth, open ones below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = out()
    closed = [e for e in entries if e.correct is not None]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("scale", "question", "model", "truth", "", "evidence"):
        table.add_column(name, overflow="fold")
    for e in closed:
        first = ", ".join(dict.fromkeys(v.label for v in e.answer.evidence[:2])) or "none"
        mark = "right" if e.correct else "WRONG"
        table.add_row(*(Text(t) for t in (e.scale, e.answer.question, e.answer.text, e.truth, mark, first)))
    console.print(table)
    console.print(f"{sum(bool(e.correct) for e in closed)} of {len(closed)} closed questions right", markup=False)
    for e in entries:
        if e.correct is None:
            console.print(f"\n{e.answer.question}\n  model  {e.answer.text}\n  truth  {e.truth}", markup=False)
