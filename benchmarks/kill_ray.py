"""A cohort on a local Ray cluster of 2 workers while SIGKILL falls on its workers: nothing lost, features the same.

- The cohort, the truth and how a job is looked at are those of ``kill_cohort.py``: first it is encoded undisturbed by
  processes, then on Ray under fire. At the end every slide must have the same state and reason and the same bytes.
- A kill hits one actor, at a random moment, while it has slides at work; the command must go on.

    python benchmarks/kill_ray.py                          # 60 slides, 10 kills
    python benchmarks/kill_ray.py --slides 8 --kills 3 --real none
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from kill_cohort import REAL, begin, command, command_line, differences, look, make_cohort, undisturbed

WORKERS = 2


def actors(pid: int) -> list[int]:
    """Ray actors below a process that encode."""
    found, below = [], [pid]
    while below:
        for name in Path(f"/proc/{below.pop()}/task").glob("*/children"):
            with suppress(OSError):
                below += [int(p) for p in name.read_text().split()]
                found += below
    return sorted({p for p in found if b"ray::_Encoder" in command_line(p)})


def under_fire(words: list[str], job: Path, kills: int, rng: np.random.Generator, mean_s: float) -> tuple[int, int]:
    """Status of the command, and how many kills fell."""
    process, fallen = begin(words), 0
    while True:
        try:
            return process.wait(rng.uniform(0, 2 * mean_s)), fallen
        except subprocess.TimeoutExpired:
            pass
        targets = actors(process.pid)
        if fallen < kills and targets and any((job / "partial").glob("*")):
            with suppress(ProcessLookupError):
                os.kill(int(rng.choice(targets)), signal.SIGKILL)
                fallen += 1
                print(f"  kill {fallen}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mean-s", type=float, default=8, help="seconds between kills, on average")
    parser.add_argument("--real", default=str(REAL), help="folder of real slides, or 'none'")
    args = parser.parse_args()
    args.workers, args.timeout = WORKERS, 1800
    real = None if args.real == "none" or not Path(args.real).is_dir() else Path(args.real)
    with tempfile.TemporaryDirectory(prefix="hwsi-kill-ray-") as folder:
        cohort, job = Path(folder) / "slides", Path(folder) / "ray"
        make_cohort(cohort, args.slides, real)
        truth, _ = undisturbed(cohort, Path(folder) / "undisturbed", args)
        start = time.perf_counter()
        words = [*command(cohort, job, WORKERS, args.timeout), "--engine", "ray"]
        status, fallen = under_fire(words, job, args.kills, np.random.default_rng(args.seed), args.mean_s)
        found = look(job)
        wrong = differences(found, truth)
        left = sorted(p.name for p in job.rglob("*.tmp")) + sorted(p.name for p in job.glob("partial/*"))
        print(f"Ray: {len(found)} slides in {time.perf_counter() - start:.0f} s, status {status}, {fallen} kills")
        if wrong or left or not fallen:
            sys.exit("FAILED\n" + "\n".join([*wrong, *left, *([] if fallen else ["no kill fell"])]))
        print(f"passed: {fallen} kills of workers; no slide lost, bytes equal to an undisturbed run of processes")


if __name__ == "__main__":
    main()
