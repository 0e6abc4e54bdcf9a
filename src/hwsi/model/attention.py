"""Who sees whom inside the language model.

- Every token has a node of the slide's tree (slide > regions > patches > cells; 0 is plain text, the root's
  parent) and a segment: 0 is the prefix (system words and the slide), 1, 2, ... are independent questions
  with their answers, -1 is padding.
- In the prefix a visual token sees the plain text before it, its own node and, with ``hier``, its ancestors.
  Plain text of the prefix never sees visual tokens. So no token of the prefix carries what another branch
  showed, and hiding a branch from the question is the same as deleting it (measured: 7e-6; with causal mixing
  a third of the effect leaks; see docs/architecture.md).
- A question sees the whole prefix and its own segment. Its positions go on from the end of the prefix, so
  many questions of one slide can be trained in one row and read the same as alone.

Notation: B rows, T tokens, N nodes (node 0 included).
"""

import torch
from torch import Tensor

TEXT_NODE = 0
SLIDE_NODE = 1
DEPTH = 4  # cell -> patch -> region -> slide


def segment_positions(segment_ids: Tensor) -> Tensor:
    """Position ids that every row's segments deserve: ``(B, T)`` int64 -> ``(B, T)`` int64.

    The prefix counts from 0; each segment goes on from the prefix's end; padding (-1) has 0. Tokens of a
    segment stand together.
    """
    index = torch.arange(segment_ids.shape[1], device=segment_ids.device).expand_as(segment_ids)
    starts = torch.ones_like(segment_ids, dtype=torch.bool)
    starts[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
    start = torch.where(starts, index, 0).cummax(1).values
    prefix = (segment_ids == 0).sum(1, keepdim=True)
    return torch.where(segment_ids < 0, 0, index - start + prefix * (segment_ids > 0))


def visible(
    segment_ids: Tensor, token_node: Tensor, node_parent: Tensor, attention_mask: Tensor, mixing: str
) -> Tensor:
    """Which token may look at which.

    Args:
        segment_ids: (B, T) int64. token_node: (B, T) int64. node_parent: (B, N) int64, ``node_parent[:, 0] ==
            0``.
        attention_mask: (B, T), 0 hides a token from every later one (padding, or left out on purpose).
        mixing: ``none``, ``hier`` or ``full``.

    Returns:
        (B, T, T) bool, query by key; everybody sees itself.
    """
    t = segment_ids.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=segment_ids.device).tril()
    key_segment, query_segment = segment_ids[:, None, :], segment_ids[:, :, None]
    allowed = causal & ((key_segment == 0) | (key_segment == query_segment)) & (attention_mask[:, None, :] > 0)
    if mixing != "full":
        node = token_node
        key_node = token_node[:, None, :]
        related = (key_node == TEXT_NODE) | (key_node == node[:, :, None])
        if mixing == "hier":
            for _ in range(DEPTH - 1):
                node = node_parent.gather(1, node)
                related |= key_node == node[:, :, None]
        allowed &= related | (query_segment > 0)
    # a row without any key would be undefined in softmax
    return allowed | torch.eye(t, dtype=torch.bool, device=segment_ids.device)


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as eager and sdpa both read it: ``(B, T, T)`` bool -> ``(B, 1, T, T)``, 0 or the lowest."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def leave_out(token_node: Tensor, node_parent: Tensor, nodes: Tensor) -> Tensor:
    """Which prefix tokens stay when nodes are left out with all their descendants.

    Args:
        token_node: (T,) int64. node_parent: (N,) int64. nodes: (m,) int64, without the text node.

    Returns:
        (T,) bool, True where a token stays. Plain text always stays.
    """
    out = torch.zeros_like(node_parent, dtype=torch.bool)
    out[nodes] = True
    out[TEXT_NODE] = False
    for _ in range(DEPTH - 1):
        out |= out[node_parent]
    return ~out[token_node]
