"""``hwsi ask``: one question about one slide."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwsi.cli.console import bars, note, out, print_json
from hwsi.cli.options import DeviceOpt, FeaturesOpt, JobOpt, JsonOpt, MaskOpt, MppOpt, PresetOpt, SlideArg
from hwsi.cli.outputs import check_writable

if TYPE_CHECKING:
    from hwsi.inference import Answer, StudiedSlide
    from hwsi.inference.evidence.attribution import Mode


def ask(
    slide: SlideArg,
    question: Annotated[str, typer.Argument(help="In plain words.")],
    choices: Annotated[
        list[str] | None, typer.Option("--choices", help="An option of a closed question; give it for each.")
    ] = None,
    evidence: Annotated[
        str, typer.Option("--evidence", help="How it is found: cheap, verify, full; or none.")
    ] = "verify",
    risk: Annotated[
        float | None, typer.Option("--risk", help="Accepted share of wrong answers; the less sure are withheld.")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            "--look",
            help="Share of the slide to read at first, chosen at low magnification; more while it is not sure.",
        ),
    ] = None,
    geojson: Annotated[
        Path | None, typer.Option("--geojson", help="Write the evidence as GeoJSON that QuPath opens.")
    ] = None,
    heatmap: Annotated[
        Path | None, typer.Option("--heatmap", help="Write it as a pyramidal TIFF that lies over the slide.")
    ] = None,
    h5ad: Annotated[
        Path | None, typer.Option("--h5ad", help="Folder for AnnData of regions, patches and cells with their scores.")
    ] = None,
    preset: PresetOpt = "nano",
    mpp: MppOpt = None,
    mask: MaskOpt = None,
    out_dir: JobOpt = None,
    features: FeaturesOpt = None,
    device: DeviceOpt = "auto",
    json: JsonOpt = False,
) -> None:
    """Ask a question about a slide; the answer shows the tissue that it rests on."""
    from hwsi.inference.questions import check_choices, check_question

    check_question(question)
    check_choices(choices or None)
    how = _how(evidence)
    for path in (geojson, heatmap):
        if path:
            check_writable(path)

    with bars(quiet=json) as progress:
        if share is None:
            from hwsi.inference import study

            session = study(
                slide, preset=preset, out=out_dir, features=features, mpp=mpp, mask=mask, device=device,
                progress=progress,
            )  # fmt: skip
        else:
            from hwsi.inference.look import look

            _refuse_both(features)
            session = look(
                slide, question, choices, share=share, preset=preset, out=out_dir, mpp=mpp, mask=mask, device=device,
                progress=progress,
            )  # fmt: skip
    stream = None if json else _write
    answer = session.ask(question, choices=choices or None, evidence=how, risk=risk, stream=stream)
    written = _write_evidence(session, answer, geojson, heatmap, h5ad)
    if json:
        print_json(answer.to_dict())
    else:
        sys.stdout.write("\n")
        show(answer)
        for path in written:
            note(f"evidence written to {path}")


def _refuse_both(features: Path | None) -> None:
    from hwsi.errors import HwsiError, Reason

    if features is not None:
        what = "--look chooses what to encode, and --features has all of it"
        raise HwsiError(Reason.OPTION_INVALID, what, "give one of them")


def _how(evidence: str) -> "bool | Mode":
    from hwsi.errors import HwsiError, Reason
    from hwsi.inference.evidence.attribution import Mode

    if evidence == "none":
        return False
    if evidence not in [mode.value for mode in Mode]:
        todo = "choose cheap, verify, full or none; --geojson FILE writes it for QuPath"
        raise HwsiError(Reason.OPTION_INVALID, f"no evidence is found by {evidence!r}", todo)
    return Mode(evidence)


def _write_evidence(
    session: "StudiedSlide", answer: "Answer", geojson: Path | None, heatmap: Path | None, h5ad: Path | None
) -> list[Path]:
    """Write what was asked for; gives the files."""
    tree, written = session.features.hierarchy, []
    if geojson:
        from hwsi.features.geojson import write_evidence

        write_evidence(geojson, answer, session.features.tissue)
        written.append(geojson)
    if heatmap:
        from hwsi.features.heatmap import write_heatmap

        scores = [(e.box, e.score) for e in answer.evidence]
        write_heatmap(heatmap, scores, tree.width0, tree.height0, tree.mpp)
        written.append(heatmap)
    if h5ad:
        from hwsi.features.bridges.h5ad import write_h5ad

        by_scale: dict[str, dict[str, float]] = {}
        for e in answer.evidence:
            by_scale.setdefault(e.scale, {})[e.label] = e.score
        written += write_h5ad(session.features, h5ad, evidence=by_scale)
    return written


def show(answer: "Answer") -> None:
    """What stands below the words of an answer."""
    from hwsi.inference.words import confidence_words, reliance_words, verdict_words

    console = out()
    console.print(f"\nconfidence   {confidence_words(answer.confidence, len(answer.choices))}", markup=False)
    if answer.calibrated is not None:
        console.print(f"calibrated   {100 * answer.calibrated:.0f} % of answers like this one are right", markup=False)
    console.print(f"slide's use  {reliance_words(answer.visual_reliance)}", markup=False)
    if answer.support is not None:
        console.print(f"verdict      {verdict_words(answer.support)}", markup=False)
    for i, e in enumerate(answer.evidence):
        x0, y0, x1, y1 = e.box
        cells = f", {len(e.contours)} cells" if e.contours else ""
        head = "evidence" if i == 0 else ""
        console.print(
            f"{head:<12} {e.label:<8} {e.scale:<7} worth {e.score:.3f}  at x {x0}-{x1}, y {y0}-{y1}{cells}",
            markup=False,
        )
    if not answer.evidence:
        console.print("evidence     no single region or patch carries this answer", markup=False)
    if answer.found_by:
        a = answer.agreement
        agreed = "" if a is None else f", agrees with unseen halves of the slide by {a:.2f}"
        console.print(f"found by     {answer.found_by}, {answer.passes} passes{agreed}", markup=False)
    if answer.looked_at < 1:
        console.print(f"looked at    {100 * answer.looked_at:.0f} % of the tissue", markup=False)
    for warning in answer.warnings:
        note(f"hwsi: note: {warning}")


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
