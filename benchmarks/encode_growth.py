"""How encoding grows: time with the area of tissue, memory with the size of the slide.

- Time: slides that are all tissue, of growing area, by one process with its encoders loaded. What counts is the
  processor's time of all threads, since the wall's belongs to the neighbours, too; the exponent is fitted to the
  logarithms of seconds and of patches with tissue.
- Memory: each size in a process of its own (``encode_memory.py``): the peak beyond what is written.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from encode_memory import TARGET, growth_of_memory, write_slide
from lines import Line

SIDES = (3072, 4608, 6144, 9216)
EXPONENT = (0.95, 1.05)


def seconds_by_patches(sides: tuple[int, ...]) -> tuple[list[int], list[float]]:
    """Patches with tissue, and seconds of a processor, of slides that are all tissue; preset nano."""
    from hwsi.encoding import encode_slide, load_stack
    from hwsi.presets import load_preset

    stack = load_stack(load_preset("nano"))
    patches, seconds = [], []
    with tempfile.TemporaryDirectory(prefix="hwsi-growth-") as name:
        for side in (sides[0], *sides):  # the first once more: what is done once is done by then
            path = Path(name) / "all.tiff"
            write_slide(path, side, 1.0)
            start = time.process_time()
            features = encode_slide(path, stack=stack)
            seconds.append(time.process_time() - start)
            patches.append(int((~features.hierarchy.patches.background).sum()))
    return patches[1:], seconds[1:]


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
