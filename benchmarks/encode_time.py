"""How much of ``encode`` is spent inside models: the patch, region, slide and cell encoders.

- The share is the time in which at least one of them was at work, over the whole call, loading of weights
  included. Reading, finding tissue and writing should hide behind them: the target is at least 0.85.

    python benchmarks/encode_time.py                 # a made slide
    python benchmarks/encode_time.py SLIDE --repeat 3
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from encode_memory import write_slide

TARGET = 0.85


def main() -> None:
    from hwsi.encoding import Timings, encode_to_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", help="without one, a slide of 6144 px is made")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--preset", default="nano")
    args = parser.parse_args()
    shares = []
    with tempfile.TemporaryDirectory(prefix="hwsi-") as folder:
        slide = args.slide
        if slide is None:
            slide = Path(folder) / "made.tiff"
            write_slide(slide, 6144, 0.5)
        for run in range(args.repeat):
            timings = Timings()
            with timings("whole"):
                encode_to_file(slide, Path(folder) / f"job{run}", preset=args.preset, timings=timings)
            shares.append(timings.model_share())
            for stage, seconds in timings.seconds().items():
                print(f"{stage:>8} {seconds:8.2f} s")
            print(f"  models {shares[-1]:8.3f} of {timings.wall:.2f} s", flush=True)
    share = statistics.median(shares)
    print(f"share of the models: {share:.3f} (target at least {TARGET})")
    sys.exit(share < TARGET)


if __name__ == "__main__":
    main()
