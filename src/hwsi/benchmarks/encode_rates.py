"""How fast this machine encodes: rates of one worker, for ``hwsi bench encode`` and ``hwsi plan``.

- Slides go through the same lane as in a cohort: two at a time, models in turns. What a slide takes counts with all
  that stands beside the models: reading, tissue, writing.
- Loading weights and measuring batches happen once for each worker and stand apart.
- :func:`run_lane` is that lane with one clock for all slides: it tells in which share of the wall time a model was at
  work.
"""

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hwsi
from hwsi.encoding.cohort.job import Job, Outcome, Row
from hwsi.encoding.cohort.lane import DEPTH, Lane
from hwsi.encoding.cohort.manifest import slide_bytes
from hwsi.encoding.cohort.rates import Measured, Rates
from hwsi.encoding.timing import Timings
from hwsi.errors import HwsiError
from hwsi.presets import Preset

_DRAWN = (1024, 1536, 2048)
"""Sides of the slides that are drawn where none are given, in micrometres."""


@dataclass(frozen=True)
class Lap:
    """Slides that went through one lane.

    Attributes:
        outcomes: of each, in the order in which they were given.
        timings: of all of them, on one clock; ``wall`` from the first slide's begin to the last one's end.
        load_s: that it took to load the encoders, before.
    """

    outcomes: tuple[Outcome, ...]
    timings: Timings
    load_s: float

    @property
    def model_share(self) -> float:
        """Fraction of the wall time in which at least one model was at work."""
        return self.timings.model_share()


def run_lane(
    job: Job, slides: Sequence[str | Path], *, depth: int = DEPTH, progress: Callable[[int, int], None] | None = None
) -> Lap:
    """Encode slides as a worker of a cohort does, in this process.

    Args:
        job: how, and where to. slides: at least one. depth: how many at a time.
        progress: is told how many are done.

    Raises:
        HwsiError: what is wrong with all slides, or with the first that fails.
    """
    from hwsi.encoding.cohort.one import encode_one, encoders_in_use

    began = time.perf_counter()
    encoders_in_use(job)
    load_s = time.perf_counter() - began
    timings, done = Timings(), dict[int, Any]()

    def say(kind: str, row: int, what: Any) -> None:
        if kind in ("outcome", "fatal"):
            done[row] = what
            if progress is not None:
                progress(len(done), len(slides))

    lane = Lane(job, partial(encode_one, timings=timings), 0, say, depth=depth)
    for i, slide in enumerate(slides):
        lane.give(Row(i, str(slide), size_bytes=slide_bytes(str(slide))))
    lane.close()
    outcomes = []
    for i in range(len(slides)):
        if isinstance(done[i], HwsiError):
            raise done[i]
        if done[i].reason is not None:
            what, _, todo = done[i].message.partition(" -> ")
            raise HwsiError(done[i].reason, what, todo)
        outcomes.append(done[i])
    return Lap(tuple(outcomes), timings, load_s)


def measure_rates(
    preset: Preset,
    slides: Sequence[str | Path] = (),
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Rates:
    """Rates of one worker of this machine.

    Args:
        preset: which encoders.
        slides: what is encoded, best some of the cohort; by default three slides are drawn.
        device: where the encoders compute.
        progress: is told how many slides are done.

    Raises:
        HwsiError: as :func:`run_lane`.
    """
    import torch

    from hwsi.encoding.cohort.one import encoders_in_use

    with tempfile.TemporaryDirectory(prefix="hwsi-rates-") as folder:
        paths = [Path(s) for s in slides] or _draw(Path(folder))
        job = Job(Path(folder) / "job", preset, device)
        lap = run_lane(job, paths, progress=progress)
        sizes = [slide_bytes(str(path)) for path in paths]
        counts = [_count(outcome.features) for outcome in lap.outcomes if outcome.features is not None]
    patches, cells = (sum(count[i] for count in counts) for i in range(2))
    seconds, timings = lap.timings.seconds(), lap.timings
    wall = timings.wall - seconds.get("tune", 0.0)
    own = sum(outcome.seconds for outcome in lap.outcomes)
    measured = tuple(
        Measured(outcome.tissue_mm2 or 0.0, outcome.seconds / own * wall, size, outcome.written_bytes)
        for outcome, size in zip(lap.outcomes, sizes, strict=True)
    )
    mm2 = sum(m.mm2 for m in measured)
    covered = sum(count[2] * m.slide_bytes for count, m in zip(counts, measured, strict=True))
    stack = encoders_in_use(job)
    return Rates(
        preset=preset.name,
        precision=preset.precision,
        device=stack.device,
        threads=torch.get_num_threads(),
        hwsi=hwsi.__version__,
        machine=f"{platform.machine()} {_processor()}",
        slides=measured,
        model_share=lap.model_share * timings.wall / wall,
        tissue_s_per_mm2=seconds.get("tissue", 0.0) / mm2,
        read_patches_per_s=patches / seconds["read"],
        read_mb_per_s=covered / 1e6 / seconds["read"],
        patches_per_s={e.spec.id: patches / seconds[e.spec.id] for e in stack.patches},
        cells_per_s=cells / seconds["cells"],
        cells_per_mm2=cells / mm2,
        write_mb_per_s=sum(m.written_bytes for m in measured) / 1e6 / seconds["write"],
        load_s=lap.load_s,
    )


def _count(features: Path) -> tuple[int, int, float]:
    """Of a feature file: patches with tissue, cells, and the share of the slide that these patches cover."""
    import h5py
    import numpy as np

    with h5py.File(features) as file:
        patches = int(np.count_nonzero(~np.asarray(file["patch/background"])))
        side = float(file.attrs["patch_size0"])
        share = patches * side**2 / (float(file.attrs["width0"]) * float(file.attrs["height0"]))
        return patches, len(file["cell/coords"]), min(1.0, share)


def _draw(folder: Path) -> list[Path]:
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import ORGAN_OF, Spec

    paths = []
    for i, side in enumerate(_DRAWN):
        paths.append(folder / f"drawn{i}.svs")
        write_phantom(paths[-1], Spec(i, list(ORGAN_OF)[i], width_um=side, height_um=side))
    return paths


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
