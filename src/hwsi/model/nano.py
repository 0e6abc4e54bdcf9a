"""The embedded model: small enough to travel inside the package and to answer on one core.

A Qwen2-type language model of 2.1 million parameters and its vocabulary, trained from scratch on phantom slides,
with a visual part of 0.7 million. It knows synthetic tissue only.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import re
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config

from hwsi.model.config import HwsiConfig, HwsiVisualConfig, placeholder_ids
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor

_TOKEN, _LABEL = 2.0, 4.0
"""Lengths of visual tokens, near that of a word, and of the words that are labels, when training begins. Labels are
learned by what stands behind them, so each has to be told from the others long before it means anything; see
docs/decisions/0011-labels-are-bound-by-mosaics.md."""
_LABELS = re.compile(r"[RP]\d+")


def nano_config(tokenizer: PreTrainedTokenizerFast, *, visual_mixing: str = "hier") -> HwsiConfig:
    """Its configuration, for a tokenizer of :func:`hwsi.model.tokenizer.train_nano_tokenizer`."""
    return HwsiConfig(
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        ),
        visual_config=HwsiVisualConfig(
            encoders={
                "slide": "slide-nano",
                "region": "region-nano",
                "patch": "patch-nano",
                "cell": "cell-nano",
            },
            dims={"slide": 192, "region": 192, "patch": 192, "cell": 64},
            ccaf_width=96,
            ccaf_blocks=2,
            ccaf_heads=2,
            max_cells=128,
            fourier_bands=9,
            fourier_min_mm=0.256,
        ),
        fusion="interleave",
        visual_mixing=visual_mixing,
        kept_patches=16,
        token_norm=_TOKEN,
        label_scale=1.0,
        placeholder_ids=placeholder_ids(tokenizer),
    )


def build_nano(
    tokenizer: PreTrainedTokenizerFast, *, visual_mixing: str = "hier", seed: int = 0
) -> tuple[HwsiForConditionalGeneration, HwsiProcessor]:
    """An untrained nano and its processor; the same seed gives the same weights, other random state stays."""
    config = nano_config(tokenizer, visual_mixing=visual_mixing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HwsiForConditionalGeneration(config)
        _part_labels(model, tokenizer)
    model.eval()
    return model, HwsiProcessor.for_model(config, tokenizer, region_reports=True)


@torch.no_grad()
def _part_labels(model: HwsiForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    inside: Any = model
    words = inside.get_input_embeddings().weight
    labels = [number for word, number in sorted(tokenizer.get_vocab().items()) if _LABELS.fullmatch(word)]
    words[labels] = _LABEL * torch.nn.functional.normalize(torch.randn(len(labels), words.shape[1]), dim=-1)
