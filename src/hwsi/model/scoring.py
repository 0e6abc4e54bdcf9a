"""Questions over a slide that was read once: teacher-forced scores and generation behind a shared prefix.

- The prefix's keys and values are computed once; every question, option or left-out set costs only its own
  words.
- The shared cache is never written to: each call works on a copy of it.
- A prefix token that is hidden (``keep``) keeps its place: positions count from the whole prefix. With
  ``visual_mixing`` none or hier this equals deleting it from the input; with full it is an approximation,
  since later tokens have read it already.
- Log-probabilities are float32 whatever the model's dtype: half precision would drown single tokens.

Notation: B suffixes, L their length (padded), P tokens of the prefix, N nodes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache

from hwsi.model.attention import leave_out
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.model.prompt import Layout


@dataclass(frozen=True)
class PrefixCache:
    """A slide as the language model remembers it.

    Attributes:
        past: keys and values of the prefix, for one row; read only.
        input_ids: (P,) int64. token_node: (P,) int64. node_parent: (N,) int64.
        layout: what the nodes are.
    """

    past: Cache
    input_ids: Tensor
    token_node: Tensor
    node_parent: Tensor
    layout: Layout

    def __len__(self) -> int:
        return len(self.input_ids)

    def copy(self, rows: int) -> Cache:
        """A cache of its own for so many rows."""
        past = copy.deepcopy(self.past)
        past.batch_repeat_interleave(rows)
        return past

    def without(self, *nodes: int) -> Tensor:
        """(P,) bool: what stays when these nodes are left out with all their descendants."""
        left = torch.tensor(nodes, dtype=torch.int64, device=self.token_node.device)
        return leave_out(self.token_node, self.node_parent, left)

    def without_slide(self) -> Tensor:
        """(P,) bool: only the plain text stays."""
        return self.token_node == 0


@torch.inference_mode()
def prefill(
    model: HwsiForConditionalGeneration, processor: HwsiProcessor, prefix: SlidePrefix, *, hidden: Sequence[int] = ()
) -> PrefixCache:
    """Read a slide's prefix once.

    Args:
        hidden: nodes whose own tokens nobody sees, neither the prefix nor, if ``keep`` says so too, a question; unlike
            with ``keep`` alone their descendants have not read them and may stay.
    """
    inputs = processor.pad([prefix.row]).to(model.device)
    if hidden:
        inputs["attention_mask"] &= ~torch.isin(inputs["token_node"], torch.tensor(hidden, device=model.device))
    past = model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
    return PrefixCache(
        past=past,
        input_ids=inputs["input_ids"][0],
        token_node=inputs["token_node"][0],
        node_parent=inputs["node_parent"][0],
        layout=prefix.layout,
    )


@torch.inference_mode()
def score(
    model: HwsiForConditionalGeneration,
    prefix: PrefixCache,
    suffix_ids: Tensor,
    suffix_mask: Tensor | None = None,
    keep: Tensor | None = None,
    *,
    batch_size: int = 32,
) -> Tensor:
    """Log-probability of every token of the suffixes (question with answer), given all before it.

    Args:
        prefix: of :func:`prefill`.
        suffix_ids: (B, L) or (1, L) int64, padded on the right.
        suffix_mask: the same shape, True where there is a token; None if all are.
        keep: (B, P) or (P,) bool, False hides a prefix token from the suffix. With one suffix and many rows
            here, the suffix is scored under each.
        batch_size: suffixes per pass; bounds the memory, never changes the result beyond rounding.

    Returns:
        (B, L) float32, nats. Column 0 is 0 (only the prefix stands before it, and that was read without it),
        and so is padding.
    """
    device, size = suffix_ids.device, len(prefix)
    mask = torch.ones_like(suffix_ids, dtype=torch.bool) if suffix_mask is None else suffix_mask.bool()
    kept = torch.ones(1, size, dtype=torch.bool, device=device) if keep is None else keep.bool()
    kept = kept.reshape(-1, size)
    rows = max(len(suffix_ids), len(kept))
    suffix_ids, mask, kept = (x.expand(rows, -1) for x in (suffix_ids, mask, kept))
    positions = size + torch.arange(suffix_ids.shape[1], device=device)[None]
    out = torch.zeros(suffix_ids.shape, dtype=torch.float32, device=device)
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        ids = suffix_ids[part]
        logits = model(
            input_ids=ids,
            attention_mask=torch.cat([kept[part], mask[part]], 1).long(),
            position_ids=positions.expand(len(ids), -1),
            past_key_values=prefix.copy(len(ids)),
            use_cache=True,
        ).logits[:, :-1].float()  # fmt: skip
        chosen = logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
        out[part, 1:] = chosen.masked_fill(~mask[part, 1:], 0)
    return out


def generate(
    model: HwsiForConditionalGeneration,
    prefix: PrefixCache,
    questions: Sequence[Sequence[int]],
    keep: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """Answers to questions behind one prefix: ``model.generate`` without reading the slide again.

    Args:
        questions: ids of :meth:`HwsiProcessor.question`, one list per question.
        keep: (P,) bool, False hides a prefix token.
        kwargs: of ``model.generate``, such as ``max_new_tokens``, ``streamer``, ``num_beams``.

    Returns:
        (B, new) int64, only what was generated.
    """
    device, size = prefix.input_ids.device, len(prefix)
    length, pad = max(map(len, questions)), model.generation_config.pad_token_id
    ids = torch.full((len(questions), length), 0 if pad is None else pad, device=device)
    mask = torch.zeros_like(ids)
    for i, question in enumerate(questions):  # on the left, so that all answers begin at the same column
        ids[i, length - len(question) :] = torch.tensor(question, device=device)
        mask[i, length - len(question) :] = 1
    positions = (size + mask.cumsum(1) - 1).clamp(min=0)
    before = torch.ones(size, dtype=torch.int64, device=device) if keep is None else keep.long()
    full = torch.cat([prefix.input_ids.expand(len(ids), -1), ids], 1)
    made = cast(Any, model).generate(
        input_ids=full,
        attention_mask=torch.cat([before.expand(len(ids), -1), mask], 1),
        position_ids=torch.cat([torch.arange(size, device=device).expand(len(ids), -1), positions], 1),
        past_key_values=prefix.copy(len(ids)),
        **kwargs,
    )
    return made[:, full.shape[1] :]  # type: ignore[no-any-return]
