"""``hwsi bench encode``: how fast this machine encodes, for ``hwsi plan``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwsi.cli.console import bars, out, print_json
from hwsi.cli.options import DeviceOpt, JsonOpt, PresetOpt
from hwsi.cli.outputs import check_writable

if TYPE_CHECKING:
    from hwsi.encoding.cohort.rates import Rates


def bench_encode(
    slides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SLIDE|DIR|GLOB...]", help="Slides like those of the cohort; without any, three are drawn."
        ),
    ] = None,
    preset: PresetOpt = "nano",
    device: DeviceOpt = "auto",
    output: Annotated[Path | None, typer.Option("--out", help="File for the rates, as JSON, for hwsi plan.")] = None,
    json: JsonOpt = False,
) -> None:
    """Measure the rates of one worker: tissue, reading, patches of each encoder, cells, writing."""
    if output is not None:
        check_writable(output)
    rates = measured(slides or [], preset, device, quiet=json)
    if output is not None:
        rates.write(output)
    if json:
        print_json(rates.to_dict())
    else:
        for name, value in lines(rates):
            out().print(f"{name:<28} {value}", markup=False)


def measured(slides: list[str], preset: str, device: str, *, quiet: bool) -> "Rates":
    """Rates of this machine. Errors: as of encoding."""
    from hwsi.benchmarks.encode_rates import measure_rates
    from hwsi.encoding.cohort.manifest import find_slides
    from hwsi.presets import load_preset

    found = [entry.slide for entry in find_slides(slides).entries]
    with bars(quiet=quiet) as progress:
        return measure_rates(
            load_preset(preset), found, device=device, progress=lambda done, total: progress("slides", done, total)
        )


def lines(rates: "Rates") -> list[tuple[str, str]]:
    """(name, value), to be read."""
    patches = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.patches_per_s.items())
    return [
        ("preset", f"{rates.preset}, {rates.precision} on {rates.device}, {rates.threads} threads"),
        ("machine", rates.machine),
        ("measured on", f"{len(rates.slides)} slides, {rates.mm2:.3g} mm² of tissue"),
        ("a mm², all in all", f"{rates.seconds_per_mm2:.3g} s"),
        ("share of models", f"{rates.model_share:.3f} of the wall time"),
        ("loading encoders", f"{rates.load_s:.3g} s, once for each worker"),
        ("finding tissue", f"{rates.tissue_s_per_mm2:.3g} s/mm²"),
        ("reading", f"{rates.read_patches_per_s:.4g} patches/s, {rates.read_mb_per_s:.3g} MB/s"),
        ("patches/s", patches),
        ("cells/s", f"{rates.cells_per_s:.4g} ({rates.cells_per_mm2:.4g} a mm²)"),
        ("writing", f"{rates.write_mb_per_s:.3g} MB/s"),
        ("slide file", f"{rates.slide_bytes_per_mm2 / 1e6:.3g} MB/mm²"),
        ("feature file", f"{rates.written_bytes_per_mm2 / 1e6:.3g} MB/mm²"),
    ]
