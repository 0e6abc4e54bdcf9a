"""The Hugging Face model with ``fusion: resample``: the slide's tokens stand before all words.

- Laid out as its sibling in ``modeling.py``: ``{model: {visual, language_model}, lm_head}``.
- There are no placeholders: ``forward`` prepends the tokens, so its outputs are Q longer than ``input_ids``.
- ``generate`` hands embeddings on, as the release does. What it returns is the answer alone, and penalties on
  repetition see the answer alone: a word of the question may be said at no cost.
- The visual part stays in float32 whatever the language model is in, as the release keeps it.

Notation: B rows, T tokens of words, Q queries, D width, V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, Cache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from hwsi.model.config import HwsiResampleConfig
from hwsi.model.heads import Head, InnerEmbeddings
from hwsi.model.resample import RESAMPLE_INPUTS, ResampleBatch, Resampler, ResampleVisual
from hwsi.model.rows import IGNORE


class HwsiResamplePreTrainedModel(PreTrainedModel):
    """What both models share."""

    config: HwsiResampleConfig
    config_class = HwsiResampleConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012 (transformers' form)
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 (transformers' form)
    _keep_in_fp32_modules_strict = ["visual"]  # noqa: RUF012 (transformers' form)
    _supports_sdpa = True

    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        if isinstance(module, Resampler):  # a bare parameter is not known to the default
            init.normal_(module.queries, std=0.02)


class HwsiResampleModel(InnerEmbeddings, HwsiResamplePreTrainedModel):
    """The visual part and the language model without its head."""

    def __init__(self, config: HwsiResampleConfig) -> None:
        super().__init__(config)
        self.visual = ResampleVisual(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def prepend(self, tokens: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The slide's tokens (B, Q, D) before the words (B, T): embeddings (B, Q+T, D) and their mask (B, Q+T)."""
        words: Tensor = self.get_input_embeddings()(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        embeds = torch.cat([tokens.to(words.device, words.dtype), words], 1)
        return embeds, torch.cat([mask.new_ones(tokens.shape[:2]), mask], 1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        slide_features: Tensor | None = None,
        region_features: Tensor | None = None,
        region_mask: Tensor | None = None,
        patch_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        cell_features: Tensor | None = None,
        cell_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of a batch.

        Args:
            input_ids: (B, T) int64. attention_mask: (B, T), of the words alone where a slide is given.
            slide_features ... cell_mask: fields of :class:`hwsi.model.resample.ResampleBatch`, all features or none.

        Returns:
            ``last_hidden_state`` (B, Q+T, D) with a slide, (B, T, D) without, and the cache.
        """
        # spelled out in the signature since generate() and trainers read it; gathered again here
        given = locals()
        batch = gather({name: given[name] for name in RESAMPLE_INPUTS})
        if batch is not None:
            if input_ids is None or position_ids is not None or past_key_values is not None:
                raise ValueError("a slide goes with input_ids, at the start of a sequence and without position_ids")
            inputs_embeds, attention_mask = self.prepend(self.visual(batch), input_ids, attention_mask)
            input_ids = None
        outputs: BaseModelOutputWithPast = self.language_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return outputs


class HwsiResampleForConditionalGeneration(Head, HwsiResamplePreTrainedModel, GenerationMixin):
    """The model that answers."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HwsiResampleConfig) -> None:
        super().__init__(config)
        self.model = HwsiResampleModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        slide_features: Tensor | None = None,
        region_features: Tensor | None = None,
        region_mask: Tensor | None = None,
        patch_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        cell_features: Tensor | None = None,
        cell_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As :meth:`HwsiResampleModel.forward`, with the head.

        Args:
            labels: (B, T) int64, -100 where nothing is to be learned; of the words, whether a slide is given or not.
            logits_to_keep: the last so many positions (0: all), or which ones.

        Returns:
            ``logits`` (B, Q+T, V) and, with labels, ``loss``: mean cross entropy over labelled tokens, or their sum
            over ``num_items_in_batch`` if a trainer gives that.
        """
        given = locals()
        items = kwargs.pop("num_items_in_batch", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **{name: given[name] for name in RESAMPLE_INPUTS},
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            before = labels.new_full((len(labels), hidden.shape[1] - labels.shape[1]), IGNORE)
            loss = self.loss_function(
                logits=logits,
                labels=torch.cat([before, labels], 1),
                vocab_size=self.config.text_config.vocab_size,
                num_items_in_batch=items,
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As ``GenerationMixin.generate``; with a slide, only what was generated is returned: (B, new) int64."""
        batch = gather({name: kwargs.pop(name, None) for name in RESAMPLE_INPUTS})
        if batch is not None:
            ids = kwargs.pop("input_ids", inputs)
            inputs = None
            kwargs["inputs_embeds"], kwargs["attention_mask"] = self.model.prepend(
                self.model.visual(batch), ids, kwargs.get("attention_mask")
            )
        return cast(Any, super()).generate(inputs, **kwargs)


def gather(given: dict[str, Tensor | None]) -> ResampleBatch | None:
    """The batch of these inputs, or None where there are none. ValueError where features are missing."""
    if all(value is None for value in given.values()):
        return None
    missing = [name for name in RESAMPLE_INPUTS if name.endswith("features") and given[name] is None]
    if missing:
        raise ValueError(f"inputs that belong together are incomplete: no {', '.join(missing)}")
    return ResampleBatch(**cast(dict[str, Any], given))
