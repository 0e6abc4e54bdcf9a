"""``hwsi doctor``: whether a preset can run here, before a long run finds out."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import one_line, out, print_json
from hwsi.cli.options import JsonOpt


def doctor(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or the path of one.")] = "nano",
    out_dir: Annotated[Path, typer.Option("--out", help="Job folder that is meant to be used.")] = Path(),
    json: JsonOpt = False,
) -> None:
    """Look at this machine and at the weights of a preset; exit status 0 if it can run, 2 if not."""
    from hwsi.inference.readiness import check
    from hwsi.presets import load_preset

    chosen = load_preset(preset)
    found = check(chosen, out_dir)
    checks = found.checks
    if json:
        print_json(
            {
                "preset": chosen.name,
                "ready": found.ready,
                "answers": found.answers,
                "checks": [c.to_dict() for c in checks],
            }
        )
    else:
        console = out()
        width = max(len(c.name) for c in checks)
        for c in checks:
            state = "FAIL" if c.state == "fail" else c.state
            line = f"{state:<5} {c.name:<{width}}  {one_line(c.what)}"
            console.print(line, markup=False)
            if c.todo:
                console.print(f"{'':<6}{'':<{width}}  -> {one_line(c.todo)}", markup=False)
        failed = sum(c.state == "fail" for c in checks)
        verdict = "can run here" if found.answers else "can encode here, but answers nothing"
        if not found.ready:
            verdict = f"cannot run here: {failed} of {len(checks)} checks failed"
        console.print(f"\npreset {one_line(chosen.name)} {verdict}", markup=False)
    if not found.ready:
        raise typer.Exit(2)
