"""Step 2: the patch encoder, and with it the text tower, on patches whose truth is known.

- Supervised by what the patch holds (tissue fractions, cells by kind, mitoses, nuclear size and spread, pattern),
  each through one linear layer, so that the vector itself must hold it.
- Aligned with language: the patch's phrase, symmetric InfoNCE at a temperature of 0.07; patches with the same phrase
  are positives of one another.
- The diagnosis is asked of every patch with tumour too: weakly, since one patch rarely decides it.
- A slide is either trained on or held out, by the hash of its patient.

Run: ``python -m hwsi.training.nano.patch PIXELS OUT --steps 3000``
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.encoders.patch_nano import PatchNano
from hwsi.encoders.text_nano import TextNano, train_tokenizer
from hwsi.encoders.weights import save
from hwsi.phantom.spec import ORGAN_OF
from hwsi.training.nano.cohort import held_out
from hwsi.training.nano.loop import Plan, fit

DIAGNOSES = tuple(ORGAN_OF)
_SCALARS = ("nuclear_area_um2", "nuclear_area_cv", "nucleolus", "til_per_mm2", "plasma_fraction")
_FRACTIONS = ("necrosis", "mucin", "lesion")


class Targets:
    """The truth of patches as tensors, standardised where it is a size."""

    def __init__(self, table: dict[str, NDArray[Any]]) -> None:
        def tensor(x: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.asarray(x, np.float32))

        self.compartments = tensor(table["compartments"])
        self.contents = tensor(table["contents"])
        self.counts = torch.log1p(tensor(table["counts"]))
        self.mitoses = tensor(table["mitoses"])
        self.invaded = (tensor(table["invaded_vessels"]) > 0).float()
        raw = np.stack([np.asarray(table[n], np.float32) for n in _SCALARS], 1)
        raw[:, [0, 3]] = np.log1p(raw[:, [0, 3]])
        self.scalars = torch.from_numpy((raw - np.nanmean(raw, 0)) / np.nanstd(raw, 0))
        self.fractions = torch.stack([tensor(table[n]) for n in _FRACTIONS], 1).clamp(0, 1)
        self.artefact = (tensor(table["artefact"]) > 0.3).float()
        self.pattern = torch.from_numpy(np.asarray(table["pattern"], np.int64))
        self.diagnosis = torch.tensor([DIAGNOSES.index(str(d)) for d in table["diagnosis"]])
        self.phrases = [str(p) for p in table["phrase"]]
        known = {p: i for i, p in enumerate(sorted(set(self.phrases)))}
        self.phrase = torch.tensor([known[p] for p in self.phrases])


class PatchTrainee(nn.Module):
    """The encoder, the text tower, and the linear layers that read the truth from the patch's vector."""

    def __init__(self, texts: list[str], *, bf16: bool = False) -> None:
        super().__init__()
        self.bf16 = bf16
        self.encoder = PatchNano()
        self.text = TextNano(train_tokenizer(texts, vocab=1024))
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(192, n)
                for name, n in {
                    "compartments": 16, "contents": 7, "counts": 11, "mitoses": 2, "invaded": 1,
                    "scalars": len(_SCALARS), "fractions": len(_FRACTIONS), "artefact": 4, "pattern": 5,
                    "diagnosis": len(DIAGNOSES),
                }.items()
            }
        )  # fmt: skip

    def losses(self, images: Tensor, t: Targets, rows: Tensor) -> dict[str, Tensor]:
        """Every objective on a batch: images uint8 (B, 256, 256, 3), rows of ``t``."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            z = self.encoder(images).float()
        out = {name: head(z) for name, head in self.heads.items()}
        scalars = t.scalars[rows]
        known = ~scalars.isnan()
        tumour = t.fractions[rows, 2] > 0.2
        mitoses = t.mitoses[rows]
        found = {
            "tissue": F.cross_entropy(out["compartments"], t.compartments[rows])
            + F.cross_entropy(out["contents"], t.contents[rows]),
            "counts": F.smooth_l1_loss(out["counts"], t.counts[rows]),
            "mitoses": F.binary_cross_entropy_with_logits(out["mitoses"][:, 0], (mitoses > 0).float())
            + F.smooth_l1_loss(out["mitoses"][:, 1], torch.log1p(mitoses)),
            "invaded": F.binary_cross_entropy_with_logits(out["invaded"][:, 0], t.invaded[rows]),
            "scalars": F.smooth_l1_loss(out["scalars"][known], scalars[known]),
            "fractions": F.binary_cross_entropy_with_logits(out["fractions"], t.fractions[rows]),
            "artefact": F.binary_cross_entropy_with_logits(out["artefact"], t.artefact[rows]),
            "pattern": F.cross_entropy(out["pattern"], t.pattern[rows]),
        }
        if tumour.any():
            found["diagnosis"] = F.cross_entropy(out["diagnosis"][tumour], t.diagnosis[rows][tumour])
        phrases = [t.phrases[int(i)] for i in rows]
        found["phrase"] = aligned(z, self.text(*self.text.tokenise(phrases)), t.phrase[rows])
        return found


WEIGHTS = {"mitoses": 2.0, "invaded": 2.0, "scalars": 1.5, "diagnosis": 0.3, "phrase": 0.3, "artefact": 0.5}


def aligned(z: Tensor, text: Tensor, same: Tensor, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE of (B, D) and (B, D) over the batch; rows with equal ``same`` (B,) share the target."""
    scores = F.normalize(z, dim=-1) @ text.T / temperature
    target = (same[:, None] == same[None, :]).float()
    target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def turned(images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Turn and mirror the batch, and vary its brightness a little: tissue has no up."""
    k = int(rng.integers(4))
    batch = np.rot90(images, k, (1, 2))
    if rng.integers(2):
        batch = batch[:, ::-1]
    gain = rng.uniform(0.94, 1.04, (len(batch), 1, 1, 3)).astype(np.float32)
    return torch.from_numpy(np.clip(batch * gain, 0, 255).astype(np.uint8))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pixels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="mixed precision: twice as fast where the CPU has bf16")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with np.load(args.pixels / "targets.npz") as stored:
        table = dict(stored)
    images = np.load(args.pixels / "patches.npy", mmap_mode="r")
    targets = Targets(table)
    out = held_out(table["patient"].tolist())
    test, train = np.flatnonzero(out), np.flatnonzero(~out)
    model = PatchTrainee(targets.phrases, bf16=args.bf16)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([args.seed, step])
        rows = np.sort(rng.choice(train, args.batch, replace=False))
        found = model.losses(turned(images[rows], rng), targets, torch.from_numpy(rows))
        total = torch.stack([WEIGHTS.get(k, 1.0) * v for k, v in found.items()]).sum()
        return total, {k: float(v.detach()) for k, v in found.items()}

    def evaluate() -> dict[str, float]:
        if not len(test):
            return {}
        return measure(model, images, targets, test[:: max(1, len(test) // 600)])

    fit(
        model, loss_of, Plan(args.steps, args.lr, seed=args.seed), args.out,
        evaluate=evaluate, evaluate_every=max(1, args.steps // 6),
    )  # fmt: skip
    save(model.encoder, args.out / "patch.safetensors")
    model.text.save(args.out / "text.safetensors")


@torch.no_grad()
def measure(model: PatchTrainee, images: NDArray[np.uint8], t: Targets, rows: NDArray[np.int64]) -> dict[str, float]:
    """What the heads read on held-out patches: accuracies and correlations."""
    z = torch.cat(
        [model.encoder(torch.from_numpy(images[r].copy())) for r in np.array_split(rows, len(rows) // 32 + 1)]
    )
    at = torch.from_numpy(rows)
    out = {name: head(z) for name, head in model.heads.items()}

    def r(a: Tensor, b: Tensor) -> float:
        ok = ~(a.isnan() | b.isnan())
        return float(np.corrcoef(a[ok].numpy(), b[ok].numpy())[0, 1]) if ok.sum() > 2 else float("nan")

    mitotic, invaded = t.mitoses[at] > 0, t.invaded[at] > 0
    score, vessel = out["mitoses"][:, 0], out["invaded"][:, 0]
    found = {
        "pattern": float((out["pattern"].argmax(1) == t.pattern[at]).float().mean()),
        "content": float((out["contents"].argmax(1) == t.contents[at].argmax(1)).float().mean()),
        "diagnosis": float((out["diagnosis"].argmax(1) == t.diagnosis[at])[t.fractions[at, 2] > 0.2].float().mean()),
        "mitosis_auc": _auc(score[mitotic], score[~mitotic]),
        "invaded_auc": _auc(vessel[invaded], vessel[~invaded]),
    }
    found |= {n: r(out["scalars"][:, i], t.scalars[at, i]) for i, n in enumerate(_SCALARS)}
    return {k: round(v, 3) for k, v in found.items()}


def _auc(positive: Tensor, negative: Tensor) -> float:
    if not len(positive) or not len(negative):
        return float("nan")
    return float((positive[:, None] > negative[None, :]).float().mean())


if __name__ == "__main__":
    main()
