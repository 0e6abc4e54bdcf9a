"""Where the language model's heads look, and what it does to the words: attention times its gradient.

- One pass over the words behind the cached slide and one backward through it; the slide is not read again. Computed by
  the eager kernel, since the fused ones keep no weights.
- Attention alone says where a head looks, not whether that spoke for or against the words, and not what a word of the
  question read first and the answer then read from it. The product has a sign and counts both ways
  (Chefer et al., arXiv 2103.15679, without their rollout).
- It is no evidence by itself: ``inference/evidence/glance.py`` corrects it by what halves of the slide show.

Notation: B rows, L their length, P tokens of the prefix, U units.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.scoring import PrefixCache

Objective = Callable[[Tensor], Tensor]
"""Log-probabilities (B, L) of the rows' tokens -> (M, U) what is to be explained, of each keep mask and unit."""


def relevance(
    model: HwsiForConditionalGeneration, prefix: PrefixCache, rows: Tensor, mask: Tensor, keep: Tensor,
    objective: Objective,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The objective, and what looking at each token of the prefix adds to it, to first order and over all heads.

    Args:
        rows: (B, L) int64 ids behind the prefix, padded on the right. mask: (B, L) bool.
        keep: (B, P) bool, False hides a token of the prefix from a row.

    Returns:
        (M, U) and (U, P), float32 on the CPU, in the unit of the objective; the second is the sum over M.
    """
    device, size = model.device, len(prefix)
    rows, mask, keep = rows.to(device), mask.to(device), keep.to(device)
    with _eager(model), torch.enable_grad():
        out = model(
            input_ids=rows,
            attention_mask=torch.cat([keep, mask], 1).long(),
            position_ids=(size + torch.arange(rows.shape[1], device=device)).expand(len(rows), -1),
            past_key_values=prefix.copy(len(rows)),
            use_cache=True,
            output_attentions=True,
        )
        logits = out.logits[:, :-1].float()
        chosen = logits.gather(-1, rows[:, 1:, None])[..., 0] - logits.logsumexp(-1)
        log_p = torch.nn.functional.pad(chosen.masked_fill(~mask[:, 1:], 0), (1, 0))
        units = objective(log_p)
        found = []
        for u in range(units.shape[1]):
            slopes = torch.autograd.grad(units[:, u].sum(), out.attentions, retain_graph=u + 1 < units.shape[1])
            each = [(a * s)[..., :size].sum((0, 1, 2)) for a, s in zip(out.attentions, slopes, strict=True)]
            found.append(torch.stack(each).sum(0).detach().float().cpu())
    return units.detach().float().cpu(), torch.stack(found)


@contextmanager
def _eager(model: HwsiForConditionalGeneration) -> Iterator[None]:
    inner = cast(Any, model.model.language_model)
    before = inner.config._attn_implementation
    inner.set_attn_implementation("eager")
    try:
        yield
    finally:
        inner.set_attn_implementation(before)
