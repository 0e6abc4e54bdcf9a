"""Slides that are files of a few words, and what encodes them as the words say; importable by worker processes."""

import os
import signal
import time
from pathlib import Path

from hwsi.encoding.cohort.job import Job, Outcome
from hwsi.encoding.turns import at_once
from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import write_atomic
from hwsi.presets import load_preset


def a_job(out: Path, **changes) -> Job:
    return Job(out, load_preset("nano"), **changes)


def slides(folder: Path, **words: str) -> list[Path]:
    """name -> what becomes of it: fine, broken, crash, crash once, killed, hang, bug, full, no weights, slow."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, word in words.items():
        (folder / f"{name}.svs").write_text(word)
    return [folder / f"{name}.svs" for name in words]


def work(job, row, *, progress, note=None, worker=0, turn=at_once) -> Outcome:
    slide = Path(row.slide)
    word = slide.read_text()
    seen = job.out / "seen" / f"{slide.stem}.{os.getpid()}.{time.monotonic_ns()}"
    write_atomic(seen, b"")
    if note is not None and slide.stem == "a":
        note("the first")
    progress("tissue", 1, 1)
    if word == "no weights":
        raise HwsiError(Reason.WEIGHTS_MISSING, "nothing to encode with", "fetch it")
    if word == "crash" or (word == "crash once" and row.attempts == 1):
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        time.sleep(1000)
    if word == "bug":
        raise RuntimeError("a bug\nof ours")
    if word == "slow":
        for i in range(20):
            progress("patches", i, 20)
            time.sleep(0.1)
    if word == "broken":
        return Outcome.failed(HwsiError(Reason.SLIDE_CORRUPT, f"{slide} is damaged", "copy it again"), 0.1)
    if word == "full":
        return Outcome.failed(HwsiError(Reason.DISK_FULL, "no room left", "free some space"), 0.1)
    progress("patches", 10, 10)
    features = job.out / "features" / f"{slide.stem}.h5"
    write_atomic(features, word.encode())
    odd = ("only a file of words",) if word == "odd" else ()
    return Outcome(features, seconds=0.5, written_bytes=len(word), tissue_mm2=0.16, odd=odd)
