"""The order of a slide's tokens, and which node of the tree each belongs to.

- Slide token first, then those of further scales, which are nobody's parent; then every region in reading order: label,
  region token, and its kept patches, each with label, patch token and cell token. Labels let an answer cite what it
  saw: ``R3``, and inside it ``P7``.
- A region's label belongs to the region's node and a patch's to the patch's, so that leaving a node out
  leaves nothing of it behind.
- Which patches of a region stand here is decided by their features and, if given, their relevance to a
  question. A report is never used: at inference there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hwsi.hierarchy.labels import patch_label, region_label
from hwsi.hierarchy.selection import described, select_patches
from hwsi.hierarchy.tree import Hierarchy
from hwsi.model.attention import SLIDE_NODE, TEXT_NODE
from hwsi.model.config import PLACEHOLDERS, placeholders


@dataclass(frozen=True)
class Node:
    """A node of the tree that stands in the prompt.

    Attributes:
        scale: text, slide, region, patch or cell, or the name of a further scale.
        label: citable name such as ``R3`` or ``R3.P7``; a cell node has its patch's. Empty for text,
            slide and further scales.
        index: row among the hierarchy's regions or patches (a cell node: of its patch); 0 for text and slide.
        parent: index of the parent among the prompt's nodes; the text node is its own.
    """

    scale: str
    label: str
    index: int
    parent: int


@dataclass(frozen=True)
class Layout:
    """A slide's part of the prompt.

    Attributes:
        nodes: all nodes; number 0 is plain text, 1 the slide.
        pieces: (text, node) in order; a text is a placeholder token or a label.
        patches: (P,) int64, rows of the hierarchy's patches that stand in the prompt, in order.
    """

    nodes: tuple[Node, ...]
    pieces: tuple[tuple[str, int], ...]
    patches: NDArray[np.int64]

    def parents(self) -> list[int]:
        """Parent of every node."""
        return [node.parent for node in self.nodes]


EMPTY_LAYOUT = Layout((Node("text", "", 0, TEXT_NODE),), (), np.zeros(0, np.int64))
"""No slide at all."""


def keep_patches(
    tree: Hierarchy, features: NDArray[np.float32], k: int, relevance: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Rows of the patches that are kept: per region at most ``k``, never background nor what was not encoded.

    Args:
        tree: of the slide.
        features: (N, D) of all its patches.
        k: per region.
        relevance: (N,) of each patch to the question; without it a diverse set is kept.

    Returns:
        (P,) int64, ascending.
    """
    offsets = tree.patches.of_region(len(tree.regions))
    there = described(tree.patches.background, features)
    kept = [np.zeros(0, np.int64)]
    for start, end in pairwise(offsets.tolist()):
        rows = start + np.flatnonzero(there[start:end])
        chosen = select_patches(features[rows], k, None if relevance is None else relevance[rows])
        kept.append(np.sort(rows[chosen]))
    return np.concatenate(kept).astype(np.int64)


def lay_out(tree: Hierarchy, patches: NDArray[np.int64], extra: Sequence[str] = ()) -> Layout:
    """The prompt's nodes and pieces of a slide whose patches ``patches`` (P,), ascending, are kept.

    ``extra`` names the further scales that the slide has.
    """
    nodes = [Node("text", "", 0, TEXT_NODE), Node("slide", "", 0, TEXT_NODE)]
    pieces = [(PLACEHOLDERS["slide"], SLIDE_NODE)]
    cols = tree.region_px // tree.patch_px

    def add(node: Node, *texts: str) -> int:
        nodes.append(node)
        pieces.extend((text, len(nodes) - 1) for text in texts)
        return len(nodes) - 1

    for name in extra:
        add(Node(name, "", 0, TEXT_NODE), placeholders([name])[name])
    for r in range(len(tree.regions)):
        label = region_label(r)
        region = add(Node("region", label, r, SLIDE_NODE), label, PLACEHOLDERS["region"])
        for n in patches[tree.patches.region[patches] == r].tolist():
            row, col = tree.patches.row_col[n].tolist()
            full = patch_label(r, row, col, cols)
            short = full.partition(".")[2]  # the region's own label stands before it: half the tokens
            patch = add(Node("patch", full, n, region), short, PLACEHOLDERS["patch"])
            add(Node("cell", full, n, patch), PLACEHOLDERS["cell"])
    return Layout(tuple(nodes), tuple(pieces), patches)


def question_text(question: str, choices: Sequence[str] | None = None) -> str:
    """A question as the model reads it: in training and at inference the same words."""
    return f"{question}\nOptions: {'; '.join(choices)}" if choices else question
