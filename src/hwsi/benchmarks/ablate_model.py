"""The model of the ablation: nano's parts over fixed patch and cell features, with only some scales in the prompt.

- Region and slide encoder, CCAF, projectors and text tower are trained from scratch, and with them a small language
  model that can read, each variant its own. Patch and cell vectors are fixed and shared.
- A region's vector is made of its patches' vectors alone: what is known of cells reaches the language model through
  cell tokens or not at all. (The slide's is made of regions, also where regions have no token of their own.)
- Answers and alignment are trained on the same batch of slides.

Notation: B slides, R regions, P kept patches of a slide (padded), E alignment width, D width of the language model.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen2Config

from hwsi.benchmarks.ablate_variants import SCALES, Variant
from hwsi.encoders.nano import PATCH
from hwsi.encoders.region_nano import RegionNano
from hwsi.encoders.slide_nano import SlideNano
from hwsi.encoders.text_nano import TextNano, train_tokenizer
from hwsi.features import SlideFeatures
from hwsi.model.config import PLACEHOLDERS, HwsiConfig, placeholder_ids
from hwsi.model.config import SCALES as _ALL
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.nano import nano_config
from hwsi.model.processor import HwsiProcessor, SlidePrefix
from hwsi.model.prompt import Layout, keep_patches, lay_out
from hwsi.model.rows import Row
from hwsi.model.slide_inputs import slide_inputs
from hwsi.model.visual import VISUAL_INPUTS, VisualBatch
from hwsi.training.nano.context import Example
from hwsi.training.objectives.consistency import consistency, total
from hwsi.training.objectives.contrast import LEVELS, AlignBatch, contrast
from hwsi.training.objectives.units import ReportUnits

E = 128
_TREE = ("token_node", "node_parent", "segment_ids")
_LAYERS, _HIDDEN = 3, 192
KEPT = 8
"""Patches of a region in the prompt."""


class ScaledProcessor(HwsiProcessor):
    """A processor that puts only some scales into the prompt."""

    def of_scales(self, slide: SlideFeatures, scales: Sequence[str], relevance: Any = None) -> SlidePrefix:
        """A slide's prefix with the tokens of ``scales``; ``relevance`` (N,) decides which patches stand there."""
        arrays = self._arrays(slide)
        k = KEPT if "patch" in scales or "cell" in scales else 0
        kept = keep_patches(slide.hierarchy, arrays["patch"], k, relevance)
        layout = only_scales(lay_out(slide.hierarchy, kept), scales)
        return self.laid_out(layout, slide_inputs(slide.hierarchy, arrays, kept, self.max_cells), self.system)


def only_scales(layout: Layout, scales: Sequence[str]) -> Layout:
    """The layout without the tokens of other scales; a label stands where something of its node or below does.

    Without regions a patch is called by its whole name (``R3.P7``), since nobody names its region before it.
    """
    off = {PLACEHOLDERS[s] for s in _ALL if s not in scales}
    pieces = []
    for text, node in layout.pieces:
        of = layout.nodes[node]
        if text in off or of.scale not in scales:
            continue
        is_label = text not in PLACEHOLDERS.values()
        pieces.append((of.label if is_label and "region" not in scales else text, node))
    return Layout(layout.nodes, tuple(pieces), layout.patches)


def build_processor(tokenizer: PreTrainedTokenizerFast, mixing: str = "hier") -> tuple[HwsiConfig, ScaledProcessor]:
    """The configuration of the language model and visual part, and its processor."""
    config = nano_config(tokenizer)
    small: dict[str, Any] = config.text_config.to_dict() | {
        "hidden_size": _HIDDEN, "intermediate_size": 2 * _HIDDEN, "num_hidden_layers": _LAYERS,
        "layer_types": None, "head_dim": _HIDDEN // config.text_config.num_attention_heads,
    }  # fmt: skip
    visual = config.visual_config.to_dict() | {"width": _HIDDEN}
    config = HwsiConfig(
        text_config=Qwen2Config(**small), visual_config=visual, fusion="interleave", visual_mixing=mixing,
        kept_patches=KEPT, placeholder_ids=placeholder_ids(tokenizer),
    )  # fmt: skip
    return config, ScaledProcessor.for_model(config, tokenizer)  # type: ignore[return-value]


@dataclass(frozen=True)
class Seen:
    """A slide as one visit sees it.

    Attributes:
        row: of the processor, prefix and questions. context: patches, places and tissue for region and slide encoder.
        order: (R,) int64, region of ``context`` that stands at each place of the row.
        parent: (P,) int64, region (place in the row) of each kept patch.
    """

    row: Row
    context: Example
    order: Tensor
    parent: Tensor


class AblationModel(nn.Module):
    """Everything that a variant trains."""

    def __init__(self, variant: Variant, config: HwsiConfig, texts: Sequence[str], seed: int) -> None:
        super().__init__()
        self.variant = variant
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.region, self.slide = RegionNano(), SlideNano()
            self.language = HwsiForConditionalGeneration(config)
            dims = {**config.visual_config.dims, "cell": config.visual_config.ccaf_width}
            self.heads = nn.ModuleDict({scale: nn.Linear(dims[scale], E) for scale in SCALES})
            self.text = TextNano(train_tokenizer(texts))
            self.text_heads = nn.ModuleDict({level: nn.Linear(192, E) for level in LEVELS.values()})
        self.ids = config.placeholder_ids

    def contexts(self, batch: Sequence[Seen]) -> tuple[list[Tensor], Tensor]:
        """Region vectors of each slide in the row's order, (R, 192) each, and slide vectors (B, 192)."""
        at = self.region.cls.device
        patches = torch.cat([s.context.patches for s in batch]).to(at)
        vectors = patches.clone()
        vectors[..., PATCH.dim :] = 0  # regions are made of patch vectors alone
        mask, row_col = (torch.cat([getattr(s.context, n) for s in batch]).to(at) for n in ("mask", "row_col"))
        regions = self.region(vectors, mask, row_col)
        tissue = torch.cat([s.context.tissue for s in batch]).to(at)
        sizes = [len(s.context.mm) for s in batch]
        seen = nn.utils.rnn.pad_sequence(list(torch.cat([regions, tissue], 1).split(sizes)), batch_first=True)
        mm = nn.utils.rnn.pad_sequence([s.context.mm for s in batch], batch_first=True).to(at)
        present = torch.arange(max(sizes), device=at) < torch.tensor(sizes, device=at)[:, None]
        slides = self.slide(seen, present, mm)
        of_slide = [r[s.order.to(at)] for r, s in zip(regions.split(sizes), batch, strict=True)]
        return of_slide, slides

    def read(self, batch: dict[str, Tensor], seen: Sequence[Seen]) -> tuple[Tensor, dict[str, Tensor], VisualBatch]:
        """Last hidden states (B, T, D), what each scale's projector read (n, dim), and the visual inputs."""
        regions, slides = self.contexts(seen)
        visual = VisualBatch(**{name: batch[name] for name in VISUAL_INPUTS} | {
            "slide_features": slides,
            "region_features": nn.utils.rnn.pad_sequence(regions, batch_first=True),
        })  # fmt: skip
        part = self.language.model.visual
        patches = visual.patch_mask
        given: dict[str, tuple[Tensor, Tensor]] = {
            "slide": (visual.slide_features, visual.slide_mm),
            "region": (visual.region_features[visual.region_mask], visual.region_mm[visual.region_mask]),
            "patch": (visual.patch_features[patches], visual.patch_mm[patches]),
        }
        if "cell" in self.variant.scales:
            cells = part.ccaf(
                visual.cell_features[patches], visual.cell_mask[patches], visual.cell_xy[patches],
                visual.cell_count[patches],
            )  # fmt: skip
            given["cell"] = (cells, visual.patch_mm[patches])
        words = self.language.get_input_embeddings()(batch["input_ids"])
        for scale in self.variant.scales:
            vectors, mm = given[scale]
            tokens = part.projectors[scale](vectors) + part.scale_embedding.weight[_ALL.index(scale)] + part.place(mm)
            here = (batch["input_ids"] == self.ids[scale])[..., None]
            words = words.masked_scatter(here, tokens.to(words.dtype))
        tree = {name: batch[name] for name in _TREE}
        states = self.language.model(
            inputs_embeds=words, attention_mask=batch["attention_mask"], position_ids=batch["position_ids"],
            use_cache=False, **tree,
        ).last_hidden_state  # fmt: skip
        return states, {scale: vectors for scale, (vectors, _) in given.items()}, visual

    def hca(
        self, vectors: dict[str, Tensor], visual: VisualBatch, seen: Sequence[Seen], units: Sequence[ReportUnits]
    ) -> tuple[Tensor, dict[str, float]]:
        """The parts of L_HCA that the variant trains, over its own scales, and their values."""
        z, z_mask = {}, {}
        for scale in SCALES:
            mask = visual.present(scale)
            on = scale in self.variant.scales
            z_mask[scale] = mask if on else torch.zeros_like(mask)
            out = vectors[scale].new_zeros(*mask.shape, E) if on else visual.slide_features.new_zeros(*mask.shape, E)
            if on:
                out = out.masked_scatter(mask[..., None], F.normalize(self.heads[scale](vectors[scale]), dim=-1))
            z[scale] = out
        t, t_mask = self.words(units)
        at = visual.slide_mask.device
        of_region = nn.utils.rnn.pad_sequence([s.parent for s in seen], batch_first=True, padding_value=-1).to(at)
        number = torch.arange(of_region.shape[1], device=at).expand_as(of_region)
        parent = {
            "region": torch.where(visual.region_mask, 0, -1),
            "patch": of_region,
            "cell": torch.where(visual.patch_mask, number, -1),
        }
        known = {r: i for i, r in enumerate(dict.fromkeys(u.paragraph for u in units))}
        report = torch.tensor([known[u.paragraph] for u in units], device=at)
        batch = AlignBatch(z, z_mask, t, t_mask, parent, report)
        losses: dict[str, Tensor] = {}
        if self.variant.contrast and len(known) > 1:
            losses |= contrast(batch, pairing=self.variant.pairing, temperature=TEMPERATURE)
        if self.variant.consistency:
            losses["consistency"] = total(consistency(batch))
        if not losses:
            return visual.slide_features.sum() * 0, {}
        return torch.stack(list(losses.values())).sum(), {k: float(v.detach()) for k, v in losses.items()}

    def words(self, units: Sequence[ReportUnits]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Level -> (B, U, E) unit rows and (B, U) mask of the units of each report."""
        of: dict[str, list[tuple[str, ...]]] = {
            "word": [u.words for u in units], "phrase": [u.phrases for u in units],
            "sentence": [u.sentences for u in units], "paragraph": [(u.paragraph,) for u in units],
        }  # fmt: skip
        t, t_mask = {}, {}
        at = self.text.token.weight.device
        for level, rows in of.items():  # one after the other: words would be padded to the length of paragraphs
            index = {text: i for i, text in enumerate(dict.fromkeys(text for row in rows for text in row))}
            ids, mask = self.text.tokenise(list(index))
            known = F.normalize(self.text_heads[level](self.text(ids.to(at), mask.to(at))), dim=-1)
            numbers = [torch.tensor([index[text] for text in row], dtype=torch.int64, device=at) for row in rows]
            padded = nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=-1)
            t[level], t_mask[level] = known[padded.clamp(min=0)], padded >= 0
        return t, t_mask


TEMPERATURE = 0.07
"""Of the contrast: the paper's 0.02 is for batches of hundreds of slides, here there are a few."""
