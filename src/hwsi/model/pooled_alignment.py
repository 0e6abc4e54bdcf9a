"""Alignment as the release trains it: one pooled vector per scale and slide, beside one vector of the answer.

- For comparison with the late interaction of our own training. A scale's "unit of language" is the whole answer cut
  and joined again, so the four texts differ in white space only, and their vectors (means of the language model's
  input embeddings) hardly: there is no hierarchy of text in it.
- With one slide in the batch there are no negatives; the loss is then one minus the cosine.

Notation: B slides of a batch, D width of the language model. Scales are named as everywhere (``slide`` is the WSI).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwsi.model.config import SCALES

TEMPERATURE = 0.75
PHRASE_WORDS = 4
CHAIN = (("cell", "patch"), ("patch", "region"), ("region", "slide"))
"""Children and parents whose pooled vectors are drawn together."""


def info_nce(image: Tensor, text: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Symmetric InfoNCE of rows (B, D) that belong together: scalar (van den Oord et al. 2018, arXiv:1807.03748)."""
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    if len(image) == 1:
        return 1 - (image * text).sum()
    logits = image @ text.T / temperature
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def contrastive(
    visual: Mapping[str, Tensor], text: Mapping[str, Tensor], temperature: float = TEMPERATURE
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over the four scales of :func:`info_nce`, and each; inputs are scale -> (B, D)."""
    parts = {scale: info_nce(visual[scale], text[scale], temperature) for scale in SCALES}
    return torch.stack(list(parts.values())).mean(), parts


def consistency(visual: Mapping[str, Tensor]) -> tuple[Tensor, dict[tuple[str, str], Tensor]]:
    """Mean over :data:`CHAIN` of one minus the cosine, averaged over slides, and each; input is scale -> (B, D)."""
    parts = {(a, b): (1 - F.cosine_similarity(visual[a], visual[b])).mean() for a, b in CHAIN}
    return torch.stack(list(parts.values())).mean(), parts


def sentences(text: str) -> list[str]:
    """Pieces of a text, cut behind ``. ; ! ?`` where white space follows."""
    return [piece for piece in re.split(r"(?<=[.;!?])\s+", text.strip()) if piece]


def phrases(text: str) -> list[str]:
    """Pieces of :data:`PHRASE_WORDS` words; the last may be shorter."""
    words = text.split()
    return [" ".join(words[i : i + PHRASE_WORDS]) for i in range(0, len(words), PHRASE_WORDS)]


def scale_texts(answer: str) -> dict[str, str]:
    """The text of each scale of one answer."""
    return {
        "slide": answer.strip(),
        "region": " ".join(sentences(answer)),
        "patch": " ".join(phrases(answer)),
        "cell": " ".join(answer.split()),
    }


def text_vectors(embedding: nn.Module, tokenizer: Any, answers: Sequence[str]) -> dict[str, Tensor]:
    """Mean input embedding of each scale's text: scale -> (B, D); an empty text has the zero vector.

    Args:
        embedding: (ids) -> (..., D), the language model's, held fixed.
        tokenizer: the language model's.
        answers: B of them.
    """
    texts = [scale_texts(answer) for answer in answers]

    def vector(text: str) -> Tensor:
        ids = torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int64, device=next(embedding.parameters()).device)
        rows: Tensor = embedding(ids).detach()
        return rows.sum(0) / max(len(rows), 1)

    return {scale: torch.stack([vector(text[scale]) for text in texts]) for scale in SCALES}
