"""Thousands of damaged slides and feature files through the command line: each ends, in bounds, with a reason code.

- Whole files (phantoms in several containers, the real small slides of a folder, feature files of ours and of other
  tools) are damaged as ``mutations.py`` says, seed by seed. Slides go through ``hwsi info`` and ``hwsi encode``; a
  damaged feature file of ours through ``hwsi export``, and then it lies where ``hwsi encode`` would put its own, which
  must make it again, byte for byte; files of others go through ``hwsi import-features``.
- Right is: status 0, or status 2 with one line that has a reason code. Wrong is any other status, a process that ends
  (a crash of a native library), one that computes for more than ``--limit`` seconds, and more memory than ``--memory``
  GB: the process may not have more (RLIMIT_AS), and its peak is watched.
- One process works case after case, with the encoders loaded; it is ended and begun anew only over a crash or a hang.
  What went wrong is kept in ``--keep``, damaged file by damaged file.

    python benchmarks/mutated.py                               # 2,000 of them: half an hour on one core
    python benchmarks/mutated.py --cases 60 --of slides
    python benchmarks/mutated.py --first 1234 --cases 1 --keep bad     # one of them again
"""

import argparse
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from mutations import KINDS, fields, mutate

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
_REASON = re.compile(r"^hwsi: error \[(\w+)\]: \S.*$")
_PATIENCE = 10
"""A process that waits may take this many times as long as one that computes: the machine may be busy."""


@dataclass(frozen=True)
class Source:
    """A whole file: what it is called and what is done with its damaged copies (slide, ours, foreign)."""

    path: Path
    use: str


@dataclass
class Result:
    """How one case ended: ``said`` is 'done' or a reason code; ``wrong`` is '' or what is wrong."""

    case: int
    source: str
    kind: str
    said: str
    wrong: str = ""
    seconds: float = 0.0
    gigabytes: float = 0.0


def make_sources(folder: Path, real: Path | None, of: str) -> list[Source]:
    """Whole files of all kinds, small ones."""
    slides, ours, foreign = folder / "slides", folder / "ours", folder / "foreign"
    for sub in (slides, ours, foreign):
        sub.mkdir(parents=True)
    image = write_slides(slides)
    from hwsi.cli.app import main as hwsi

    hwsi(["encode", str(slides / "phantom.svs"), "--out", str(ours)])
    whole = ours / "features" / "phantom.h5"
    if of != "slides":
        write_foreign(foreign, whole)
    if real is not None:
        kept = (p for p in sorted((real / "slides").rglob("*")) if p.is_file() and "broken" not in p.parts)
        for path in kept:
            shutil.copy(path, slides / path.name)
        if of != "slides":
            shutil.copy(next((real / "features").glob("*.pt")), foreign / "gigapath.pt")
    assert image.ndim == 3
    found = {
        "slides": [Source(p, "slide") for p in sorted(slides.iterdir())],
        "features": [Source(whole, "ours"), *(Source(p, "foreign") for p in sorted(foreign.iterdir()))],
    }
    return found["slides"] + found["features"] if of == "all" else found[of]


def write_slides(folder: Path) -> np.ndarray:
    """A phantom of 0.4 mm as SVS, tiled and striped TIFF, OME-TIFF with SubIFDs, JPEG and PNG."""
    import tifffile
    from PIL import Image

    from hwsi.phantom.cohort import write_phantom
    from hwsi.phantom.spec import Spec

    path = folder / "phantom.svs"
    write_phantom(path, Spec(8, "tubular adenoma", width_um=400, height_um=400))
    for beside in folder.glob("phantom.*"):
        if beside != path:
            beside.unlink()
    image = np.asarray(tifffile.imread(path, key=0))
    size = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "photometric": "rgb"}
    tifffile.imwrite(folder / "striped.tiff", image, rowsperstrip=64, metadata=None, **size)
    with tifffile.TiffWriter(folder / "tiled.tiff", bigtiff=True) as tif:
        for level in range(2):
            tif.write(image[:: 2**level, :: 2**level], tile=(128, 128), compression="deflate", metadata=None, **size)
    with tifffile.TiffWriter(folder / "sub.ome.tiff", ome=True) as tif:
        told = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tif.write(image, subifds=1, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=told)
        tif.write(image[::2, ::2], tile=(128, 128), photometric="rgb", compression="jpeg", subfiletype=1)
    Image.fromarray(image).save(folder / "picture.png")
    Image.fromarray(image).save(folder / "picture.jpg", quality=85)
    return image


def write_foreign(folder: Path, whole: Path) -> None:
    """The same slide's features as TRIDENT and CLAM have them, as ``.pt`` (both containers), and its cells as JSON."""
    import json

    import h5py
    import torch

    from hwsi.features import read_features
    from hwsi.features.bridges.exporting import export_features

    made = export_features(whole, "trident", folder / "job")
    shutil.move(next(p for p in made if p.parent.name.startswith("features_")), folder / "trident.h5")
    shutil.rmtree(folder / "job")
    slide = read_features(whole)
    rows = torch.from_numpy(slide.patch["patch-nano"])
    torch.save(rows, folder / "rows.pt")
    torch.save({"features": rows}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    with h5py.File(folder / "clam.h5", "w") as file:
        file["features"], file["coords"] = rows.numpy(), slide.hierarchy.patches.xy.astype(np.int32)
    cells = slide.hierarchy.cells
    told = [
        {"centroid": cells.xy[m].tolist(), "contour": cells.contour(m).tolist(), "type": 1, "type_prob": 0.9}
        for m in range(min(200, len(cells)))
    ]
    (folder / "cells.json").write_text(json.dumps({"wsi_metadata": {}, "type_map": {"1": "Neoplastic"}, "cells": told}))


def serve(pipe: Connection, folder: Path, ours: Path, memory_gb: float) -> None:
    """The process that works: damaged files in, results out."""
    said = (folder / "said").open("w+b", buffering=0)
    for fd in (1, 2):  # native libraries write there, too
        os.dup2(said.fileno(), fd)
    sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 (it lives as long as the process)
    from hwsi.cli.app import main as hwsi

    truth = ours.read_bytes()
    phantom = ours.parents[2] / "slides" / "phantom.svs"
    hwsi(["encode", str(phantom), "--out", str(folder / "job")])  # loads what it needs
    base = status_kb("VmRSS")
    most = status_kb("VmSize") * 1024 + int(memory_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def call(*words: object) -> tuple[str, str]:
        """(what it said, what is wrong) of one command."""
        said.truncate(0)
        said.seek(0)
        status = hwsi([str(word) for word in words])
        sys.stdout.flush()
        lines = (folder / "said").read_text(errors="replace").splitlines()
        told = [found[1] for line in lines if (found := _REASON.match(line))]
        if status == 0:
            return "done", ""
        if status != 2 or len(told) != 1:
            return "bug", f"{words[0]}: status {status}: {' | '.join(lines[-3:])[:400]}"
        return told[0], ""

    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        use, path, mpp = asked
        shutil.rmtree(folder / "job", ignore_errors=True)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.perf_counter()
        job = folder / "job"
        if use == "slide":
            told, wrong = call("info", path, "--json", *mpp)
            if not wrong:
                told, wrong = call("encode", path, "--out", job, *mpp)
        elif use == "ours":
            told, wrong = call("export", path, "--to", "geojson", "--out", folder / "job" / "other")
            target = folder / "job" / "features" / ours.name
            target.parent.mkdir(parents=True)
            shutil.copy(path, target)
            again, bad = call("encode", phantom, "--out", job)
            if not bad and again == "done" and target.read_bytes() != truth:
                bad = "encode took a damaged file for whole"
            wrong = wrong or bad
        else:
            told, wrong = call("import-features", path, "--out", job, *mpp, *extra(path))
        gigabytes = (status_kb("VmHWM") - base) / 1e6
        pipe.send((told, wrong, time.perf_counter() - start, gigabytes))


def extra(path: Path) -> tuple[str, ...]:
    """What has to be said of files that don't say it."""
    if path.name.endswith(".pt"):
        return ("--encoder", "patch-nano", "--coords", str(path.parent / "whole-clam.h5"), "--patch-size0", "256")
    return ("--encoder", "patch-nano", "--patch-size0", "256") if "clam" in path.name else ()


def status_kb(name: str) -> int:
    """A line of /proc/self/status."""
    line = next(k for k in Path("/proc/self/status").read_text().splitlines() if k.startswith(name + ":"))
    return int(line.split()[1])


class Victim:
    """The process that works, as its parent sees it."""

    def __init__(self, folder: Path, ours: Path, memory_gb: float) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, folder, ours, memory_gb), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def work(self, asked: object, limit_s: float) -> tuple[str, str, float, float] | str:
        """What came of a case, or how the process ended."""
        self.pipe.send(asked)
        begun, used = time.monotonic(), self._cpu_s()
        while not self.pipe.poll(1):
            if self._cpu_s() - used > limit_s or time.monotonic() - begun > _PATIENCE * limit_s:
                self.process.kill()
                self.process.join()
                return f"hang: more than {limit_s:g} s"
        try:
            return self.pipe.recv()  # type: ignore[no-any-return]
        except EOFError:
            self.process.join()
            return f"crash: exit code {self.process.exitcode}"

    def _cpu_s(self) -> float:
        with suppress(OSError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def end(self) -> None:
        """Let it go."""
        with suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)
        self.process.kill()


def run(args: argparse.Namespace, folder: Path) -> list[Result]:
    real = None if args.real == "none" or not Path(args.real).is_dir() else Path(args.real)
    sources = make_sources(folder, real, args.of)
    ours = folder / "ours" / "features" / "phantom.h5"
    where = {source.path: fields(source.path) for source in sources}
    weights = np.array([1 / (1 + source.path.stat().st_size / 1e6) for source in sources])  # large ones take longer
    weights /= weights.sum()
    results, victim, work = [], None, folder / "work"
    work.mkdir()
    if (folder / "foreign" / "clam.h5").is_file():
        shutil.copy(folder / "foreign" / "clam.h5", work / "whole-clam.h5")
    for case in range(args.first, args.first + args.cases):
        rng = np.random.default_rng((args.seed, case))
        source, kind = sources[int(rng.choice(len(sources), p=weights))], str(rng.choice(KINDS))
        damaged = work / source.path.name
        damaged.write_bytes(mutate(source.path.read_bytes(), kind, where[source.path], rng))
        given = source.use == "foreign" or rng.random() < 0.5
        victim = victim or Victim(work, ours, args.memory)
        came = victim.work((source.use, damaged, ("--mpp", "0.5") if given else ()), args.limit)
        if isinstance(came, str):
            result, victim = Result(case, source.path.name, kind, came.split(":")[0], came), None
        else:
            result = Result(case, source.path.name, kind, *came)
            if result.gigabytes > args.memory and not result.wrong:
                result.wrong = f"{result.gigabytes:.1f} GB"
        results.append(result)
        if result.wrong:
            print(f"case {case}: {result.source} ({kind}): {result.wrong}", flush=True)
            if args.keep is not None:
                args.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(damaged, args.keep / f"{case}-{damaged.name}")
        damaged.unlink()
        if args.every and len(results) % args.every == 0:
            print(f"{len(results)} cases", flush=True)
    if victim is not None:
        victim.end()
    return results


def show(results: list[Result]) -> None:
    print(f"{'file':36} {'cases':>5}  what came of them")
    for source in sorted({r.source for r in results}):
        of_source = [r for r in results if r.source == source]
        said = ", ".join(f"{what} {n}" for what, n in Counter(r.said for r in of_source).most_common())
        print(f"{source:36} {len(of_source):5}  {said}")
    slowest, largest = max(results, key=lambda r: r.seconds), max(results, key=lambda r: r.gigabytes)
    print(f"longest {slowest.seconds:.1f} s ({slowest.source}, case {slowest.case}); ", end="")
    print(f"most memory {largest.gigabytes:.2f} GB ({largest.source}, case {largest.case})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case: a run may be cut into pieces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", choices=("all", "slides", "features"), default="all")
    parser.add_argument("--limit", type=float, default=120, help="seconds of a processor that a case may take")
    parser.add_argument("--memory", type=float, default=4, help="GB that a case may take beyond the loaded encoders")
    parser.add_argument("--real", default=str(REAL), help="folder with slides/ and features/, or 'none'")
    parser.add_argument("--keep", type=Path, help="folder for the damaged files over which something went wrong")
    parser.add_argument("--every", type=int, default=0, help="say so after every so many cases")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the truth, too: with other threads sums round otherwise
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hwsi-mutated-") as folder:
        results = run(args, Path(folder))
    show(results)
    wrong = sum(bool(r.wrong) for r in results)
    print(f"{len(results)} damaged files in {(time.perf_counter() - start) / 60:.0f} minutes, {wrong} ended wrongly")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
