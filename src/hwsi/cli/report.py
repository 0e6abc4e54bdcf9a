"""``hwsi report``: the slide in words, on a page with pictures."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import bars, out, print_json
from hwsi.cli.options import DeviceOpt, FeaturesOpt, JobOpt, JsonOpt, MaskOpt, MppOpt, PresetOpt, SlideArg
from hwsi.cli.outputs import check_writable


def report(
    slide: SlideArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page to write.")] = Path("report.html"),
    questions: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="Also answer this question; give it for each.")
    ] = None,
    preset: PresetOpt = "nano",
    mpp: MppOpt = None,
    mask: MaskOpt = None,
    out_dir: JobOpt = None,
    features: FeaturesOpt = None,
    device: DeviceOpt = "auto",
    json: JsonOpt = False,
) -> None:
    """Write a report of a slide as one HTML page that needs nothing else."""
    from hwsi.inference.questions import check_question

    for question in questions or []:
        check_question(question)
    check_writable(output)

    from hwsi.inference import study
    from hwsi.inference.html import Entry, write_html

    with bars(quiet=json) as progress:
        session = study(
            slide, preset=preset, out=out_dir, features=features, mpp=mpp, mask=mask, device=device, progress=progress
        )
    text = session.report()
    entries = [Entry(session.ask(question)) for question in questions or []]
    write_html(output, session, entries, text)
    if json:
        print_json({**text.to_dict(), "answers": [e.answer.to_dict() for e in entries], "page": str(output)})
    else:
        console = out()
        console.print(text.text, markup=False)
        console.print(f"\n{text.note}", markup=False)
        for warning in text.warnings:
            console.print(warning, markup=False)
        console.print(f"\npage written to {output}", markup=False)
