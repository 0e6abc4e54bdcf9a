"""A new model around any causal language model, and further scales beside the four of a model that there is.

- The placeholders are added to the tokenizer as special tokens and the embeddings grow for them; all
  other rows stay as they were.
- Every weight of the language model must be found in its folder; a random one would be silent.
- A model with a further scale has all weights of the one it came from; only the new projector, and the row of the new
  placeholder, are untrained.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hwsi import extensions
from hwsi.errors import HwsiError, Reason
from hwsi.model.config import HwsiConfig, HwsiVisualConfig, placeholder_ids, placeholders
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.model.strict import check_loading, quiet


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
    extensions.load()
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
    tokenizer.add_tokens([*placeholders(visual_config.extra).values()], special_tokens=True)
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
        placeholder_ids=placeholder_ids(tokenizer, visual_config.extra),
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


def add_scales(
    model: HwsiForConditionalGeneration, processor: HwsiProcessor, extra: Mapping[str, int], *, seed: int = 0
) -> tuple[HwsiForConditionalGeneration, HwsiProcessor]:
    """A model that also reads further vectors of a slide, and its processor; those handed in stay as they are.

    A slide has such a vector under its name in ``SlideFeatures.slide``. One without it is read as before.

    Args:
        extra: name of a further scale -> width of its vector (float32), such as ``{"genes": 50}``.
        seed: of the new weights.

    Raises:
        HwsiError: OPTION_INVALID (a name that is no name, or taken).
    """
    before = model.config.visual_config
    if taken := sorted(set(extra) & set(before.scales)):
        raise HwsiError(Reason.OPTION_INVALID, f"the model has the scale {taken[0]}", "take another name")
    visual = HwsiVisualConfig(**{**before.to_dict(), "extra": {**before.extra, **extra}})
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.add_tokens([*placeholders(visual.extra).values()], special_tokens=True)
    text = copy.deepcopy(model.config.text_config)
    text.vocab_size = max(text.vocab_size, len(tokenizer))
    config = HwsiConfig(
        text_config=text,
        visual_config=visual,
        visual_mixing=model.config.visual_mixing,
        kept_patches=model.config.kept_patches,
        placeholder_ids=placeholder_ids(tokenizer, visual.extra),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = HwsiForConditionalGeneration(config).to(model.device, model.dtype)  # type: ignore[arg-type]
    state, given = made.state_dict(), model.state_dict()
    of_scale = given["model.visual.scale_embedding.weight"]
    for old, scale in zip(of_scale, before.scales, strict=True):  # names are sorted, so rows may have moved
        state["model.visual.scale_embedding.weight"][visual.scales.index(scale)] = old
    for name, weights in given.items():
        if weights is not of_scale:
            state[name][: len(weights)] = weights  # new words stand behind the old ones
    made.load_state_dict(state)
    made.generation_config = copy.deepcopy(model.generation_config)
    made.eval()
    told = processor.region_reports
    new = HwsiProcessor.for_model(config, tokenizer, system=processor.system, region_reports=told)
    new.kept_patches = processor.kept_patches
    return made, new
