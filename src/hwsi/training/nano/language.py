"""What nano's language model is shown of a slide at a visit, and how its answers weigh.

- One row is one slide with many independent questions behind it: the slide is read once for all of them.
- No visit shows a slide as the last one did: it is turned, other patches stand for a region, and some patches are
  missing from what its region and slide vectors are made of. A few hundred slides would else be learned by heart.
- Parts of the slide are hidden at random (whole regions, single patches, now and then everything), so that
  leaving tissue out at inference asks for something the model has learned, and so that what it says without a
  slide is the honest prior.
- Often the slide's own token is hidden too: it sums up all tissue, and a model that reads nothing else could
  point at none. For the same reason all that stands above the patches, or above the cells, is hidden now and then.
- Every answer counts by the root of its length: a report neither drowns the yes and the no, nor is it drowned.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hwsi.features import SlideFeatures
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.attention import SLIDE_NODE, leave_out
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.model.prompt import question_text
from hwsi.phantom.second.wordings import all_texts as second_texts
from hwsi.phantom.wordings import all_texts
from hwsi.training.nano.cohort import CohortSlide
from hwsi.training.nano.context import Example, example, turn
from hwsi.training.nano.everyday import everyday_texts
from hwsi.training.nano.symmetry import turn_features
from hwsi.training.nano.token_truth import Kinds

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
    if "cell" in scales:  # tops of trees have neither
        for share, kept in ((0.06, ("patch", "cell")), (0.10, ("cell",))):
            if luck < share:
                return torch.from_numpy(np.isin(scales, ("text", *kept)))[node]
    for share, upper in ((0.14, ()), (0.30, ("slide",))):
        if luck < share:
            return torch.from_numpy(np.isin(scales, ("text", *upper)))[node]
    if luck < 0.40:
        return without_summary
    if luck < 0.62:
        out = np.zeros(len(scales), bool)
        for scale in ("region", "patch", "cell"):
            out |= (scales == scale) & (rng.random(len(scales)) < rng.uniform(0, 0.8))
        stay = leave_out(node, parent, torch.from_numpy(np.flatnonzero(out)))
        return stay & without_summary if luck < 0.51 else stay
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


def save_model(model: HwsiForConditionalGeneration, processor: HwsiProcessor, folder: Path) -> None:
    """Model in half precision and its processor, as ``hwsi.load`` reads them."""
    # float16, not bfloat16: three more bits for weights that are all near zero
    model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)
