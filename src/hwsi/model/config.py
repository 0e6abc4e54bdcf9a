"""Configuration of the model: what four encoders hand over, how it is projected, what reads it.

- A plain Hugging Face config: it nests any causal language model's config (``text_config``) and ours of the
  visual part (``visual_config``), and round-trips through ``save_pretrained`` and ``AutoConfig``.
- ``visual_mixing`` decides what a visual token may see inside the language model; see ``attention.py``.
- ``extra`` names further scales: vectors of the whole slide that no tissue gives (the expression of genes, a blood
  count), each with a projector and a token of its own.
- ``fusion`` has two kinds: ``interleave`` (:class:`HwsiConfig`) and ``resample`` (:class:`HwsiResampleConfig`), the
  released model's. They share the four scales and the language model and little else, so each has its own config.
- Numbers that training depends on are written out, nothing is derived from a name.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

import re
from collections.abc import Iterable
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from hwsi.errors import HwsiError, Reason
from hwsi.features.released import ENCODERS as RELEASED_ENCODERS

SCALES = ("slide", "region", "patch", "cell")
"""The four scales, from the root of the tree to its leaves."""

PLACEHOLDERS = {"slide": "<|wsi|>", "region": "<|region|>", "patch": "<|patch|>", "cell": "<|cell|>"}
"""The token that stands in a prompt where the visual token of a scale goes."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")

MIXING = ("none", "hier", "full")
PROJECTORS = ("mlp", "linear")


def placeholders(extra: Iterable[str] = ()) -> dict[str, str]:
    """Scale -> its placeholder, of the four and of further ones."""
    return PLACEHOLDERS | {name: f"<|{name}|>" for name in extra}


def placeholder_ids(tokenizer: Any, extra: Iterable[str] = ()) -> dict[str, int]:
    """Scale -> id of its placeholder in a tokenizer. Raises HwsiError(WEIGHTS_MISMATCH) where it has none."""
    tokens = placeholders(extra)
    ids = {scale: tokenizer.convert_tokens_to_ids(token) for scale, token in tokens.items()}
    unknown = [tokens[s] for s, i in ids.items() if i is None or i == tokenizer.unk_token_id]
    if unknown:
        raise HwsiError(
            Reason.WEIGHTS_MISMATCH,
            f"the tokenizer has no token {', '.join(unknown)}",
            "use the tokenizer that was saved with the model",
        )
    return ids


class HwsiVisualConfig(PretrainedConfig):
    """The visual part: features of four encoders in, tokens of the language model's width out.

    Args:
        encoders: scale -> id of the encoder (``hwsi.encoders``) whose features are read from a slide.
        dims: scale -> width of that encoder's features.
        ccaf_width, ccaf_blocks, ccaf_heads: the cell-cell attention fusion (paper: 768, 2, 2).
        max_cells: at most so many cells of a patch are fused (evenly thinned beyond; their number is kept).
        fourier_bands: octaves of the embedding of a centre; band b has the wavelength ``fourier_min_mm *
            2**b``.
        fourier_min_mm: the shortest wavelength; twice the patch pitch resolves neighbours (Nyquist).
        width: of the tokens handed over; :class:`HwsiConfig` sets it to the language model's.
        extra: further scale -> width; its vector stands among those of the slide (``SlideFeatures.slide``), or not.
    """

    model_type = "hwsi_visual"

    def __init__(
        self,
        encoders: dict[str, str] | None = None,
        dims: dict[str, int] | None = None,
        ccaf_width: int = 96,
        ccaf_blocks: int = 2,
        ccaf_heads: int = 2,
        max_cells: int = 256,
        fourier_bands: int = 9,
        fourier_min_mm: float = 0.256,
        width: int = 256,
        extra: dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.extra = dict(sorted((extra or {}).items()))  # a saved config is sorted, so this is the order of all
        self.encoders = encoders or {scale: f"{scale}-nano" for scale in SCALES}
        self.dims = dims or {"slide": 192, "region": 192, "patch": 192, "cell": 64}
        self.ccaf_width = ccaf_width
        self.ccaf_blocks = ccaf_blocks
        self.ccaf_heads = ccaf_heads
        self.max_cells = max_cells
        self.fourier_bands = fourier_bands
        self.fourier_min_mm = fourier_min_mm
        self.width = width
        for name in ("encoders", "dims"):
            if set(getattr(self, name)) != set(SCALES):
                raise HwsiError(
                    Reason.OPTION_INVALID,
                    f"visual_config.{name} has the scales {sorted(getattr(self, name))}, not {list(SCALES)}",
                    "name one encoder and one width for each of the four scales",
                )
        strange = [n for n in self.extra if not _NAME.fullmatch(n) or placeholders([n])[n] in PLACEHOLDERS.values()]
        if strange or any(width < 1 for width in self.extra.values()):
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"visual_config.extra is {self.extra}",
                "name each further scale in small letters, none like one of the four, and give its width",
            )
        if ccaf_width % ccaf_heads:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"ccaf_width {ccaf_width} is not a multiple of ccaf_heads {ccaf_heads}",
                "choose a width that the heads divide",
            )
        super().__init__(**kwargs)

    @property
    def scales(self) -> tuple[str, ...]:
        """All that have tokens: the four, and the further ones."""
        return (*SCALES, *self.extra)


class HwsiConfig(PretrainedConfig):
    """The whole model.

    Args:
        text_config: config (or its dict) of any causal language model with full attention in every layer.
        visual_config: :class:`HwsiVisualConfig` or its dict.
        fusion: ``interleave``, the paper's: tokens of the four scales stand in the prompt.
        visual_mixing: what a visual token sees inside the language model besides the plain text before it:
            ``none`` its own node, ``hier`` also its ancestors, ``full`` everything before it.
        kept_patches: at most so many patches of a region stand in the prompt.
        placeholder_ids: scale -> id of its placeholder token in the tokenizer.
        token_norm: length that visual tokens are brought to before the language model; 0 leaves them as they come,
            which is right for one that learned to read elsewhere.
        label_scale: so many times the words of its label are added to the token of a region or patch; 0 adds nothing.
            A language model that begins with random weights finds the token behind a label only if the token has
            something of the label in it, and is not so much longer than a word that whatever is added to it is lost.
    """

    model_type = "hwsi"
    sub_configs = {"text_config": AutoConfig, "visual_config": HwsiVisualConfig}  # noqa: RUF012

    def __init__(
        self,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        visual_config: HwsiVisualConfig | dict[str, Any] | None = None,
        fusion: str = "interleave",
        visual_mixing: str = "hier",
        kept_patches: int = 8,
        placeholder_ids: dict[str, int] | None = None,
        token_norm: float = 0.0,
        label_scale: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if text_config is None:
            text_config = {"model_type": "qwen2"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        if visual_config is None:
            visual_config = {}
        if isinstance(visual_config, dict):
            visual_config = HwsiVisualConfig(**visual_config)
        self.text_config: Any = text_config
        self.visual_config = visual_config
        self.visual_config.width = text_config.hidden_size
        self.fusion = fusion
        self.visual_mixing = visual_mixing
        self.kept_patches = kept_patches
        self.token_norm = token_norm
        self.label_scale = label_scale
        self.placeholder_ids = placeholder_ids or {scale: i for i, scale in enumerate(visual_config.scales)}
        # the wrapper owns the head, so it must know whether that is the embedding
        kwargs["tie_word_embeddings"] = bool(getattr(text_config, "tie_word_embeddings", False))
        for token in ("pad_token_id", "bos_token_id", "eos_token_id"):
            kwargs.setdefault(token, getattr(text_config, token, None))
        super().__init__(**kwargs)
        self._check()

    def _check(self) -> None:
        if self.fusion != "interleave":
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"fusion '{self.fusion}' is not what this configuration describes",
                "use fusion 'interleave', or HwsiResampleConfig for the released model's 'resample'",
            )
        if self.visual_mixing not in MIXING:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"visual_mixing '{self.visual_mixing}' is unknown",
                f"use one of {', '.join(MIXING)}",
            )
        if self.kept_patches < 1:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"kept_patches is {self.kept_patches}",
                "keep at least 1 patch per region",
            )
        scales = self.visual_config.scales
        if set(self.placeholder_ids) != set(scales) or len(set(self.placeholder_ids.values())) != len(scales):
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"placeholder_ids {self.placeholder_ids} do not name {len(scales)} different tokens",
                f"give one token id for each of {', '.join(scales)}",
            )
        # our mask is handed to every layer as it is: a layer with a window of its own would silently lose it
        layers = getattr(self.text_config, "layer_types", None)
        windowed = (
            any(kind != "full_attention" for kind in layers)
            if layers is not None
            else bool(getattr(self.text_config, "sliding_window", None))
        )
        if windowed:
            raise HwsiError(
                Reason.OPTION_INVALID,
                f"language model '{self.text_config.model_type}' has layers without full attention",
                "use a language model with full causal attention in every layer",
            )


class HwsiResampleConfig(PretrainedConfig):
    """The released model: fused regions, read by learned queries whose tokens stand before the words.

    Args:
        text_config: config (or its dict) of any causal language model; its width is that of the tokens.
        encoders: scale -> id of the encoder whose features are read; ``cell`` is a vector per patch, its fused cells.
        dims: scale -> width of these features.
        fusion: ``resample``.
        projector: ``mlp`` (two layers) or ``linear`` (one), each behind a LayerNorm.
        hidden: width inside an ``mlp`` projector.
        queries: how many tokens the language model gets. heads: of the attention that fills them.
        dropout: in training, inside projectors, fusion and resampler.
    """

    model_type = "hwsi_resample"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        encoders: dict[str, str] | None = None,
        dims: dict[str, int] | None = None,
        fusion: str = "resample",
        projector: str = "mlp",
        hidden: int = 1024,
        queries: int = 64,
        heads: int = 8,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if text_config is None:
            text_config = {"model_type": "qwen2"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config: Any = text_config
        self.encoders = encoders or dict(RELEASED_ENCODERS)
        self.dims = dims or {"slide": 192, "region": 192, "patch": 512, "cell": 384}
        self.fusion = fusion
        self.projector = projector
        self.hidden = hidden
        self.queries = queries
        self.heads = heads
        self.dropout = dropout
        kwargs["tie_word_embeddings"] = bool(getattr(text_config, "tie_word_embeddings", False))
        for token in ("pad_token_id", "bos_token_id", "eos_token_id"):
            kwargs.setdefault(token, getattr(text_config, token, None))
        super().__init__(**kwargs)
        width = text_config.hidden_size
        for wrong, what, todo in (
            (fusion != "resample", f"fusion '{fusion}'", "use HwsiConfig for 'interleave'"),
            (projector not in PROJECTORS, f"projector '{projector}'", f"use one of {', '.join(PROJECTORS)}"),
            (set(self.dims) != set(SCALES), f"dims of {sorted(self.dims)}", f"give one for each of {list(SCALES)}"),
            (queries < 1, f"{queries} queries", "use at least 1"),
            (width % heads, f"{heads} heads for a width of {width}", "choose heads that divide it"),
        ):
            if wrong:
                raise HwsiError(Reason.OPTION_INVALID, f"a resampling model cannot have {what}", todo)
