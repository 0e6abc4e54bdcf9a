"""``hwsi bench``: measure a model, or what its parts are worth, on datasets and on slides with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli import bench_data, bench_encode, bench_evidence, bench_run
from hwsi.cli.console import bars, out, print_json
from hwsi.cli.options import JsonOpt

app = typer.Typer(
    help="Measure a model on datasets, and on slides with known truth.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ABLATIONS = ("phantom",)


app.command("list")(bench_data.list_)
app.command("baselines")(bench_data.baselines)
app.command("audit")(bench_data.audit)
app.command("evidence")(bench_evidence.evidence)
app.command("run")(bench_run.run)
app.command("table")(bench_run.table)
app.command("compare")(bench_run.compare)
app.command("encode")(bench_encode.bench_encode)


@app.command("reports")
def reports(
    model: Annotated[Path, typer.Option("--model", help="A stage's output, or a model's folder.")],
    cohort: Annotated[Path, typer.Option("--cohort", help="Folder of phantom slides, with their truth.")],
    features: Annotated[Path, typer.Option("--features", help="Job folder with their feature files.")],
    slides: Annotated[int, typer.Option("--slides", min=1, help="So many held-out slides, at most.")] = 60,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which slides.")] = 0,
    json: JsonOpt = False,
) -> None:
    """Facts of reports that a model in training writes about held-out patients of its cohort."""
    from hwsi.benchmarks.reports import reports_of_model

    with bars(quiet=json) as progress:
        found = reports_of_model(model, cohort, features, slides=slides, seed=seed, progress=progress)
    if json:
        print_json(found.to_dict())
    else:
        for line in found.lines():
            out().print(line, markup=False)


@app.command("ablate")
def ablate(
    name: Annotated[str, typer.Argument(help="On which benchmark: phantom.")],
    output: Annotated[Path, typer.Option("--out", help="Folder of slides, features, runs and the table.")],
    slides: Annotated[int, typer.Option("--slides", min=24, help="How many slides, drawn and encoded once.")] = 240,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of every run.")] = 400,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of every variant.")] = 3,
    device: Annotated[str, typer.Option("--device", help="Where runs are trained: cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that draw and encode.")] = 1,
    json: JsonOpt = False,
) -> None:
    """Train the same small budget with and without each scale and loss; goes on where it stopped."""
    from dataclasses import replace
    from functools import partial

    from hwsi.errors import HwsiError, Reason

    if name not in _ABLATIONS:
        raise HwsiError(Reason.OPTION_INVALID, f"no ablation on {name!r}", f"choose one of: {', '.join(_ABLATIONS)}")
    from hwsi.benchmarks.ablate import Budget
    from hwsi.benchmarks.ablate import run as run_ablation
    from hwsi.training.nano.regenerate import regenerate_cohort

    job = output / "job"
    with bars(quiet=json) as progress:
        for split, count in (("train", slides), ("test", max(slides // 4, 1))):
            say = partial(progress, f"{split} slides")
            regenerate_cohort(output / split, job, count, 0, split=split, edition=2, workers=workers, progress=say)
        budget = replace(Budget(), steps=steps)
        found = run_ablation(
            output,
            cohort=output / "train",
            test=output / "test",
            features=job,
            budget=budget,
            seeds=seeds,
            device=device,
            say=progress,
        )
    if json:
        print_json(found)
    else:
        out().print((output / "ablation.md").read_text(encoding="utf-8"), markup=False)
