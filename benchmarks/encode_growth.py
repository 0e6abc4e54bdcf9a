"""How encoding grows: time with the area of tissue, memory with the size of the slide.

- Time: slides that are all tissue, of 9 to 48 mm², by one process with its encoders loaded; on smaller ones what is
  done once for each slide shows (about 0.4 s). What counts is the processor's time of all threads, since the wall's
  belongs to the neighbours, too; sizes take turns and the median of three rounds counts, since a processor's clock
  moves. The exponent is fitted to the logarithms of seconds and of patches with tissue.
- Memory: each size in a process of its own (``encode_memory.py``): the peak beyond what is written.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from encode_memory import TARGET, growth_of_memory, write_slide
from lines import Line

SIDES = (6144, 9216, 13824)
EXPONENT = (0.95, 1.05)
ROUNDS = 3


def seconds_by_patches(sides: tuple[int, ...]) -> tuple[list[int], list[float]]:
    """Patches with tissue, and seconds of a processor, of slides that are all tissue; preset nano."""
    from hwsi.encoding import encode_slide, load_stack
    from hwsi.presets import load_preset

    stack = load_stack(load_preset("nano"))
    patches = dict.fromkeys(sides, 0)
    seconds: dict[int, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="hwsi-growth-") as name:
        for side in sides:
            write_slide(Path(name) / f"{side}.tiff", side, 1.0)
        encode_slide(Path(name) / f"{sides[0]}.tiff", stack=stack)  # what is done once is done by then
        for _ in range(ROUNDS):
            for side in sides:
                start = time.process_time()
                features = encode_slide(Path(name) / f"{side}.tiff", stack=stack)
                seconds[side].append(time.process_time() - start)
                patches[side] = int((~features.hierarchy.patches.background).sum())
    return list(patches.values()), [statistics.median(taken) for taken in seconds.values()]


def growth_lines() -> list[Line]:
    """The exponent of time, and the growth of memory."""
    patches, seconds = seconds_by_patches(SIDES)
    exponent = float(np.polyfit(np.log(patches), np.log(seconds), 1)[0])
    told = ", ".join(f"{n}: {s:.1f} s" for n, s in zip(patches, seconds, strict=True))
    sizes, growth = growth_of_memory([4096, 16384, 32768], 0.06, "nano")
    return [
        Line(
            "time with tissue area, exponent", f"{exponent:.3f}", limit=f"patches: seconds of a processor: {told}",
            wanted=f"{EXPONENT[0]} to {EXPONENT[1]}", met=EXPONENT[0] <= exponent <= EXPONENT[1],
        ),
        Line(
            "peak memory, 4k to 32k pixels a side", f"{growth:+.1%}",
            limit="beyond the output; " + ", ".join(f"{s['peak'] / 1e6:.0f} MB" for s in sizes),
            wanted=f"<= {TARGET:+.0%}", met=growth <= TARGET,
        ),
    ]  # fmt: skip
