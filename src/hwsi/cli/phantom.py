"""``hwsi phantom``: write synthetic slides with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import bars, note, out

app = typer.Typer(help="Write synthetic slides with known truth.", no_args_is_help=True, rich_markup_mode=None)


@app.command("slide")
def slide(
    output: Annotated[Path, typer.Argument(metavar="OUT.svs", help="The slide to write (.svs or .tiff).")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides all that is drawn.")] = 0,
    diagnosis: Annotated[str | None, typer.Option("--diagnosis", help="Instead of one drawn by the seed.")] = None,
    size_um: Annotated[
        int | None, typer.Option("--size-um", min=512, max=16384, help="Side, instead of one drawn by the seed.")
    ] = None,
) -> None:
    """Write one slide with its truth beside it."""
    from dataclasses import replace

    from hwsi.errors import HwsiError, Reason
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.sampling import draw_plans
    from hwsi.phantom.spec import ORGAN_OF

    spec = draw_plans(1, seed, "demo")[0].spec
    if diagnosis is not None:
        if diagnosis not in ORGAN_OF:
            what = f"no diagnosis {diagnosis!r}"
            raise HwsiError(Reason.OPTION_INVALID, what, f"choose one of: {', '.join(ORGAN_OF)}")
        spec = replace(spec, diagnosis=diagnosis, pattern=None)
    if size_um is not None:
        spec = replace(spec, width_um=size_um, height_um=size_um)
    truth = write_phantom(output, spec)
    out().print(f"{output}: {truth.record['diagnosis']}, {len(truth.record['questions'])} questions", markup=False)


@app.command("cohort")
def cohort(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; slides that are whole are kept.")],
    slides: Annotated[int, typer.Option("--slides", min=1, help="How many.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the cohort.")] = 0,
    split: Annotated[
        str, typer.Option("--split", help="train, val, test, demo or gate: they share no slide.")
    ] = "train",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    edition: Annotated[int, typer.Option("--edition", min=1, max=2, help="Of the benchmark that it is for.")] = 1,
    features_only: Annotated[
        Path | None,
        typer.Option("--features-only", metavar="JOB", help="Encode each slide into this job and delete its pixels."),
    ] = None,
) -> None:
    """Write a cohort of slides with their truth and a manifest."""
    with bars() as progress:

        def say(done: int, n: int) -> None:
            progress("slides", done, n)

        if features_only is not None:
            from hwsi.training.nano.regenerate import regenerate_cohort

            seconds = regenerate_cohort(
                folder, features_only, slides, seed, split=split, edition=edition, workers=workers, progress=say
            )
        elif edition == 2:
            from hwsi.phantom.second.cohort import write_second

            write_second(folder, slides, seed, split=split, workers=workers, progress=say)
        else:
            from hwsi.phantom.cohort import write_cohort

            write_cohort(folder, slides, seed, split=split, workers=workers, progress=say)
    spent = f", {seconds:.1f} s of a process for each made" if features_only and seconds == seconds else ""
    out().print(f"{folder}: {slides} slides{spent}", markup=False)


@app.command("texts")
def texts(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A cohort of slides.")],
    features: Annotated[Path, typer.Option("--features", help="Job folder with its feature files.")],
    output: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    questions: Annotated[int, typer.Option("--questions", min=1, help="Of a slide, at most.")] = 12,
    preferences: Annotated[int, typer.Option("--preferences", min=0, help="Pairs of answers of a slide.")] = 4,
    patches: Annotated[
        int, typer.Option("--patches", min=0, help="Of a slide, with their phrases, as pairs.tar; needs its pixels.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is asked.")] = 0,
) -> None:
    """Write the words about a cohort as the stages of training read them: reports, conversations, preferences."""
    from hwsi.training.data.phantom import write_pairs, write_texts

    written = write_texts(folder, features, output, questions=questions, preferences=preferences, seed=seed)
    lines = {
        "reports.jsonl": written.reports,
        "conversations.jsonl": written.conversations,
        "preferences.jsonl": written.preferences,
    }
    if patches:
        lines["pairs.tar"] = write_pairs(folder, output / "pairs.tar", per_slide=patches, seed=seed)
    for name, count in lines.items():
        out().print(f"{output / name}: {count}", markup=False)
    if written.without_features:
        note(f"hwsi: note: {len(written.without_features)} slides have no feature file and are left out")
