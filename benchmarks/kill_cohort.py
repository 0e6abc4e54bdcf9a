"""A cohort encoded while SIGKILL falls on it: nothing that is finished is lost, nothing half is taken for whole.

- The cohort: all real slides of a folder with its broken ones, and phantoms until there are enough. First it is
  encoded undisturbed; that is the truth.
- Then it is encoded again under fire, at random moments. A kill hits the whole process group (a machine that goes
  down), the command alone (its workers must follow it) or one worker (the command must go on). After every kill each
  feature file is read whole, and no slide that was done may be anything else. A round that ends before all kills
  have fallen is compared, and another begins in a new folder.
- At the end of each round every slide must have the same state and reason as undisturbed, and the same bytes.
- ``--variant hang`` adds a slide whose reader blocks for ever (a MIRAX index that is a pipe nobody writes to);
  ``--variant full`` encodes onto a small tmpfs (where mounting is permitted), then gives it room and goes on.

    python benchmarks/kill_cohort.py                                  # 60 slides, 100 kills: an hour on two cores
    python benchmarks/kill_cohort.py --slides 2 --kills 4 --real none
    python benchmarks/kill_cohort.py --variant full --slides 6
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwsi.encoding.cohort.state import StateTable
from hwsi.features import check_features

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "slides"
HANG_S = 60
State = dict[str, tuple[str, str | None, str | None]]
"""Slide -> (state, reason, digest of its feature file)."""


def make_cohort(folder: Path, slides: int, real: Path | None) -> None:
    """Real slides by links, phantoms of 768 and 1024 µm for the rest."""
    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import ORGAN_OF, Spec

    folder.mkdir(parents=True)
    found = [] if real is None else [p for p in sorted(real.rglob("*")) if p.is_file()]
    for path in found[:slides]:
        link = folder / path.relative_to(real or folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    rng = np.random.default_rng(0)
    for i in range(slides - len(found)):
        side, diagnosis = int(rng.choice([768, 1024])), list(ORGAN_OF)[i % len(ORGAN_OF)]
        write_phantom(folder / f"phantom{i:03d}.svs", Spec(1000 + i, diagnosis, width_um=side, height_um=side))


def command(cohort: Path, job: Path, workers: int, timeout: float) -> list[str]:
    words = ["encode", cohort, "--out", job, "--workers", workers, "--timeout", timeout]
    return [sys.executable, "-m", "hwsi", *map(str, words)]


def begin(words: list[str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)


def finish(words: list[str]) -> int:
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def rows(job: Path) -> list[dict[str, Any]]:
    with StateTable(job) as table:
        return table.rows()


def look(job: Path) -> State:
    """How a job stands; every feature file of a slide that is done is read whole, and that may fail."""
    found: State = {}
    for row in rows(job):
        digest = None
        if row["state"] == "done":
            path = job / row["features"]
            check_features(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[row["path"]] = (row["state"], row["reason"], digest)
    return found


def differences(found: State, truth: State) -> list[str]:
    return [f"{Path(s).name}: {found.get(s)}, undisturbed {truth[s]}" for s in truth if found.get(s) != truth[s]]


@dataclass
class Fire:
    """Kills, at random moments, and what they did."""

    words: list[str]
    job: Path
    rng: np.random.Generator
    mean_s: float
    hits: Counter[str]

    def until_done(self, kills: int) -> int:
        """Encode under fire until the job is done or no kill is left; returns how many fell."""
        fallen, before = 0, {}
        process = begin(self.words)
        try:
            while fallen < kills:
                try:
                    process.wait(self.rng.uniform(0, 2 * self.mean_s))
                    return fallen  # it came to its end before the next kill
                except subprocess.TimeoutExpired:
                    pass
                what = self.rng.choice(["group", "command", "worker"], p=[0.5, 0.25, 0.25])
                goes_on = self.kill(process, str(what))
                fallen += 1
                before = self.still_whole(before)
                if not goes_on:
                    process = begin(self.words)
            return fallen
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill(self, process: subprocess.Popen[bytes], what: str) -> bool:
        """Send one SIGKILL; True if the command lives on."""
        workers = children(process.pid)
        if what == "worker" and workers:
            with suppress(ProcessLookupError):
                os.kill(int(self.rng.choice(workers)), signal.SIGKILL)
            self.hits["worker"] += 1
            return True
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        self.hits["group" if what == "group" else "command"] += 1
        process.wait()
        return False

    def still_whole(self, before: State) -> State:
        """Nothing that was done is lost, and every file that is there is whole, recorded or not."""
        if not (self.job / "state.sqlite").is_file():
            return before
        for path in sorted((self.job / "features").glob("*.h5")):
            check_features(path)
        now = look(self.job)
        lost = [s for s, what in before.items() if what[0] == "done" and now.get(s) != what]
        if lost:
            raise SystemExit(f"LOST: {differences(now, {s: before[s] for s in lost})}")
        return now


def children(pid: int) -> list[int]:
    """Worker processes of a command; not multiprocessing's tracker of resources."""
    found = []
    for name in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(p) for p in name.read_text().split()]
    return [p for p in found if b"spawn_main" in command_line(p)]


def command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def undisturbed(cohort: Path, job: Path, args: argparse.Namespace) -> tuple[State, float]:
    start = time.perf_counter()
    finish(command(cohort, job, args.workers, args.timeout))
    truth, seconds = look(job), time.perf_counter() - start
    reasons = Counter(reason or "done" for _, reason, _ in truth.values())
    print(f"undisturbed: {len(truth)} slides in {seconds:.0f} s: {dict(reasons)}", flush=True)
    return truth, seconds


def under_fire(cohort: Path, root: Path, args: argparse.Namespace) -> None:
    truth, seconds = undisturbed(cohort, root / "undisturbed", args)
    left, hits, round_ = args.kills, Counter[str](), 0
    # long enough to begin, short enough that most kills fall into the first round
    mean_s = args.begin_s + seconds / max(1, args.kills)
    rng = np.random.default_rng(args.seed)
    while left > 0:
        job = root / f"round{round_}"
        words = command(cohort, job, args.workers, args.timeout)
        fell = Fire(words, job, rng, mean_s, hits).until_done(left)
        left -= fell
        mean_s /= 1 if fell else 2  # the machine has become quicker
        finish(words)
        wrong = differences(look(job), truth)
        leftovers = sorted(p.name for p in job.rglob("*.tmp")) + sorted(p.name for p in job.glob("partial/*"))
        print(f"round {round_}: {fell} kills, {len(wrong)} differ, left behind: {leftovers or 'nothing'}", flush=True)
        if wrong or leftovers:
            raise SystemExit("FAILED\n" + "\n".join(wrong))
        round_ += 1
    print(f"passed: {sum(hits.values())} kills {dict(hits)}; no finished slide lost, no broken file, bytes equal")


def with_a_hang(cohort: Path, root: Path, args: argparse.Namespace) -> None:
    truth, _ = undisturbed(cohort, root / "undisturbed", args)
    (cohort / "hanging").mkdir()
    (cohort / "hanging.mrxs").write_text("index in the folder beside\n")
    os.mkfifo(cohort / "hanging" / "Slidedat.ini")
    job = root / "hang"
    finish(command(cohort, job, args.workers, min(args.timeout, HANG_S)))
    found = look(job)
    hung = found.pop(str(cohort / "hanging.mrxs"))
    wrong = differences(found, truth)
    if hung[1] != "slide_hung" or wrong:
        raise SystemExit(f"FAILED: the hanging slide is {hung}\n" + "\n".join(wrong))
    print("passed: the slide that hangs is slide_hung, all others are as undisturbed")


def on_a_full_disk(cohort: Path, root: Path, args: argparse.Namespace) -> None:
    truth, _ = undisturbed(cohort, root / "undisturbed", args)
    needed = sum(p.stat().st_size for p in (root / "undisturbed").rglob("*") if p.is_file())
    job = root / "small"
    job.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={max(256 << 10, needed // 2)}", "tmpfs", str(job)]
    if subprocess.run(mounted, check=False).returncode:
        raise SystemExit("skipped: no tmpfs may be mounted here")
    try:
        words = command(cohort, job, args.workers, args.timeout)
        first = subprocess.run(words, capture_output=True, text=True, check=False)
        said = first.stderr.strip().splitlines()[-1]
        done = look(job)
        print(f"on half the room: status {first.returncode}, {said}", flush=True)
        subprocess.run(["mount", "-o", f"remount,size={needed * 4}", str(job)], check=True)
        finish(words)
        found = look(job)
    finally:
        subprocess.run(["umount", str(job)], check=True)
    lost = [s for s, what in done.items() if what[0] == "done" and found.get(s) != what]
    wrong = differences(found, truth)
    if "[disk_full]" not in said or first.returncode != 2 or lost or wrong:
        raise SystemExit(f"FAILED: {said}; lost {lost}\n" + "\n".join(wrong))
    print("passed: the run ended with disk_full, nothing finished was lost, with room it ends as undisturbed")


VARIANTS = {"kill": under_fire, "hang": with_a_hang, "full": on_a_full_disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="kill")
    parser.add_argument("--slides", type=int, default=60)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1800, help="of hwsi encode, in seconds")
    parser.add_argument("--begin-s", type=float, default=6, help="seconds that a run takes before it encodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", default=str(REAL), help="folder of real slides, or 'none'")
    parser.add_argument("--cohort", type=Path, help="folder of slides to use instead of a made one")
    args = parser.parse_args()
    real = None if args.real == "none" or not Path(args.real).is_dir() else Path(args.real)
    with tempfile.TemporaryDirectory(prefix="hwsi-kill-") as folder:
        cohort = Path(folder) / "slides"
        if args.cohort is not None:
            cohort.mkdir()
            for path in sorted(p for p in args.cohort.rglob("*") if p.is_file()):
                link = cohort / path.relative_to(args.cohort)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        else:
            make_cohort(cohort, args.slides, real)
        VARIANTS[args.variant](cohort, Path(folder), args)


if __name__ == "__main__":
    main()
