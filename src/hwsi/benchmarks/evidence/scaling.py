"""How the cost of the slide encoder grows with its regions: exponents of time and memory from 100 to 10,000.

- Forward and backward on the CPU, the fastest of several runs; memory is the growth of the process's peak, each size in
  a process of its own, since a peak never falls.
- The exponent is the slope of a line through the logarithms.
"""

import subprocess
import sys
from itertools import pairwise

import numpy as np

from hwsi.benchmarks.evidence.figure import Line

REGIONS = (100, 316, 1000, 3162, 10_000)

_ONE = """
import resource, sys, time, torch
from hwsi.encoders.slide_nano import SlideNano
torch.set_num_threads(1)
n, runs = int(sys.argv[1]), int(sys.argv[2])
net = SlideNano()
side = int(n**0.5) + 1
centre = torch.stack([torch.arange(n) // side, torch.arange(n) % side], 1)[None].float()
x, mask = torch.rand(1, n, 194), torch.ones(1, n, dtype=torch.bool)
net(x[:, :16], mask[:, :16], centre[:, :16]).sum().backward()
before, best = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, float("inf")
for _ in range(runs):
    start = time.perf_counter()
    net(x, mask, centre).sum().backward()
    best = min(best, time.perf_counter() - start)
print(best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def measure() -> list[Line]:
    """The two exponents, with the seconds and MiB of the largest slide beside."""
    seconds, kib = [], []
    for n in REGIONS:
        runs = 5 if n <= 1000 else 2
        done = subprocess.run(
            [sys.executable, "-c", _ONE, str(n), str(runs)], capture_output=True, text=True, check=True
        )
        time, peak = done.stdout.split()
        seconds.append(float(time))
        kib.append(max(float(peak), 1.0))
    beside = {f"{n} regions, s": s for n, s in zip(REGIONS, seconds, strict=True)}
    memory = {f"{n} regions, MiB": k / 1024 for n, k in zip(REGIONS, kib, strict=True)}
    return [
        Line("attention", "slide attention: exponent of time", _slope(seconds), n=len(REGIONS), floor=1.15, aim=1.05,
             less=True, beside=beside),
        Line("attention", "slide attention: exponent of memory", _slope(kib), n=len(REGIONS), floor=1.15, aim=1.05,
             less=True, beside=memory),
    ]  # fmt: skip


def _slope(cost: list[float]) -> float:
    assert all(b > a for a, b in pairwise(REGIONS))
    return float(np.polyfit(np.log(REGIONS), np.log(cost), 1)[0])
