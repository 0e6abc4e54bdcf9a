"""Which cells of a patch carry an answer: CCAF reads the patch again without some of them, and with these alone.

- The language model has one token for all cells of a patch, so cells are left out where that token is made
  (``encoder_input``). The patch stands alone for it, with what is above it: a prompt of a dozen tokens at their own
  places, so a hundred sets of cells are one small batch.
- The worth of a set is the mean of what is lost without it and what it adds to none.
- From kinds to cells, since cells of a kind stand in for one another: fifty lymphocytes without one say what they said.
  The kind that is worth most; of its cells the fewest, those worth most by themselves first, that together are worth
  nine tenths of it. Where no kind speaks for the answer no cell is cited.

Notation: K cells of the patch that the model reads, C options, S sets of cells.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.evidence import Bool, Float64
from hwsi.inference.evidence.worth import SLIDE, ancestors
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import SlidePrefix
from hwsi.model.visual import VisualBatch

Int = NDArray[np.int64]
Read = Callable[[Bool], Float64]
"""Which cells are read (S, K) -> values (S,), nats."""

_BATCH = 32
_ENOUGH = 0.9


def rows_of(tree: Hierarchy, patch: int, k: int) -> Int:
    """Rows (K,) of the cells of a patch that the model reads, in its order: as many as it takes, evenly thinned."""
    offsets = tree.cells.of_patch(len(tree.patches))
    count = int(offsets[patch + 1] - offsets[patch])
    m = min(count, k)
    return np.asarray(offsets[patch] + np.arange(m) * count // max(m, 1), np.int64)


def reader(
    model: HwsiForConditionalGeneration, prefix: SlidePrefix, node: int, suffix: Tensor, mask: Tensor,
    value: Callable[[Tensor], Tensor],
) -> tuple[int, Read]:  # fmt: skip
    """How many cells (K) the model reads of a cell node, and what comes of reading some of them.

    Args:
        suffix, mask: (C, L) ids behind the slide, and which are there.
        value: log-probabilities (S, C, L) of the suffixes' tokens -> (S,).
    """
    patch = _patch_of(prefix, node)
    step = max(1, _BATCH // len(suffix))

    def read(kept: Bool) -> Float64:
        parts = (torch.from_numpy(kept[i : i + step]) for i in range(0, len(kept), step))
        said = [_read(model, prefix, node, patch, some, suffix, mask) for some in parts]
        return np.asarray(value(torch.cat(said)).double().cpu().numpy())

    return int(prefix.row["cell_mask"][patch].sum()), read


def worth_of_sets(read: Read, sets: Bool) -> Float64:
    """Worth (S,) of sets of cells (S, K): the mean of what is lost without each and what each adds to none."""
    n, k = sets.shape
    values = read(np.concatenate([np.ones((1, k), bool), np.zeros((1, k), bool), ~sets, sets]))
    whole, none, without, alone = values[0], values[1], values[2 : 2 + n], values[2 + n :]
    return np.asarray((whole - without + alone - none) / 2)


def carrying(read: Read, kinds: Int) -> Int:
    """Which cells (n,) speak for the answer, of cells of these kinds (K,); in order."""
    if not len(kinds):
        return np.zeros(0, np.int64)
    groups = np.unique(kinds)[:, None] == kinds
    worth = worth_of_sets(read, groups)
    lead = int(worth.argmax())
    if worth[lead] <= 0:
        return np.zeros(0, np.int64)
    mine = np.flatnonzero(groups[lead])
    every = np.eye(len(kinds), dtype=bool)
    ranked = mine[np.argsort(-worth_of_sets(read, every[mine]), kind="stable")]
    sizes = [*(2**i for i in range(len(mine).bit_length()) if 2**i < len(mine)), len(mine)]
    nested = np.stack([every[ranked[:size]].any(0) for size in sizes])
    enough = worth_of_sets(read, nested) >= _ENOUGH * worth[lead]
    enough[-1] = True
    return np.sort(ranked[: sizes[int(enough.argmax())]]).astype(np.int64)


def _patch_of(prefix: SlidePrefix, node: int) -> int:
    """Row of the node's patch among the kept ones."""
    return int(np.flatnonzero(prefix.layout.patches == prefix.layout.nodes[node].index)[0])


@torch.inference_mode()
def _read(
    model: HwsiForConditionalGeneration, prefix: SlidePrefix, node: int, patch: int, kept: Tensor, suffix: Tensor,
    mask: Tensor,
) -> Tensor:  # fmt: skip
    """Log-probabilities (B, C, L) of the suffixes behind the patch alone, with the cells ``kept`` (B, k)."""
    row, device = prefix.row, model.device
    parent = row["node_parent"].numpy()
    line = np.flatnonzero(ancestors(parent, node))
    at = np.flatnonzero(np.isin(row["token_node"].numpy(), line))
    region = prefix.layout.nodes[int(parent[parent[node]])].index
    b, (c, length), size = len(kept), suffix.shape, len(row["input_ids"])
    k = kept.shape[1]

    def one(name: str, rows: slice | int | None) -> Tensor:
        part = row[name] if rows is None else row[name][rows][None]
        return part.expand(b, *part.shape)

    visual = VisualBatch(
        **{n: one(n, None) for n in ("slide_features", "slide_mask", "slide_mm")},
        **{n: one(n, region) for n in ("region_features", "region_mask", "region_mm")},
        **{n: one(n, patch) for n in ("patch_features", "patch_mask", "patch_mm")},
        cell_features=row["cell_features"][patch][None, None, :k].expand(b, 1, -1, -1),
        cell_mask=kept[:, None],
        cell_xy=row["cell_xy"][patch][None, None, :k].expand(b, 1, -1, -1),
        cell_count=kept.sum(1, keepdim=True),
        extra_features=one("extra_features", None),
        extra_mask=torch.zeros_like(one("extra_mask", None)),
    )
    visual = VisualBatch(**{n: getattr(visual, n).to(device) for n in VisualBatch.__dataclass_fields__})
    here = row["token_node"][at].expand(b, -1)
    head = model.model.embed(row["input_ids"][at].expand(b, -1).to(device), visual, here.to(device))
    words = model.model.embed(suffix.to(device), None)
    node_of = torch.from_numpy(np.searchsorted(line, row["token_node"].numpy()[at]))
    up = torch.from_numpy(np.searchsorted(line, parent[line]))
    seen = torch.from_numpy(line[node_of.numpy()] != SLIDE)  # the slide's own token is made of all tissue
    nothing = torch.zeros(length, dtype=torch.int64)
    logits = model(
        inputs_embeds=torch.cat([head.repeat_interleave(c, 0), words.repeat(b, 1, 1)], 1),
        attention_mask=torch.cat([seen.expand(b * c, -1), mask.repeat(b, 1)], 1).long().to(device),
        position_ids=torch.cat([torch.from_numpy(at), size + torch.arange(length)]).expand(b * c, -1).to(device),
        token_node=torch.cat([node_of, nothing]).expand(b * c, -1).to(device),
        node_parent=up.expand(b * c, -1).to(device),
        segment_ids=torch.cat([torch.zeros(len(at), dtype=torch.int64), nothing + 1]).expand(b * c, -1).to(device),
    ).logits[:, -length:-1].float()  # fmt: skip
    ids = suffix.repeat(b, 1).to(device)
    chosen = logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
    log_p = torch.nn.functional.pad(chosen.masked_fill(~mask.repeat(b, 1)[:, 1:].to(device), 0), (1, 0))
    return log_p.reshape(b, c, length)
