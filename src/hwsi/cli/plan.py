"""``hwsi plan``: what a cohort will take, before it is begun."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwsi.cli.bench_encode import measured
from hwsi.cli.console import bars, note, out, print_json
from hwsi.cli.options import DeviceOpt, JsonOpt
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.encoding.cohort.plan import Plan, Range
    from hwsi.encoding.cohort.rates import Rates

_FEW = 3


def plan(
    slides: Annotated[int, typer.Option("--slides", min=1, help="How many slides.")],
    preset: Annotated[
        str | None, typer.Option("--preset", help="Which encoders (those of the rates, else nano).")
    ] = None,
    rates_file: Annotated[
        Path | None, typer.Option("--rates", help="What hwsi bench encode --out wrote on a machine of the cluster.")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="Measure now, on this slide or folder; repeatable. 'drawn' draws some."),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines.")] = 1,
    workers_per_node: Annotated[
        int, typer.Option("--workers-per-node", min=1, help="Workers on each; one for each GPU, where there are some.")
    ] = 1,
    tissue_mm2: Annotated[
        float | None, typer.Option("--tissue-mm2", min=0.01, help="Mean tissue on a slide (that of the measured).")
    ] = None,
    tissue_cv: Annotated[
        float, typer.Option("--tissue-cv", min=0, help="How much slides differ in it: standard deviation over mean.")
    ] = 0.7,
    broken: Annotated[float, typer.Option("--broken", min=0, max=0.9, help="Share of slides that fail.")] = 0.01,
    hung: Annotated[float, typer.Option("--hung", min=0, max=0.1, help="Share that hangs until the timeout.")] = 0.0001,
    stragglers: Annotated[
        float, typer.Option("--stragglers", min=0, max=1, help="Share that takes --straggler-factor times as long.")
    ] = 0.01,
    straggler_factor: Annotated[float, typer.Option("--straggler-factor", min=1)] = 5.0,
    node_mtbf_h: Annotated[
        float, typer.Option("--node-mtbf-h", min=0, help="Mean hours between failures of one machine; 0: none fails.")
    ] = 1000.0,
    repair_h: Annotated[float, typer.Option("--repair-h", min=0, help="Hours until it is back.")] = 0.5,
    bandwidth: Annotated[
        float | None, typer.Option("--bandwidth-mb-s", min=0.001, help="What all machines together can read, MB/s.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="As of hwsi encode.")] = 1800.0,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Simulated runs.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: DeviceOpt = "auto",
    json: JsonOpt = False,
) -> None:
    """Predict hours, GPU-hours, bandwidth and bytes of a cohort, by simulating it with its failures."""
    from hwsi.encoding.cohort.plan import make_plan
    from hwsi.encoding.cohort.simulate import Cluster, Cohort

    rates = _rates(rates_file, measure, preset, device, quiet=json)
    cohort = Cohort(
        slides, tissue_mm2 or rates.mm2 / len(rates.slides), tissue_cv, broken, hung, stragglers, straggler_factor,
        timeout,
    )  # fmt: skip
    cluster = Cluster(nodes, workers_per_node, node_mtbf_h, repair_h, bandwidth)
    with bars(quiet=json) as progress:
        made = make_plan(
            rates, cohort, cluster, runs=runs, seed=seed, progress=lambda done, total: progress("runs", done, total)
        )
    if len(rates.slides) < _FEW:
        note(f"hwsi: rates of {len(rates.slides)} slides say little of how much slides differ: measure more of them")
    if json:
        print_json(
            {"rates": rates.to_dict(), "cohort": asdict(cohort), "cluster": asdict(cluster), "plan": asdict(made)}
        )
    else:
        told = f"{slides:,} slides of {cohort.tissue_mm2:.3g} mm² on {cluster.workers:,} workers; {rates.preset}, "
        told += f"{rates.seconds_per_mm2:.3g} s/mm² ({rates.device}, {rates.threads} threads: {rates.machine})"
        out().print(told, markup=False)
        for name, value in _lines(made):
            out().print(f"{name:<18} {value}", markup=False)
        out().print(f"likely, and in brackets what 8 of 10 of {runs} simulated runs lie between", markup=False)


def _rates(file: Path | None, measure: list[str] | None, preset: str | None, device: str, *, quiet: bool) -> "Rates":
    from hwsi.encoding.cohort.rates import Rates

    if (file is None) == (measure is None):
        raise HwsiError(Reason.OPTION_INVALID, "a plan needs either --rates or --measure", "see hwsi plan --help")
    if file is None:
        return measured([word for word in measure or () if word != "drawn"], preset or "nano", device, quiet=quiet)
    rates = Rates.read(file)
    if preset not in (None, rates.preset):
        what = f"the rates of {file} are of preset {rates.preset}, not of {preset}"
        raise HwsiError(Reason.OPTION_INVALID, what, f"run hwsi bench encode --preset {preset}")
    return rates


def _lines(plan: "Plan") -> list[tuple[str, str]]:
    from hwsi.encoding.cohort.eta import duration

    def of(values: "Range", unit: str = "", scale: float = 1.0) -> str:
        low, middle, high = (f"{v * scale:,.3g}" if v * scale < 1000 else f"{v * scale:,.0f}" for v in _three(values))
        return f"{middle} ({low} to {high}){' ' + unit if unit else ''}"

    low, middle, high = (duration(h * 3600) for h in _three(plan.hours))
    gpu = [("GPU-hours", of(plan.gpu_hours))] if plan.gpu_hours.high else []
    return [
        ("time", f"{middle} ({low} to {high}); {duration(plan.ideal_hours * 3600)} if nothing failed or waited"),
        ("worker-hours", of(plan.worker_hours)),
        *gpu,
        ("core-hours", of(plan.core_hours)),
        ("lost by failures", f"{of(plan.lost_hours)} worker-hours in {of(plan.failures)} failures of machines"),
        ("tissue", of(plan.tissue_mm2, "m²", 1e-6)),
        ("read", f"{of(plan.read_bytes, 'TB', 1e-12)} at {of(plan.read_mb_s, 'MB/s')}"),
        ("written", of(plan.written_bytes, "TB", 1e-12)),
    ]


def _three(values: "Range") -> tuple[float, float, float]:
    return values.low, values.middle, values.high
