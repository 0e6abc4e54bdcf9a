"""Leak gate of the phantom: do trivial features tell diagnoses, or words tell answers?

    python benchmarks/phantom_leaks.py --slides 160            # draws small slides into a temporary folder
    python benchmarks/phantom_leaks.py --dir COHORT            # or looks at a cohort that is there

Prints balanced accuracies beside chance and the bar (chance + 3 standard errors); exits with 1 if one is above it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from hwsi.phantom.cohort import write_cohort
from hwsi.phantom.leaks import gate_slides, gate_text, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="a cohort that write_cohort made")
    parser.add_argument("--slides", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--side", type=int, default=1024, help="of the slides drawn, in microns")
    args = parser.parse_args()
    if args.dir is not None:
        return judge(args.dir)
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(
            folder,
            args.slides,
            args.seed,
            split="gate",
            workers=args.workers,
            sides_um=(args.side, args.side + 256),
            progress=lambda done, all_: print(f"\r{done}/{all_} slides", end="", file=sys.stderr),
        )
        print(file=sys.stderr)
        return judge(Path(folder))


def judge(folder: Path) -> int:
    results = gate_slides(folder) + gate_text(folder)
    if not results:  # a gate that looked at nothing has not passed
        print("too few slides: no diagnosis has five; give more", file=sys.stderr)
        return 2
    print(table(results))
    leaks = [r for r in results if r.leaks]
    print(f"{len(leaks)} of {len(results)} above chance + 3 standard errors")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
