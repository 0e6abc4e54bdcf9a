"""A new model around any causal language model: its weights and tokenizer, and an untrained visual part.

- The four placeholders are added to the tokenizer as special tokens and the embeddings grow for them; all
  other rows stay as they were.
- Every weight of the language model must be found in its folder; a random one would be silent.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hwsi.errors import HwsiError, Reason
from hwsi.model.checkpoint import check_loading, quiet
from hwsi.model.config import PLACEHOLDERS, HwsiConfig, HwsiVisualConfig, placeholder_ids
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor


def from_language_model(
    folder: str | Path,
    *,
    visual_config: HwsiVisualConfig,
    visual_mixing: str = "hier",
    kept_patches: int = 8,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[HwsiForConditionalGeneration, HwsiProcessor]:
    """Wrap a language model of a local folder.

    Args:
        folder: with config, weights and a tokenizer that has a chat template.
        visual_config: which encoders' features are read.
        visual_mixing, kept_patches: as in :class:`hwsi.model.config.HwsiConfig`.
        dtype: of all weights.
        seed: of the visual part's first weights.

    Errors: weights_missing, weights_mismatch, option_invalid (no chat template; not full attention).
    """
    folder = Path(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, local_files_only=True
            )
    except OSError as error:
        todo = "give the folder of a downloaded language model"
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no language model in {folder}: {error}", todo) from error
    source, info = loaded
    check_loading(info, folder)
    if tokenizer.chat_template is None:
        todo = "use an instruction-tuned language model, or give its tokenizer a chat template"
        raise HwsiError(Reason.OPTION_INVALID, f"the tokenizer in {folder} has no chat template", todo)
    tokenizer.add_tokens(list(PLACEHOLDERS.values()), special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    rows = source.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:  # many models have spare rows already
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            source.resize_token_embeddings(len(tokenizer))
    source.config.pad_token_id = tokenizer.pad_token_id
    config = HwsiConfig(
        text_config=source.config,
        visual_config=visual_config,
        visual_mixing=visual_mixing,
        kept_patches=kept_patches,
        placeholder_ids=placeholder_ids(tokenizer),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HwsiForConditionalGeneration(config).to(dtype)  # type: ignore[arg-type]
    model.model.language_model.load_state_dict(source.base_model.state_dict())
    model.lm_head.load_state_dict(source.get_output_embeddings().state_dict())
    model.tie_weights()
    model.generation_config = source.generation_config
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.eval()
    return model, HwsiProcessor.for_model(config, tokenizer)
