"""How fast ``hwsi encode`` is: one run, one table, each figure beside the other side's and what is possible.

- ``region``: the release's region step, the same work and the same outputs (``encode_region.py``).
- ``spread``: a slide with CONCH only where the filter can keep a patch, and what that costs (``encode_spread.py``).
- ``reading``: tiles against OpenSlide, tiffslide and the bare codecs (``tile_reads.py``).
- ``share``: time inside models over whole wall time, of a worker with its slides side by side (``hwsi bench encode``).
- ``growth``: time with tissue area, memory with the size of the slide (``encode_growth.py``).
- Throughput at one and two workers, local and on Ray, is ``benchmarks/throughput.py``.

    python benchmarks/encode.py                            # everything: half an hour on two quiet cores
    python benchmarks/encode.py region --patches 32
    python benchmarks/encode.py reading share
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lines import HEADS, Line
from rich.console import Console
from rich.table import Table

PARTS = ("region", "spread", "reading", "share", "growth")
_LEAST_SHARE = 0.95


def region(args: argparse.Namespace) -> list[Line]:
    from encode_region import region_lines

    return region_lines(args.patches)


def spread(args: argparse.Namespace) -> list[Line]:
    from encode_spread import spread_lines

    return spread_lines(args.slides, seed=0, out=args.keep and args.keep / "spread")


def reading(args: argparse.Namespace) -> list[Line]:
    from tile_reads import reading_lines

    return reading_lines(None, tiles=400, rounds=5)


def share(args: argparse.Namespace) -> list[Line]:
    from hwsi.benchmarks.encode_rates import measure_rates
    from hwsi.presets import load_preset

    rates = measure_rates(load_preset("nano"), [], device="cpu")
    what = f"models at work, nano, {len(rates.slides)} slides of {rates.mm2:.1f} mm²"
    return [
        Line(
            what, f"{rates.model_share:.3f}", limit=f"{rates.model_share:.3f} of the wall time",
            wanted=f">= {_LEAST_SHARE}", met=rates.model_share >= _LEAST_SHARE,
        )
    ]  # fmt: skip


def growth(args: argparse.Namespace) -> list[Line]:
    from encode_growth import growth_lines

    return growth_lines()


MEASURES: dict[str, Callable[[argparse.Namespace], list[Line]]] = {
    "region": region, "spread": spread, "reading": reading, "share": share, "growth": growth,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--patches", type=int, default=256, help="of the region's 256, for the region step")
    parser.add_argument("--slides", type=int, default=24, help="phantoms, for what the spread costs")
    parser.add_argument("--keep", type=Path, help="folder that keeps phantoms and their features for the next run")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    title = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    table = Table(title=title)
    for head in HEADS:
        table.add_column(head, justify="right" if head == "ratio" else "left")
    missed = 0
    for part in args.parts or PARTS:
        start = time.perf_counter()
        for line in MEASURES[part](args):
            table.add_row(*line.cells())
            missed += line.met is False
        table.add_section()
        print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    Console(width=max(150, Console().width)).print(table)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
