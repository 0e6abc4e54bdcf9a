"""Step 3: the cell encoder, on the nuclei that our own detection finds in phantom slides, named by the truth.

- A found nucleus has the kind of the nearest drawn cell within 3 um; one that is near none, or lies under an artefact,
  teaches nothing. So the network sees at training just what detection will hand it later, mistakes included.
- Kinds are drawn evenly: nine in ten nuclei of a slide are of three kinds.
- Beside the kind, the vector must say whether the nucleus belongs to a neoplasm.

Run: ``python -m hwsi.training.nano.cell COHORT OUT --steps 3000``
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.cell_crops import find_nuclei
from hwsi.encoders.cell_nano import CellNano
from hwsi.encoders.weights import save
from hwsi.phantom.drawing import CellKind
from hwsi.slide import open_slide
from hwsi.training.nano.cohort import CohortSlide, held_out, read_cohort
from hwsi.training.nano.loop import Plan, fit
from hwsi.training.nano.pixels import choose

_WINDOW_PX = 512
_HALO_PX = 32
_NEAR_UM = 3.0
_PER_KIND = 60  # of a slide

Table = dict[str, NDArray[Any]]


def _collect(slide: CohortSlide, windows: int) -> Table:
    """Crops, measures, kinds and neoplastic of found nuclei in some windows of a slide."""
    rng = np.random.default_rng([slide.seed, 32])
    truth, cells = slide.truth(), slide.cells()
    rows = choose(slide.patches(), windows, rng)
    corners = slide.patches()["grid"][rows][:, ::-1] * round(truth["patch_um"] / truth["mpp"])
    seen = ~cells["ignored"]
    tree = cKDTree(cells["xy"][seen])
    kind, neoplastic = cells["kind"][seen], cells["neoplastic"][seen]
    found: list[Table] = []
    with open_slide(slide.path) as opened:
        for x0, y0 in corners:
            size = _WINDOW_PX + 2 * _HALO_PX
            image = opened.read(int(x0) - _HALO_PX, int(y0) - _HALO_PX, size, truth["mpp"])
            core = (_HALO_PX, _HALO_PX, _HALO_PX + _WINDOW_PX, _HALO_PX + _WINDOW_PX)
            nuclei = find_nuclei(image, truth["mpp"], core)
            if not len(nuclei):
                continue
            away, nearest = tree.query(nuclei.xy - _HALO_PX + (x0, y0), distance_upper_bound=_NEAR_UM / truth["mpp"])
            ok = np.isfinite(away)
            at = np.asarray(nearest)[ok]
            found.append(
                {
                    "crops": nuclei.crops[ok], "measures": nuclei.measures[ok],
                    "kind": kind[at], "neoplastic": neoplastic[at],
                }
            )  # fmt: skip
    if not found:
        return {}
    table = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
    order = rng.permutation(len(table["kind"]))
    picked = np.concatenate([order[table["kind"][order] == k][:_PER_KIND] for k in CellKind])
    out = {k: v[np.sort(picked)] for k, v in table.items()}
    out["patient"] = np.full(len(picked), slide.patient)
    return out


def collect(cohort: Path, windows: int, workers: int) -> Table:
    """The nuclei of all slides of a cohort."""
    slides = read_cohort(cohort)
    with ProcessPoolExecutor(workers) as pool:
        tables = [t for t in pool.map(_collect, slides, [windows] * len(slides), chunksize=4) if t]
    return {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}


class CellTrainee(nn.Module):
    """The encoder and a layer that reads from its vector whether a nucleus is neoplastic."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CellNano()
        self.neoplastic = nn.Linear(64, 1)

    def losses(self, crops: Tensor, measures: Tensor, kind: Tensor, neoplastic: Tensor) -> dict[str, Tensor]:
        """Crops uint8 (B, 32, 32, 4), measures (B, 12), kind int (B,) of CellKind, neoplastic bool (B,)."""
        vectors, logits = self.encoder(crops, measures)
        return {
            "kind": F.cross_entropy(logits, kind - 1),
            "neoplastic": F.binary_cross_entropy_with_logits(self.neoplastic(vectors)[:, 0], neoplastic.float()),
        }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / "nuclei.npz"
    if not stored.exists():
        table = collect(args.cohort, args.windows, args.workers)
        np.savez(args.out / "part.npz", **table)  # type: ignore[arg-type]
        os.replace(args.out / "part.npz", stored)
    with np.load(stored) as file:
        table = dict(file)
    out = held_out(table["patient"].tolist())
    test, train = np.flatnonzero(out), np.flatnonzero(~out)
    print({k.name: int((table["kind"] == k).sum()) for k in CellKind}, flush=True)
    model = CellTrainee()
    model.encoder.fit(torch.from_numpy(table["measures"][train]))
    kinds = table["kind"].astype(np.int64)
    weight = 1 / np.sqrt(np.bincount(kinds, minlength=len(CellKind) + 1)[kinds])
    chance = weight[train] / weight[train].sum()

    def batch(rows: NDArray[np.int64], turn: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        crops = np.rot90(table["crops"][rows], turn % 4, (1, 2))
        crops = crops[:, ::-1] if turn // 4 else crops
        return (
            torch.from_numpy(np.ascontiguousarray(crops)), torch.from_numpy(table["measures"][rows]),
            torch.from_numpy(kinds[rows]), torch.from_numpy(table["neoplastic"][rows]),
        )  # fmt: skip

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([args.seed, step])
        rows = rng.choice(train, args.batch, p=chance)
        found = model.losses(*batch(rows, int(rng.integers(8))))
        return found["kind"] + 0.5 * found["neoplastic"], {k: float(v.detach()) for k, v in found.items()}

    def evaluate() -> dict[str, float]:
        if not len(test):
            return {}
        crops, measures, kind, _ = batch(test, 0)
        with torch.no_grad():
            best = model.encoder(crops, measures)[1].argmax(1) + 1
        found = {k.name.lower(): float((best == k)[kind == k].float().mean()) for k in CellKind if (kind == k).any()}
        return {k: round(v, 3) for k, v in {**found, "balanced": float(np.mean(list(found.values())))}.items()}

    fit(
        model, loss_of, Plan(args.steps, args.lr, seed=args.seed), args.out,
        evaluate=evaluate, evaluate_every=max(1, args.steps // 4),
    )  # fmt: skip
    save(model.encoder, args.out / "cell.safetensors")


if __name__ == "__main__":
    main()
