"""What a cohort will take, from rates that were measured: hours, GPU-hours, bandwidth, bytes; each with its range.

- Every run of the simulation draws its own rate from the measured slides (with replacement), then slides, then
  failures: the range holds what the measurement leaves open as well as what chance does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwsi.encoding.cohort.rates import Rates
from hwsi.encoding.cohort.simulate import Cluster, Cohort, draw_slides, simulate

_EDGES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Range:
    """Of the runs a tenth is below ``low``, half below ``middle``, a tenth above ``high``."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Plan:
    """What a cohort takes.

    Attributes:
        hours: from begin to end.
        worker_hours: of all workers. gpu_hours: the same where a worker has a GPU, else 0.
        core_hours: the same times a worker's threads.
        lost_hours: of workers, through failures of nodes.
        failures: of nodes.
        tissue_mm2: encoded.
        read_bytes, read_mb_s: of slides: all, and on average while it runs.
        written_bytes: of feature files.
        ideal_hours: if all went well and no worker ever waited for the last slides.
    """

    hours: Range
    worker_hours: Range
    gpu_hours: Range
    core_hours: Range
    lost_hours: Range
    failures: Range
    tissue_mm2: Range
    read_bytes: Range
    read_mb_s: Range
    written_bytes: Range
    ideal_hours: float


def make_plan(
    rates: Rates, cohort: Cohort, cluster: Cluster, *, runs: int = 10, seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:  # fmt: skip
    """Simulate a cohort.

    Args:
        rates: of one worker of this cluster.
        cohort, cluster: what and where.
        runs, seed: of the simulation.
        progress: is told how many runs are done.
    """
    own = np.array([s.seconds / s.mm2 for s in rates.slides])
    areas = np.array([s.mm2 for s in rates.slides])
    told: dict[str, list[float]] = {name: [] for name in Plan.__annotations__ if name != "ideal_hours"}
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        some = rng.integers(0, len(own), len(own))
        rate = float((own * areas)[some].sum() / areas[some].sum())
        # slides differ around the rate of this run as the measured ones did around theirs
        per_mm2 = own / rates.seconds_per_mm2 * rate
        seconds, mm2 = draw_slides(cohort, cluster, per_mm2, areas / areas.sum(), rates.slide_bytes_per_mm2, rng)
        went = simulate(seconds, mm2, cluster, rng)
        busy_h = went.busy_s / 3600
        read = went.mm2 * rates.slide_bytes_per_mm2
        for name, value in {
            "hours": went.seconds / 3600,
            "worker_hours": busy_h,
            "gpu_hours": busy_h if rates.device.startswith("cuda") else 0.0,
            "core_hours": busy_h * rates.threads,
            "lost_hours": went.lost_s / 3600,
            "failures": float(went.failures),
            "tissue_mm2": went.mm2,
            "read_bytes": read,
            "read_mb_s": read / went.seconds / 1e6,
            "written_bytes": went.mm2 * rates.written_bytes_per_mm2,
        }.items():
            told[name].append(value)
        progress(run + 1, runs)
    ranges = {name: Range(*np.quantile(values, _EDGES).tolist()) for name, values in told.items()}
    ideal = cohort.slides * (1 - cohort.broken) * cohort.tissue_mm2 * rates.seconds_per_mm2 / cluster.workers / 3600
    return Plan(**ranges, ideal_hours=ideal)
