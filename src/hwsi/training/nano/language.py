"""Step 5: CCAF, projectors and the language model, end to end on questions, descriptions and reports.

- One row is one slide with many independent questions behind it: the slide is read once for all of them.
- Parts of the slide are hidden from the questions at random (whole regions, single patches, now and then
  everything), so that leaving tissue out at inference asks for something the model has learned, and so that
  what it says without a slide is the honest prior.
- Every answer counts by the square root of its length: a report does not drown the yes and the no.

Run: ``python -m hwsi.training.nano.language COHORT FEATURES CONTEXT_RUN OUT``
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hwsi.encoders.region_nano import build as build_region
from hwsi.encoders.slide_nano import build as build_slide
from hwsi.features import SlideFeatures, read_features
from hwsi.model.attention import leave_out
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.nano import build_nano
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.phantom.wordings import all_texts
from hwsi.training.nano.cohort import CohortSlide, held_out, read_cohort
from hwsi.training.nano.context import example
from hwsi.training.nano.dialogues import Teacher, answer_counts
from hwsi.training.nano.loop import Plan, fit


def with_context(slide: CohortSlide, features: SlideFeatures, region: Any, whole: Any) -> SlideFeatures:
    """The features of a slide with the region and slide vectors of newly trained encoders."""
    e = example(slide, features)
    regions = region.encode(e.patches, e.mask, e.row_col)
    vector = whole.encode(regions[None], torch.ones(1, len(regions), dtype=torch.bool), e.mm[None])[0]
    return replace(features, region={"region-nano": regions.numpy()}, slide={"slide-nano": vector.numpy()})


def hidden(prefix: SlidePrefix, rng: np.random.Generator) -> Tensor:
    """(T,) bool, True where a prefix token stays for the questions: most often all of them."""
    node, parent = prefix.row["token_node"], prefix.row["node_parent"]
    luck = rng.random()
    if luck < 0.5:
        return torch.ones_like(node, dtype=torch.bool)
    if luck < 0.58:
        return node == 0
    scales = np.array([n.scale for n in prefix.layout.nodes])
    out = np.zeros(len(scales), bool)
    out |= (scales == "region") & (rng.random(len(scales)) < rng.uniform(0, 0.8))
    out |= (scales == "patch") & (rng.random(len(scales)) < rng.uniform(0, 0.8))
    out |= (scales == "cell") & (rng.random(len(scales)) < rng.uniform(0, 0.8))
    return leave_out(node, parent, torch.from_numpy(np.flatnonzero(out)))


def answer_loss(model: HwsiForConditionalGeneration, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
    """Loss over the answers of a batch, and the share of answer tokens that were predicted right."""
    labels = batch.pop("labels")
    segments = batch["segment_ids"]
    states = model.model(**batch, use_cache=False).last_hidden_state
    target = labels[:, 1:]
    known = target >= 0
    logits = model.lm_head(states[:, :-1][known])
    each = F.cross_entropy(logits, target[known], reduction="none")
    # one number per (row, segment), to weigh answers by the square root of their length
    key = (torch.arange(len(segments))[:, None] * 10_000 + segments[:, 1:])[known]
    _, of, length = torch.unique(key, return_inverse=True, return_counts=True)
    weight = length[of].float().rsqrt()
    right = (logits.argmax(-1) == target[known]).float().mean()
    return (each * weight).sum() / weight.sum(), float(right)


def texts_of(cohort: list[CohortSlide]) -> list[str]:
    """All words that nano may read or write."""
    found = all_texts()
    for slide in cohort:
        truth = slide.truth()
        found += [truth["report"], truth["caption"], *(r["sentence"] for r in truth["regions"])]
        found += [t for q in truth["questions"] for t in (q["question"], q["answer"])]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("cohort", "features", "context_run", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--mixing", default="hier")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    slides = [s for s in read_cohort(args.cohort) if (args.features / "features" / f"{s.name}.h5").exists()]
    tokenizer = train_nano_tokenizer(texts_of(slides))
    model, processor = build_nano(tokenizer, visual_mixing=args.mixing, seed=args.seed)
    region = build_region(args.context_run / "region.safetensors")
    whole = build_slide(args.context_run / "slide.safetensors")
    counts = answer_counts(s.truth() for s in slides)
    prefixes, teachers = [], []
    for slide in slides:
        features = read_features(args.features / "features" / f"{slide.name}.h5")
        features = with_context(slide, features, region, whole)
        prefixes.append(processor.prefix(features))
        teachers.append(Teacher(slide.truth(), features.hierarchy, counts))
    test_mask = held_out(s.patient for s in slides)
    train, test = np.flatnonzero(~test_mask), np.flatnonzero(test_mask)
    print(f"{len(train)} slides to train on, {len(test)} held out; {len(tokenizer)} words", flush=True)

    def batch_of(rows: np.ndarray[Any, Any], rng: np.random.Generator, *, hide: bool) -> dict[str, Tensor]:
        made, keep = [], []
        for i in rows:
            dialogues = teachers[i].draw(rng, args.questions)
            made.append(processor.encode(prefixes[i], dialogues))
            keep.append(hidden(prefixes[i], rng) if hide else torch.ones(len(prefixes[i]), dtype=torch.bool))
        batch = dict(processor.pad(made))
        for row, stays in zip(batch["attention_mask"], keep, strict=True):
            row[: len(stays)] = stays.long()
        return batch

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([args.seed, step])
        loss, right = answer_loss(model, batch_of(rng.choice(train, args.rows, replace=False), rng, hide=True))
        return loss, {"right": right}

    def evaluate() -> dict[str, Any]:
        if not len(test):
            return {}
        with torch.no_grad():
            found = [
                answer_loss(model, batch_of(np.array([i]), np.random.default_rng([7, int(i)]), hide=False))
                for i in test
            ]
        loss, right = (float(np.mean([float(f[k]) for f in found])) for k in (0, 1))
        return {"loss": round(loss, 4), "right": round(right, 4)}

    fit(
        model, loss_of, Plan(args.steps, args.lr, seed=args.seed), args.out,
        evaluate=evaluate, evaluate_every=max(1, args.steps // 10),
    )  # fmt: skip
    save_model(model, processor, args.out / "model")


def save_model(model: HwsiForConditionalGeneration, processor: HwsiProcessor, folder: Path) -> None:
    """Model in half precision and its processor, as ``hwsi.load`` reads them."""
    # float16, not bfloat16: three more bits for weights that are all near zero
    model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
