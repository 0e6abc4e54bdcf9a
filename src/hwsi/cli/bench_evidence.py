"""``hwsi bench evidence``: how faithful evidence is and when the model is silent, measured on held-out phantoms."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import bars, out, print_json
from hwsi.cli.options import JsonOpt

_CALIBRATE = "calibrate"


def evidence(
    measures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MEASURE...]", help="Which (all without any); or calibrate, to calibrate the model."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Preset of the model.")] = "nano",
    slides: Annotated[int | None, typer.Option("--slides", min=2, help="How many slides (20; calibrate: 120).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which slides.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder that keeps slides, features and figures; a second run goes on.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="calibrate: the file, if not beside the weights.")] = None,
    json: JsonOpt = False,
) -> None:
    """Measure how faithful evidence is, whether the model looks, and whether it is silent where it should be."""
    from tempfile import TemporaryDirectory

    from hwsi.benchmarks.evidence.run import calibrate, run
    from hwsi.errors import HwsiError, Reason

    asked = measures or []
    if _CALIBRATE in asked and asked != [_CALIBRATE]:
        raise HwsiError(Reason.OPTION_INVALID, "calibrate goes with no measure", "calibrate first, then measure")
    with bars(quiet=json) as progress, TemporaryDirectory(prefix="hwsi-bench-") as temporary:
        where = folder or Path(temporary)
        if asked:
            where.mkdir(parents=True, exist_ok=True)
        if asked == [_CALIBRATE]:
            made = calibrate(where, model=model, slides=slides or 120, seed=seed, to=to, progress=progress)
        else:
            result = run(asked, where, model=model, slides=slides or 20, seed=seed, progress=progress)
    if asked == [_CALIBRATE]:
        out().print(str(made), markup=False)
    elif json:
        print_json(result.to_dict())
    else:
        out().print(result.table())
