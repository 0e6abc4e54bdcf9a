"""One slide of a cohort, from its path to an outcome: what any engine calls, in any process, on any machine.

- It is idempotent: what is whole is found, what is half is gone on with, and it may run twice at once.
- It knows nothing of the table of states: who claimed the slide records the outcome.
- The encoders of a job are loaded once in a process.
"""

import errno
import json
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from hwsi.encoding.agreement import agreement
from hwsi.encoding.cohort.job import Job, Outcome, Row, stamp
from hwsi.encoding.cohort.local import local_copy
from hwsi.encoding.cohort.store import open_store
from hwsi.encoding.device import devices_of
from hwsi.encoding.encode import encode_to_file
from hwsi.encoding.given import find_given
from hwsi.encoding.precision import in_precision
from hwsi.encoding.progress import Progress, Stage, silent
from hwsi.encoding.stack import is_small
from hwsi.encoding.timing import Timings
from hwsi.encoding.turns import Place, Turn, at_once
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.encoding.stack import Stack
    from hwsi.slide import Slide

_PICTURE_PX = 320
_BLURRED = 0.4
"""Sharpness (``hwsi.slide.region_focus``) below which a region is out of focus."""
_ODD_SHARE = 0.5
_ODD_PEN = 0.1
_LITTLE_MM2 = 0.25
_SEEN = (
    Reason.NO_TISSUE, Reason.FLUORESCENCE, Reason.PEN_MARKED, Reason.TOO_COARSE, Reason.TOO_SMALL, Reason.MASK_INVALID,
)  # fmt: skip
"""Reasons of which a picture of the slide tells more: it opens, and its pixels decode."""

Note = Callable[[str], None]


@dataclass
class Encoders:
    """The encoders of a job: in the preset's precision and, until they were compared, as they were loaded."""

    used: "Stack"
    exact: "Stack | None"


_LOADING = threading.Lock()


@lru_cache(maxsize=1)
def load_encoders(job: Job, device: str) -> Encoders:
    """The encoders of a job, once in a process.

    Raises:
        HwsiError: what :func:`hwsi.encoding.load_stack` and ``in_precision`` say, and OPTION_INVALID if they do not
            fit the preset.
    """
    from hwsi.encoding import load_stack

    exact = load_stack(job.preset, device, trust_remote_code=job.trust_remote_code)
    used = in_precision(exact, job.preset)
    used.check(job.preset)
    return Encoders(used, exact)


def encode_one(
    job: Job,
    row: Row,
    *,
    progress: Progress = silent,
    note: Note | None = None,
    worker: int = 0,
    turn: Turn = at_once,
    timings: Timings | None = None,
) -> Outcome:
    """Encode a slide; whatever is wrong with it becomes part of the outcome.

    Args:
        job: how.
        row: which slide.
        progress: is told how far it is.
        note: is told, once, how near a reduced precision is to float32; none: it is not measured.
        worker: number of the process, which chooses its GPU.
        turn: entered around the work of models, where slides share them.
        timings: collects where the time goes.

    Returns:
        The outcome. A bug of ours is one, too, with reason ``internal_error`` and where it happened.

    Raises:
        HwsiError: what loading the encoders says: that is wrong with all slides, not with this one.
    """
    timings = timings or Timings()
    with timings("load"):
        encoders = _loaded(job, worker)
    started, before = time.perf_counter(), stamp(row.slide)
    told = _Told(job, progress)
    how = _How(encoders, told, note, turn, timings)
    made, trace = _Made(), ""
    try:
        with local_copy(row.slide, job.cache) as path:
            made = _make(job, row, path, how)
    except HwsiError as error:
        made = _Made(error=error)
    except Exception as error:  # the run goes on: the row says what happened, the log says where
        made, trace = _Made(error=_understood(row.slide, error)), traceback.format_exc()
    if before != stamp(row.slide) and not _lies_elsewhere(made.error):
        what = f"{row.slide} changed while it was read"
        if made.features is not None:  # of a slide that was half one and half another
            made.features.unlink(missing_ok=True)
        made = _Made(error=HwsiError(Reason.SLIDE_CHANGED, what, "run again when nobody writes it any more"))
    # what it waited for another slide of this process is not its own
    seconds = time.perf_counter() - started - (turn.waited if isinstance(turn, Place) else 0.0)
    if made.error is None:
        assert made.features is not None
        size = made.features.stat().st_size
        if job.store is not None:
            try:
                _deliver(job, made.features)
            except HwsiError as error:
                return Outcome.failed(error, seconds)
        return Outcome(made.features, None, "", seconds, size, told.mm2, made.odd, made.picture)
    known = trace if made.error.reason is Reason.INTERNAL_ERROR else ""
    return Outcome.failed(made.error, seconds, picture=made.picture, trace=known)


def make_features(job: Job, row: Row, *, progress: Progress = silent, note: Note | None = None) -> Path:
    """The feature file of one slide, with nothing beside it but what the job asks for; errors are raised."""
    from hwsi.slide import open_slide

    how = _How(_loaded(job, 0), progress, note, at_once, Timings())
    with local_copy(row.slide, job.cache) as path, open_slide(path, mpp=row.mpp) as slide:
        return _encode(job, row, slide, how)


def encoders_in_use(job: Job) -> "Stack":
    """The encoders of a job's first worker, in the preset's precision. Raises as :func:`load_encoders`."""
    return _loaded(job, 0).used


def _loaded(job: Job, worker: int) -> Encoders:
    with _LOADING:  # one slide of a process loads them, another waits
        devices = devices_of(job.device, small=is_small(job.preset))
        return load_encoders(job, devices[worker % len(devices)])


class _How(NamedTuple):
    """What the slides of a process are encoded with, and who is told."""

    encoders: Encoders
    progress: Progress
    note: Note | None
    turn: Turn
    timings: Timings

    def exact(self) -> "Stack | None":
        """The encoders as they were loaded, for who asks first; they are not kept any longer."""
        with _LOADING:
            exact, self.encoders.exact = self.encoders.exact, None
        return exact


class _Made(NamedTuple):
    """What encoding ended in: a file with what is odd about it, or an error; a picture where one helps."""

    features: Path | None = None
    odd: tuple[str, ...] = ()
    picture: Path | None = None
    error: HwsiError | None = None


def _make(job: Job, row: Row, path: Path, how: _How) -> _Made:
    from hwsi.slide import open_slide

    with open_slide(path, mpp=row.mpp) as slide:
        try:
            features = _encode(job, row, slide, how)
        except HwsiError as error:
            return _Made(error=error, picture=_picture(job, slide) if error.reason in _SEEN else None)
        odd = looks_odd(features)
        return _Made(features, odd, _picture(job, slide) if odd else None)


def _lies_elsewhere(error: HwsiError | None) -> bool:
    """Whether an error says nothing of the slide."""
    return error is not None and error.reason in (Reason.DISK_FULL, Reason.OUTPUT_UNWRITABLE, Reason.OUT_OF_MEMORY)


def _encode(job: Job, row: Row, slide: "Slide", how: _How) -> Path:
    exact = how.exact()
    if how.note is not None and job.preset.precision != "float32" and exact is not None:
        for encoder, cosine in agreement(exact, how.encoders.used, slide, job.preset).items():
            how.note(f"{encoder} in {job.preset.precision}: cosine to float32 at least {cosine:.5f}")
    del exact  # float32's weights are not needed any more
    if job.store is not None:  # what another machine made is checked like one's own
        file = f"features/{slide.name}.h5"
        if not (job.out / file).exists():
            open_store(job.store).fetch(file, job.out / file)
    given = None if job.patches is None else find_given(job.patches, slide.name, job.patches_encoder)
    made = encode_to_file(
        slide, job.out, preset=job.preset, mask=row.mask, stack=how.encoders.used, progress=how.progress,
        timings=how.timings, turn=how.turn, given=given,
    )  # fmt: skip
    if job.cells_geojson:
        from hwsi.features import read_features, write_geojson

        write_geojson(cells_file(job, made), read_features(made), ["cells"])
    return made


def _deliver(job: Job, features: Path) -> None:
    """Upload what was made of a slide, its feature file last, and keep nothing of it here."""
    assert job.store is not None
    name, released = features.stem, job.out / "released"
    beside = [cells_file(job, features)] if job.cells_geojson else []
    beside += [p for p in released.rglob("*") if p.is_file() and name in (p.stem, p.parent.name)]
    for path in (*beside, features):
        open_store(job.store).put(path, path.relative_to(job.out).as_posix())
    for path in (*beside, features):
        path.unlink(missing_ok=True)


def cells_file(job: Job, features: Path) -> Path:
    """Where the cells of a feature file stand as GeoJSON."""
    return job.out / "cells" / f"{features.stem}.geojson"


class _Told:
    """Passes progress on, and learns from it the area of the tissue that is encoded."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._progress = progress
        self._patch_mm2 = (job.preset.patch_px * job.preset.read_mpp / 1000) ** 2
        self.mm2: float | None = None

    def __call__(self, stage: Stage, done: int, total: int | None) -> None:
        if stage == "patches" and total is not None:
            self.mm2 = total * self._patch_mm2
        self._progress(stage, done, total)


def looks_odd(features: Path) -> tuple[str, ...]:
    """What a person should look at on an encoded slide: one line each, none on an ordinary slide.

    Args:
        features: a whole feature file.
    """
    import h5py

    with h5py.File(features) as file:
        focus, pen = np.asarray(file["region/focus"]), np.asarray(file["region/pen"])
        patches = int(np.count_nonzero(~np.asarray(file["patch/background"])))
        side_mm = float(file.attrs["patch_px"]) * float(file.attrs["read_mpp"]) / 1000
        warnings = json.loads(str(file.attrs["warnings"]))
    odd = list(warnings)
    if len(focus) and (share := float((focus < _BLURRED).mean())) > _ODD_SHARE:
        odd.append(f"{share:.0%} of the regions are out of focus")
    if len(pen) and (share := float(pen.mean())) > _ODD_PEN:
        odd.append(f"{share:.0%} of the regions is under pen")
    if (area := patches * side_mm**2) < _LITTLE_MM2:
        odd.append(f"only {area:.2g} mm² of tissue")
    return tuple(odd)


def _picture(job: Job, slide: "Slide") -> Path | None:
    """A small picture of a slide beside the summary; none where it can't be made, since it only helps."""
    import cv2

    from hwsi.features.atomic import write_atomic

    with suppress(HwsiError, MemoryError):
        longest_um = max(slide.width0 * slide.mpp_xy[0], slide.height0 * slide.mpp_xy[1])
        image = slide.thumbnail(max(slide.mpp, longest_um / _PICTURE_PX))
        written, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
        if written:
            path = job.out / "pictures" / f"{slide.name}.jpg"
            write_atomic(path, data.tobytes())
            return path
    return None


def _understood(slide: str, error: Exception) -> HwsiError:
    """What an error of the system or of torch means to the user; the rest is a bug of ours."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HwsiError(Reason.DISK_FULL, f"no room left: {error}", "free some space and run again")
    # torch tells a CPU's lack of memory as a RuntimeError without a class of its own
    if (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "can't allocate memory" in str(error)
    ):
        return HwsiError(
            Reason.OUT_OF_MEMORY, f"no memory left to encode {slide}: {first}", "run it again with fewer --workers"
        )
    what = f"{type(error).__name__} on {slide}: {first}"
    return HwsiError(Reason.INTERNAL_ERROR, what, "this is a bug: please report it with its lines of log.jsonl")
