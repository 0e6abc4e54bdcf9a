"""A cohort with 1 and 2 workers, on this machine and on a Ray cluster of it, in one run; and how busy the models are.

- Each side encodes the same drawn slides, in turns; the table says mm² of tissue a second, from the first claim to the
  last record, with starting of processes and loading of weights. Ratios are to one worker of this machine.
- Below it the share of the wall time in which a model was at work, in one process with its encoders loaded: slides one
  at a time, and two at a time as workers have them. The target is 0.95.

    python benchmarks/throughput.py                    # 6 slides of 1.5 mm
    python benchmarks/throughput.py --slides 12 --side-um 3072 --repeat 3
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

TARGET = 0.95


def draw(folder: Path, slides: int, side_um: int) -> list[Path]:
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import ORGAN_OF, Spec

    diagnoses = list(ORGAN_OF)
    paths = [folder / f"slide{i:03d}.svs" for i in range(slides)]
    for i, path in enumerate(paths):
        write_phantom(path, Spec(500 + i, diagnoses[i % len(diagnoses)], width_um=side_um, height_um=side_um))
    return paths


def encode(out: Path, paths: list[Path], preset: str, engine: str, workers: int) -> float:
    """mm² a second."""
    from hwsi.encoding.cohort.job import Job
    from hwsi.encoding.cohort.manifest import Entry
    from hwsi.encoding.cohort.runner import run_cohort
    from hwsi.encoding.cohort.state import StateTable
    from hwsi.presets import load_preset

    job, source = Job(out, load_preset(preset)), None
    if engine == "ray":
        from hwsi.encoding.cohort.on_ray import RayCluster

        source = RayCluster(job, None, workers, gpu=False)
    with StateTable(out, create=True) as table:
        table.enrol(job, [Entry(str(path)) for path in paths])
        start = time.perf_counter()
        run_cohort(table, job, workers=workers, engine=source)
        seconds = time.perf_counter() - start
        rows = table.rows()
    if any(row["state"] != "done" for row in rows):
        raise SystemExit(f"not all was encoded: {[row['message'] for row in rows if row['message']]}")
    return sum(row["tissue_mm2"] for row in rows) / seconds


def main() -> None:
    from hwsi.benchmarks.encode_rates import run_lane
    from hwsi.encoding.cohort.job import Job
    from hwsi.presets import load_preset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=6)
    parser.add_argument("--side-um", type=int, default=1536)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], choices=["local", "ray"])
    args = parser.parse_args()
    sides = [(engine, workers) for engine in args.engines for workers in (1, 2)]
    found: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
    shares: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="hwsi-throughput-") as folder:
        root = Path(folder)
        paths = draw(root / "slides", args.slides, args.side_um)
        print(f"{len(paths)} slides of {args.side_um} µm, preset {args.preset}, {os.cpu_count()} cores", flush=True)
        for turn in range(args.repeat):
            for engine, workers in sides:
                out = root / f"{engine}{workers}-{turn}"
                found[engine, workers].append(encode(out, paths, args.preset, engine, workers))
                print(f"  {engine} {workers}: {found[engine, workers][-1]:.3f} mm²/s", flush=True)
            for depth, of_depth in shares.items():
                job = Job(root / f"share{depth}-{turn}", load_preset(args.preset))
                lap = run_lane(job, paths, depth=depth)
                of_depth.append(lap.model_share)
                print(f"  depth {depth}: models {lap.model_share:.3f} of {lap.timings.wall:.1f} s", flush=True)
    base = statistics.median(found[sides[0]])
    print(f"{'engine':<8}{'workers':>8}{'mm²/s':>9}{'ratio':>8}")
    for (engine, workers), rates in found.items():
        rate = statistics.median(rates)
        print(f"{engine:<8}{workers:>8}{rate:>9.3f}{rate / base:>8.2f}")
    for depth, of_depth in shares.items():
        print(f"models at work, {depth} slide{'s' * (depth > 1)} at a time: {statistics.median(of_depth):.3f}")
    print(f"target: at least {TARGET} with two")


if __name__ == "__main__":
    main()
