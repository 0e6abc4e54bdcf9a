"""Leak gate of the phantom's second edition: do words, thumbnails or file sizes tell an answer?

    python benchmarks/phantom_second_leaks.py --slides 300          # draws them into a temporary folder
    python benchmarks/phantom_second_leaks.py --dir COHORT          # or looks at a cohort that is there, with pixels

Prints balanced accuracies beside chance and the bar (chance + 3 standard errors); exits with 1 if one is above it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from hwsi.phantom.leaks import gate_text, table
from hwsi.phantom.second.cohort import write_second
from hwsi.phantom.second.gates import gate_second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="a cohort of the second edition")
    parser.add_argument("--slides", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    if args.dir is not None:
        return judge(args.dir)
    with tempfile.TemporaryDirectory() as folder:
        write_second(
            Path(folder), args.slides, args.seed, split="gate", workers=args.workers, sides_um=(1024, 1280),
            progress=lambda done, all_: print(f"\r{done}/{all_} slides", end="", file=sys.stderr),
        )  # fmt: skip
        print(file=sys.stderr)
        return judge(Path(folder))


def judge(folder: Path) -> int:
    results = gate_second(folder) + gate_text(folder)
    if not results:  # a gate that looked at nothing has not passed
        print("too few slides: no type has five questions for each answer; give more", file=sys.stderr)
        return 2
    print(table(results))
    leaks = [r for r in results if r.leaks]
    print(f"{len(leaks)} of {len(results)} above chance + 3 standard errors")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
