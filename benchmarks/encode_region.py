"""One region of 4096 px, the same work and the same outputs as the release's region step, timed part by part.

- Weights are those of the golden vectors, rebuilt by their recipe (``../shared/golden``); before anything is timed the
  same modules must give the golden regions to a relative error of 1e-4.
- Parts, one after the other as in the release: reading the region from a file, resizing (CONCH sees 448 px), ViT-256,
  CONCH, ViT-4K over all 256 patches. ``hwsi encode`` does the first two while the encoders work.
- After every chunk of patches one large float32 product is timed: what the machine can do at that moment, its
  neighbours included. ``of peak`` is FLOPs of the encoders over what the product would have done in the same seconds.
- The release's seconds are quoted: measured on 2 cores of the same kind, with nobody beside.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encode_memory import write_slide
from encoders import caller, flops, peak
from lines import Line

from hwsi.encoders import conch, hipt
from hwsi.encoders.int8 import quantise
from hwsi.slide import open_slide

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
RELEASED_S = {"reading": 0.6, "transforms": 1.3, "ViT-256": 43.0, "CONCH": 253.0, "ViT-4K": 1.1, "whole": 299.0}
"""The release's region step on 2 cores; ViT-4K is what is left of the whole."""
TARGET_S = 190.0
LIMIT = 1e-4
PATCH, SIDE = 256, 16
CHUNK = 16
_PRODUCT_S = 0.5


@dataclass(frozen=True)
class Encoders:
    """The three encoders of the region step."""

    small: Any
    conch: Any
    large: Any


def recipe_encoders(folder: Path) -> tuple[Encoders, float]:
    """With the golden weights, and the greatest relative error to the golden regions and patches."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "parity"))
    from golden import golden, recipe, relative

    for name in ("05_hipt_vit256", "05_hipt_vit4k"):
        torch.save({"teacher": recipe(golden(name)[1])}, folder / f"{name}.pth")
    sidecar = golden("06_conch")[1]
    tower = ("visual.trunk.", "visual.attn_pool_contrast.", "visual.ln_contrast.", "visual.proj_contrast")
    torch.save(recipe(sidecar, keys=[k for k in sidecar["keys"] if k.startswith(tower)]), folder / "conch.pth")
    made = Encoders(
        hipt.build_vit256(folder / "05_hipt_vit256.pth").requires_grad_(False),
        conch.build(folder / "conch.pth").requires_grad_(False),
        hipt.build_vit4k(folder / "05_hipt_vit4k.pth").requires_grad_(False),
    )
    want = golden("09_region_endtoend")[0]
    corners = [(x + c * PATCH, y + r * PATCH) for x, y in want["valid_coords"].tolist() for r in (0, 1) for c in (0, 1)]
    patches = torch.stack([want["slide_u8"][y : y + PATCH, x : x + PATCH] for x, y in corners])
    vectors = made.small.encode(patches).unflatten(0, (-1, 4))
    places = torch.cartesian_prod(torch.arange(2), torch.arange(2)).expand(len(vectors), -1, -1)
    regions = made.large.encode(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool), places)
    errors = (
        relative(regions, want["cls4k"]),
        relative(made.conch.encode(patches).unflatten(0, (-1, 4)), want["conch"]),
    )
    return made, max(errors)


@dataclass
class Run:
    """What a pass took and gave.

    Attributes:
        seconds: of the wall's, by part. cpu_s: of all processors, all parts: what neighbours do not change much.
        of_peak: the encoders' share of the peak. patches, region: CONCH's and ViT-4K's vectors.
    """

    seconds: dict[str, float]
    cpu_s: float
    of_peak: float
    patches: torch.Tensor
    region: torch.Tensor


def run_region(path: Path, encoders: Encoders, work: dict[str, float], count: int) -> Run:
    """The region step on the first ``count`` patches of the region at the corner of a slide, on this machine now.

    Args:
        path: slide of at least 4096 px at 0.5 um/px.
        work: FLOPs of one patch (of one region for ViT-4K).
        count: patches that are encoded; seconds are of these.
    """
    seconds = dict.fromkeys(("reading", "transforms", "ViT-256", "CONCH", "ViT-4K"), 0.0)
    products: list[float] = []
    cpu_s = 0.0

    def timed(part: str, call: Callable[[], Any]) -> Any:
        nonlocal cpu_s
        start, used = time.perf_counter(), time.process_time()
        made = call()
        seconds[part] += time.perf_counter() - start
        cpu_s += time.process_time() - used
        return made

    with open_slide(path) as slide:
        image = timed("reading", lambda: slide.read(0, 0, SIDE * PATCH, 0.5))
    grid = image.reshape(SIDE, PATCH, SIDE, PATCH, 3).swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)
    patches = torch.from_numpy(np.ascontiguousarray(grid[:count]))
    resized = timed("transforms", lambda: encoders.conch.preparation.resized(patches))
    small, phrases = [], []
    for at in range(0, count, CHUNK):
        part = patches[at : at + CHUNK]
        small.append(timed("ViT-256", lambda part=part: encoders.small.encode(part)))
        for one in range(at, min(at + CHUNK, count)):  # CONCH alone fills the cores; a batch only spills their cache
            phrases.append(timed("CONCH", lambda one=one: encoders.conch.encode(resized[one : one + 1])))
        products.append(peak(_PRODUCT_S))
    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))[None]
    vectors = torch.zeros(1, SIDE * SIDE, 384)
    vectors[0, :count] = torch.cat(small)
    present = torch.ones(1, SIDE * SIDE, dtype=torch.bool)
    region = timed("ViT-4K", lambda: encoders.large.encode(vectors, present, places))
    done = count * (work["ViT-256"] + work["CONCH"]) + work["ViT-4K"]
    spent = seconds["ViT-256"] + seconds["CONCH"] + seconds["ViT-4K"]
    return Run(seconds, cpu_s, done / 1e9 / spent / float(np.median(products)), torch.cat(phrases), region[0])


def region_lines(count: int) -> list[Line]:
    """The region step on ``count`` of its patches: parts, the whole, and 8-bit integers."""
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory(prefix="hwsi-region-") as name:
        folder = Path(name)
        encoders, error = recipe_encoders(folder)
        path = folder / "region.tiff"
        write_slide(path, SIDE * PATCH, 1.0)
        work = {
            part: float(flops(caller(encoder)(1)))
            for part, encoder in (("ViT-256", encoders.small), ("CONCH", encoders.conch), ("ViT-4K", encoders.large))
        }
        exact = run_region(path, encoders, work, count)
        fast = run_region(
            path, Encoders(quantise(encoders.small), quantise(encoders.conch), encoders.large), work, count
        )
    share = count / SIDE**2
    of_all = {part: seconds * (1 if part in ("reading", "ViT-4K") else share) for part, seconds in RELEASED_S.items()}
    lines = [
        Line("golden regions and patches, relative error", f"{error:.1e}", wanted=f"<= {LIMIT:.0e}", met=error <= LIMIT)
    ]
    for part, seconds in exact.seconds.items():
        theirs, quick = of_all[part], f"int8 {fast.seconds[part]:.1f} s"
        lines.append(Line(f"  {part}", f"{seconds:.1f} s", f"release {theirs:.1f} s", theirs / seconds, quick))
    cosine = torch.nn.functional.cosine_similarity(exact.patches, fast.patches, dim=1).min()
    of_region = torch.nn.functional.cosine_similarity(exact.region, fast.region, dim=0)
    for name, run, cost in (("float32", exact, ""), ("int8", fast, f"; cosine {cosine:.5f}, region {of_region:.5f}")):
        ours, theirs = sum(run.seconds.values()), of_all["whole"]
        lines.append(
            Line(
                f"region step, {count} of 256 patches, {name}", f"{ours:.0f} s", f"release {theirs:.0f} s",
                theirs / ours,
                f"{run.of_peak:.2f} of the float32 GEMM peak, {run.cpu_s:.0f} s of processors{cost}",
                f"<= {TARGET_S * share:.0f} s", ours <= TARGET_S * share,
            )
        )  # fmt: skip
    return lines
