"""The Hugging Face model: a visual part, any causal language model, one head.

- Laid out as LLaVA's: ``HwsiForConditionalGeneration{model: HwsiModel{visual, language_model}, lm_head}``, so
  that PEFT, Accelerate and preference trainers find what they look for.
- The attention of the prefix is built here from nodes and segments (``attention.py``). With a cache there is
  nothing to build: a question sees all of the prefix, which a plain 2-D mask says.
- Position ids are explicit and never compacted: leaving tokens out by ``attention_mask`` keeps everybody's
  place. (Transformers' ``generate`` would otherwise renumber by the mask, and a forward pass with position
  ids but no mask would read a gap as the start of another packed sequence. Both are silent.)

Notation: B rows, T tokens, N nodes, D width, V vocabulary.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from hwsi.model.attention import TEXT_NODE, additive, segment_positions, visible
from hwsi.model.config import HwsiConfig
from hwsi.model.heads import Head, InnerEmbeddings
from hwsi.model.visual import VISUAL_INPUTS, HwsiVisual, VisualBatch, check_counts

TREE_INPUTS = ("token_node", "node_parent", "segment_ids")
"""Inputs that only a pass over the prefix needs, besides the visual ones."""


class HwsiPreTrainedModel(PreTrainedModel):
    """What both models share."""

    config: HwsiConfig
    config_class = HwsiConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012 (transformers' form)
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 (transformers' form)
    _supports_sdpa = True
    _supports_flash_attn = False  # its kernels take no mask of ours
    _can_compile_fullgraph = False


class HwsiModel(InnerEmbeddings, HwsiPreTrainedModel):
    """The visual part and the language model without its head."""

    def __init__(self, config: HwsiConfig) -> None:
        super().__init__(config)
        self.visual = HwsiVisual(config.visual_config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def embed(self, input_ids: Tensor, visual: VisualBatch | None, token_node: Tensor | None = None) -> Tensor:
        """(B, T) int64 -> (B, T, D): words, and where a placeholder stands what the visual part made of the slide.

        ``token_node`` (B, T) says which words are the label of which token; only a model that adds labels reads it.
        """
        words: Tensor = self.get_input_embeddings()(input_ids)
        if visual is None:
            return words
        embeds = words
        present = visual.all_present(self.config.visual_config.scales)
        check_counts(input_ids, self.config.placeholder_ids, present)
        for scale, tokens in self.visual(visual).items():
            here = (input_ids == self.config.placeholder_ids[scale])[..., None]
            if self.config.token_norm:
                tokens = self.config.token_norm * F.normalize(tokens, dim=-1)
            # row by row there are as many of one as of the other, so both run in the same order
            embeds = embeds.masked_scatter(here, tokens.to(embeds.device, embeds.dtype))
        if self.config.label_scale:
            if token_node is None:
                raise ValueError("this model adds labels to visual tokens, and needs token_node to know which is whose")
            placeholder = torch.isin(input_ids, torch.tensor([*self.config.placeholder_ids.values()]).to(input_ids))
            embeds = embeds + self.config.label_scale * _label_of(words, token_node, placeholder)
        return embeds

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        token_node: Tensor | None = None,
        node_parent: Tensor | None = None,
        segment_ids: Tensor | None = None,
        slide_features: Tensor | None = None,
        slide_mask: Tensor | None = None,
        slide_mm: Tensor | None = None,
        region_features: Tensor | None = None,
        region_mask: Tensor | None = None,
        region_mm: Tensor | None = None,
        patch_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        patch_mm: Tensor | None = None,
        cell_features: Tensor | None = None,
        cell_mask: Tensor | None = None,
        cell_xy: Tensor | None = None,
        cell_count: Tensor | None = None,
        extra_features: Tensor | None = None,
        extra_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of a batch.

        Args:
            input_ids: (B, T) int64. attention_mask: (B, T past included) 1 visible, 0 hidden from all later
                tokens.
            position_ids: (B, T) int64; without them they follow from ``segment_ids``.
            token_node: (B, T), node_parent: (B, N), segment_ids: (B, T), all int64, all or none; see
                ``attention.py``. Only for a pass that starts a sequence.
            slide_features ... extra_mask: fields of :class:`hwsi.model.visual.VisualBatch`, all or none.

        Returns:
            ``last_hidden_state`` (B, T, D) and the cache.
        """
        # spelled out in the signature since generate() and trainers read it; gathered again here
        given = locals()
        visual = VisualBatch(**_all_or_none(given, VISUAL_INPUTS)) if _any(given, VISUAL_INPUTS) else None
        tree = _all_or_none(given, TREE_INPUTS) if _any(given, TREE_INPUTS) else None
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if past and (visual is not None or tree is not None):
            raise ValueError("visual inputs, nodes and segments belong to the pass that starts a sequence")
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("neither input_ids nor inputs_embeds")
            inputs_embeds = self.embed(input_ids, visual, token_node)
        elif visual is not None:
            raise ValueError("visual inputs need input_ids, which say where they go")
        rows, length = inputs_embeds.shape[:2]
        if attention_mask is None:
            # never none: with position ids and no mask a gap would be taken for another sequence
            attention_mask = torch.ones(rows, past + length, dtype=torch.int64, device=inputs_embeds.device)
        if tree is not None:
            allowed = visible(
                tree["segment_ids"],
                tree["token_node"],
                tree["node_parent"],
                attention_mask,
                self.config.visual_mixing,
            )
            attention_mask = additive(allowed, inputs_embeds.dtype)
            if position_ids is None:
                position_ids = segment_positions(tree["segment_ids"])
        outputs: BaseModelOutputWithPast = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return outputs


def _label_of(words: Tensor, token_node: Tensor, placeholder: Tensor) -> Tensor:
    """(B, T, D): at each placeholder the mean of its node's words, 0 where a node has none and everywhere else."""
    rows, length, width = words.shape
    nodes = int(token_node.max()) + 1
    of = token_node + nodes * torch.arange(rows, device=words.device)[:, None]
    label = (token_node != TEXT_NODE) & ~placeholder
    total = words.new_zeros(rows * nodes, width).index_add(0, of[label], words[label])
    count = torch.bincount(of[label], minlength=rows * nodes).clamp(min=1)
    mean = (total / count[:, None])[of.flatten()].view(rows, length, width)
    return mean * placeholder[..., None]


class HwsiForConditionalGeneration(Head, HwsiPreTrainedModel, GenerationMixin):
    """The model that answers."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HwsiConfig) -> None:
        super().__init__(config)
        self.model = HwsiModel(config)
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
        token_node: Tensor | None = None,
        node_parent: Tensor | None = None,
        segment_ids: Tensor | None = None,
        slide_features: Tensor | None = None,
        slide_mask: Tensor | None = None,
        slide_mm: Tensor | None = None,
        region_features: Tensor | None = None,
        region_mask: Tensor | None = None,
        region_mm: Tensor | None = None,
        patch_features: Tensor | None = None,
        patch_mask: Tensor | None = None,
        patch_mm: Tensor | None = None,
        cell_features: Tensor | None = None,
        cell_mask: Tensor | None = None,
        cell_xy: Tensor | None = None,
        cell_count: Tensor | None = None,
        extra_features: Tensor | None = None,
        extra_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As :meth:`HwsiModel.forward`, with the head.

        Args:
            labels: (B, T) int64, -100 where nothing is to be learned; shifted inside, as everywhere.
            logits_to_keep: the last so many positions (0: all), or which ones.

        Returns:
            ``logits`` (B, T, V) and, with labels, ``loss``: mean cross entropy over labelled tokens, or their
            sum over ``num_items_in_batch`` if a trainer gives that.
        """
        given = locals()
        inputs = {name: given[name] for name in (*TREE_INPUTS, *VISUAL_INPUTS)}
        items = kwargs.pop("num_items_in_batch", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **inputs,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            # the wrapper's own vocabulary size: the inner one is not told when embeddings are resized
            loss = self.loss_function(
                logits=logits,
                labels=labels,
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

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        # the default renumbers by the attention mask, so that left-out tokens would move all others
        segment_ids = model_kwargs.get("segment_ids")
        if segment_ids is not None:
            return segment_positions(segment_ids)
        positions: Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        return positions

    def _update_model_kwargs_for_generation(
        self,
        outputs: Any,
        model_kwargs: dict[str, Any],
        is_encoder_decoder: bool = False,
        num_new_tokens: int = 1,
    ) -> dict[str, Any]:
        # without a cache every step reads all again, the new tokens as plain text of the last segment
        for name in ("token_node", "segment_ids"):
            if (ids := model_kwargs.get(name)) is not None:
                last = ids[:, -1:].expand(-1, num_new_tokens)
                model_kwargs[name] = torch.cat([ids, last], 1)
        kwargs: dict[str, Any] = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder, num_new_tokens
        )
        return kwargs

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        position_ids: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Hand the slide to the first pass only, and only when it is not in the cache already."""
        started = past_key_values is not None and past_key_values.get_seq_length() > 0
        if started:
            for name in (*TREE_INPUTS, *VISUAL_INPUTS):
                kwargs.pop(name, None)
        inputs: dict[str, Any] = cast(Any, super()).prepare_inputs_for_generation(
            input_ids,
            past_key_values=past_key_values,
            position_ids=position_ids,
            is_first_iteration=is_first_iteration,
            **kwargs,
        )
        return inputs


def _any(given: dict[str, Any], names: tuple[str, ...]) -> bool:
    return any(given[name] is not None for name in names)


def _all_or_none(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Tensor]:
    missing = [name for name in names if given[name] is None]
    if missing:
        raise ValueError(f"inputs that belong together are incomplete: no {', '.join(missing)}")
    return {name: given[name] for name in names}
