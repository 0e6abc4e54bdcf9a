"""``hwsi bench``: measure a model on slides with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import bars, out, print_json
from hwsi.cli.options import JsonOpt

app = typer.Typer(help="Measure a model on slides with known truth.", no_args_is_help=True, rich_markup_mode=None)

_BENCHMARKS = {"phantom": "closed questions on synthetic slides made on the spot, with blind and swapped controls"}


@app.command("list")
def list_() -> None:
    """List the benchmarks."""
    for name, what in _BENCHMARKS.items():
        out().print(f"{name:<10} {what}", markup=False)


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(help="Which benchmark; see hwsi bench list.")],
    model: Annotated[str, typer.Option("--model", help="Preset of the model.")] = "nano",
    slides: Annotated[int, typer.Option("--slides", min=1, help="How many slides.")] = 40,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which slides.")] = 0,
    output: Annotated[Path | None, typer.Option("--out", help="Folder for the slides and records.")] = None,
    json: JsonOpt = False,
) -> None:
    """Run a benchmark and print its table."""
    from hwsi.errors import HwsiError, Reason

    if name not in _BENCHMARKS:
        raise HwsiError(Reason.OPTION_INVALID, f"no benchmark {name!r}", f"choose one of: {', '.join(_BENCHMARKS)}")
    from hwsi.benchmarks import phantom

    with bars(quiet=json) as progress:
        result = phantom.run(model=model, slides=slides, seed=seed, out=output, progress=progress)
    if json:
        print_json(result.to_dict())
    else:
        out().print(result.table())
