"""Words behind the tokens of a resampled slide: remembered for questions, and their likelihood under many slides.

- The slide's tokens stand before all words, so their keys and values are computed once for all questions.
- Leaving tissue out changes every one of them; then words are read again behind each set of tokens.
- Log-probabilities are float32 whatever the model's dtype.

Notation: B sets of tokens, Q tokens of a slide, D width, C suffixes of words, L their length (padded).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from hwsi.model.resample_model import HwsiResampleForConditionalGeneration


@dataclass(frozen=True)
class ResampledSlide:
    """A slide as the language model remembers it: keys and values of its ``tokens`` (Q, D), for one row; read only."""

    past: Cache
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def copy(self, rows: int) -> Cache:
        """A cache of its own for so many rows."""
        past = copy.deepcopy(self.past)
        past.batch_repeat_interleave(rows)
        return past


@torch.inference_mode()
def read_tokens(model: HwsiResampleForConditionalGeneration, tokens: Tensor) -> ResampledSlide:
    """Read the tokens (Q, D) of a slide once."""
    head = model.lm_head.weight  # the visual part may be of another dtype
    embeds = tokens[None].to(head.device, head.dtype)
    past = model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1).past_key_values
    return ResampledSlide(past, tokens)


@torch.inference_mode()
def score_words(
    model: HwsiResampleForConditionalGeneration,
    tokens: Tensor | None,
    ids: Tensor,
    mask: Tensor,
    *,
    start: int,
    batch_size: int,
) -> Tensor:
    """Log-probability of the tokens of suffixes (question with answer) behind each set of a slide's tokens.

    Args:
        tokens: (B, Q, D) float, or None for no slide at all.
        ids: (C, L) int64, padded on the right. mask: (C, L) bool, True where there is a token.
        start: first column that is scored, at least 1.
        batch_size: rows per pass; bounds the memory.

    Returns:
        (B, C, L - start) float32, nats, zero at padding; without a slide B is 1.
    """
    b, (c, length) = (1 if tokens is None else len(tokens)), ids.shape
    rows = torch.cartesian_prod(torch.arange(b), torch.arange(c)).to(ids.device)
    made = []
    for start_row in range(0, len(rows), batch_size):
        part = rows[start_row : start_row + batch_size]
        words, present = ids[part[:, 1]], mask[part[:, 1]]
        if tokens is None:
            inputs = {"input_ids": words, "attention_mask": present.long()}
        else:
            embeds, full = model.model.prepend(tokens[part[:, 0]], words, present.long())
            inputs = {"inputs_embeds": embeds, "attention_mask": full}
        logits = model(**inputs, use_cache=False, logits_to_keep=length - start + 1).logits[:, :-1].float()
        chosen = logits.gather(-1, words[:, start:, None])[..., 0] - logits.logsumexp(-1)
        made.append(chosen.masked_fill(~present[:, start:], 0))
    return torch.cat(made).reshape(b, c, length - start)
