"""Step 5: CCAF, projectors and the language model, end to end on questions, descriptions and reports.

- One row is one slide with many independent questions behind it: the slide is read once for all of them.
- No visit shows a slide as the last one did: it is turned, other patches stand for a region, and some patches are
  missing from what its region and slide vectors are made of. A few hundred slides would else be learned by heart.
- Parts of the slide are hidden at random (whole regions, single patches, now and then everything), so that
  leaving tissue out at inference asks for something the model has learned, and so that what it says without a
  slide is the honest prior.
- Often the slide's own token is hidden too: it sums up all tissue, and a model that reads nothing else could
  point at none.
- Every other step shows the tops of many trees, slide and regions without patches, with a few questions to each:
  such a row costs a tenth, and what is true of a slide is learned from many slides.
- CCAF is told directly what its cells are (``cell_truth.py``), and the projectors what slide and regions are
  (``token_truth.py``): the language loss alone reaches each through one token in hundreds.
- Every answer counts by the root of its length: a report neither drowns the yes and the no, nor is it drowned.

Run: ``python -m hwsi.training.nano.language COHORT FEATURES CONTEXT_RUN OUT``
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hwsi.encoders.region_nano import build as build_region
from hwsi.encoders.slide_nano import build as build_slide
from hwsi.features import SlideFeatures, read_features
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.attention import SLIDE_NODE, leave_out
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.nano import build_nano
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.model.prompt import question_text
from hwsi.model.tokenizer import train_nano_tokenizer
from hwsi.phantom.second.wordings import all_texts as second_texts
from hwsi.phantom.wordings import all_texts
from hwsi.training.nano.cell_truth import CellReader, attach, truth_of
from hwsi.training.nano.cohort import CohortSlide, held_out, read_cohort
from hwsi.training.nano.context import Example, example, turn
from hwsi.training.nano.dialogues import Teacher, answer_counts
from hwsi.training.nano.everyday import everyday_texts
from hwsi.training.nano.loop import Plan, fit
from hwsi.training.nano.symmetry import turn_features
from hwsi.training.nano.token_truth import Kinds, TokenReader
from hwsi.training.nano.whiten import whiten

_KEPT = (4, 8, 16)
"""Patches of a region that a visit shows at most: with few, the answer has to be found in those that are there."""
_TOP_ROWS, _TOP_QUESTIONS = 12, 6
_TOKENS = 0.05  # weight of what slide and region tokens must tell: the sum of some forty losses
_SAMPLE = 300  # slides from which the projectors' whitening is measured
_MISSING = 0.3  # up to this share of patches is missing from a visit's region vectors


def with_context(features: SlideFeatures, e: Example, region: Any, whole: Any) -> SlideFeatures:
    """The features of a slide with the region and slide vectors of newly trained encoders."""
    regions = region.encode(e.patches, e.mask, e.row_col)
    seen = torch.cat([regions, e.tissue], 1)
    vector = whole.encode(seen[None], torch.ones(1, len(regions), dtype=torch.bool), e.mm[None])[0]
    return replace(features, region={"region-nano": regions.numpy()}, slide={"slide-nano": vector.numpy()})


class Views:
    """A slide as a visit sees it."""

    def __init__(self, slide: CohortSlide, features: SlideFeatures, region: Any, whole: Any) -> None:
        self._features, self._example = features, example(slide, features)
        self._region, self._whole = region, whole

    def plain(self) -> SlideFeatures:
        """As at inference."""
        return with_context(self._features, self._example, self._region, self._whole)

    def draw(self, rng: np.random.Generator) -> tuple[SlideFeatures, int, NDArray[np.float32] | None, Kinds, Kinds]:
        """Features of the slide turned by a code, the code, a random relevance of its patches or None, and what is
        true of slide and regions."""
        code = int(rng.integers(8))
        e = turn(self._example, code)
        stay = torch.from_numpy(rng.random(tuple(e.mask.shape)) >= rng.uniform(0, _MISSING))
        some = e.mask & stay
        e = replace(e, mask=torch.where(some.any(1, keepdim=True), some, e.mask))
        seen, old_region = turn_features(self._features, code)
        seen = with_context(seen, e, self._region, self._whole)
        seen = replace(seen, region={name: v[old_region] for name, v in seen.region.items()})
        relevance = rng.random(len(seen.hierarchy.patches)).astype(np.float32) if rng.random() < 0.5 else None
        return seen, code, relevance, e.slide_kinds, {name: v[old_region] for name, v in e.region_kinds.items()}


def hidden(prefix: SlidePrefix, rng: np.random.Generator) -> Tensor:
    """(T,) bool, True where a prefix token stays: most often all of them, else such sets as evidence asks for."""
    node, parent = prefix.row["token_node"], prefix.row["node_parent"]
    scales = np.array([n.scale for n in prefix.layout.nodes])
    without_summary = node != SLIDE_NODE
    luck = rng.random()
    for share, upper in ((0.05, ()), (0.25, ("slide",))):
        if luck < share:
            return torch.from_numpy(np.isin(scales, ("text", *upper)))[node]
    if luck < 0.35:
        return without_summary
    if luck < 0.6:
        out = np.zeros(len(scales), bool)
        for scale in ("region", "patch", "cell"):
            out |= (scales == scale) & (rng.random(len(scales)) < rng.uniform(0, 0.8))
        stay = leave_out(node, parent, torch.from_numpy(np.flatnonzero(out)))
        return stay & without_summary if luck < 0.48 else stay
    return torch.ones_like(node, dtype=torch.bool)


def answer_loss(
    model: HwsiForConditionalGeneration, batch: dict[str, Tensor], *, bf16: bool = False
) -> tuple[Tensor, float]:
    """Loss over the answers of a batch, and the share of answers of which every token was predicted right."""
    labels = batch.pop("labels")
    segments = batch["segment_ids"]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        states = model.model(**batch, use_cache=False).last_hidden_state.float()
    target = labels[:, 1:]
    known = target >= 0
    logits = model.lm_head(states[:, :-1][known])
    # one number per (row, segment)
    answer = (torch.arange(len(segments))[:, None] * 10_000 + segments[:, 1:])[known]
    loss, right = by_length(logits, target[known], answer)
    return loss, float(right)


def by_length(logits: Tensor, target: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy in which an answer of n tokens has the weight n^(1/2), and the share of answers that are right.

    Args:
        logits: (n, V) float32 of the tokens of all answers. target: (n,). answer: (n,), equal within an answer.
    """
    each = F.cross_entropy(logits, target, reduction="none")
    _, of, length = torch.unique(answer, return_inverse=True, return_counts=True)
    weight = length[of].float() ** -0.5
    wrong = torch.zeros(len(length), device=logits.device).index_add_(0, of, (logits.argmax(-1) != target).float())
    return (each * weight).sum() / weight.sum(), (wrong == 0).float().mean()


def texts_of(cohort: list[CohortSlide]) -> list[str]:
    """All words that nano may read or write."""
    found = [
        *all_texts(),
        *second_texts(),
        *everyday_texts(),
        REPORT_PROMPT,
        CAPTION_PROMPT,
        question_text("", ["", ""]),
    ]
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
    parser.add_argument("--bf16", action="store_true", help="mixed precision: faster where the CPU has bf16")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    slides = [s for s in read_cohort(args.cohort) if (args.features / "features" / f"{s.name}.h5").exists()]
    tokenizer = train_nano_tokenizer(texts_of(slides))
    model, processor = build_nano(tokenizer, visual_mixing=args.mixing, seed=args.seed)
    region = build_region(args.context_run / "region.safetensors")
    whole = build_slide(args.context_run / "slide.safetensors")
    counts = answer_counts(s.truth() for s in slides)
    views, truths = [], []
    for slide in slides:
        features = attach(read_features(args.features / "features" / f"{slide.name}.h5"), slide.patches())
        views.append(Views(slide, features, region, whole))
        truths.append(slide.truth())
    trainee = CellReader(model)
    trainee.tokens = reader = TokenReader(model)
    test_mask = held_out(s.patient for s in slides)
    train, test = np.flatnonzero(~test_mask), np.flatnonzero(test_mask)
    print(f"{len(train)} slides to train on, {len(test)} held out; {len(tokenizer)} words", flush=True)

    rng = np.random.default_rng([args.seed, 1])
    sample = [views[i].draw(rng)[0] for i in rng.choice(train, min(_SAMPLE, len(train)), replace=False)]
    for scale, encoder in processor.encoders.items():
        if scale != "cell":  # CCAF's output changes while it learns
            vectors = np.concatenate([np.atleast_2d(getattr(f, scale)[encoder]) for f in sample])
            whiten(model.model.visual.projectors[scale], torch.from_numpy(vectors))

    def batch_of(
        rows: np.ndarray[Any, Any], rng: np.random.Generator, *, learn: bool, top: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, list[Kinds], list[Kinds]]:
        made, keep, cells, of_slides, of_regions = [], [], [], [], []
        for i in rows:
            seen, code, relevance, *kinds = views[i].draw(rng) if learn else (views[i].plain(), 0, None, {}, {})
            of_slides.append(kinds[0])
            of_regions.append(kinds[1])
            kept = 0 if top else int(rng.choice(_KEPT)) if learn else None
            prefix = processor.prefix(seen, relevance=relevance, kept_patches=kept)
            teacher = Teacher(truths[i], seen.hierarchy, counts, code)
            dialogues = teacher.draw(rng, _TOP_QUESTIONS, reported=0) if top else teacher.draw(rng, args.questions)
            made.append(processor.encode(prefix, dialogues))
            cells.append(truth_of(seen, prefix.layout.patches))
            keep.append(hidden(prefix, rng) if learn else torch.ones(len(prefix), dtype=torch.bool))
        batch = dict(processor.pad(made))
        for row, stays in zip(batch["attention_mask"], keep, strict=True):
            row[: len(stays)] = stays.long()
        return batch, torch.cat(cells), of_slides, of_regions

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([args.seed, step])
        top = step % 2 == 0
        rows = rng.choice(train, min(_TOP_ROWS if top else args.rows, len(train)), replace=False)
        batch, cells, *kinds = batch_of(rows, rng, learn=True, top=top)
        loss, right = answer_loss(model, batch, bf16=args.bf16)
        of_tokens = reader.loss(*kinds)
        total = loss + _TOKENS * of_tokens
        parts = {f"{'top' if top else 'whole'}_right": right, "tokens": float(of_tokens.detach())}
        if not top:
            of_cells = trainee.loss(cells)
            total, parts["cells"] = total + of_cells, float(of_cells.detach())
        return total, parts

    def evaluate() -> dict[str, Any]:
        if not len(test):
            return {}
        with torch.no_grad():
            found = [
                answer_loss(model, batch_of(np.array([i]), np.random.default_rng([7, int(i)]), learn=False)[0])
                for i in test
            ]
        loss, right = (float(np.mean([float(f[k]) for f in found])) for k in (0, 1))
        return {"loss": round(loss, 4), "right": round(right, 4)}

    fit(
        trainee, loss_of, Plan(args.steps, args.lr, seed=args.seed), args.out,
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
