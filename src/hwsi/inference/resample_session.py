"""A slide under study before a model with ``fusion: resample``, such as the authors' release.

- Its tokens (the release's are 64) are made of all regions at once. To see what an answer rests on, regions, then the
  patches of the leading ones, are left out where the visual part reads them, and the words are read again behind the
  tokens that come of it: exact, and one pass for each. Where no region is left there are no tokens.
- Evidence stops at patches: cells come fused, a vector for each patch. What a patch is worth, its cells are with it.
- Every region is read, however large the slide: the number of tokens does not depend on it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hwsi.features import SlideFeatures
from hwsi.inference.evidence import Bool, Float64
from hwsi.inference.padding import pad
from hwsi.inference.resample_inputs import ResampleInputs
from hwsi.inference.resting import Said, Scores
from hwsi.inference.studied import Stream, StudiedSlide
from hwsi.model.released import never_trained
from hwsi.model.resample import RESAMPLE_INPUTS, ResampleBatch
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.resample_scoring import read_tokens, score_words

if TYPE_CHECKING:
    from hwsi.slide import Slide

BATCH_TOKENS = 8_192
BATCH_REGIONS = 512
"""At most so many tokens, and regions of slides with something left out, are read at once."""

NEVER_TRAINED = (
    "The projector of this model was never trained (every LayerNorm is exactly one and zero): "
    "what it says does not rest on the slide."
)


class ResampleSession(StudiedSlide):
    """A slide before a model that reads fused regions through learned queries; see :class:`StudiedSlide`."""

    def __init__(
        self,
        model: HwsiResampleForConditionalGeneration,
        processor: HwsiResampleProcessor,
        features: SlideFeatures,
        *,
        slide: "Slide | None" = None,
        weights_sha256: str = "",
        features_path: str = "",
    ) -> None:
        self._model = model
        self._inputs = ResampleInputs(features, processor.encoders["patch"], processor.visual(features))
        self._whole = self._see(self._inputs.whole())
        self._read = read_tokens(model, self._whole[0])
        super().__init__(
            processor,
            features,
            self._inputs.nodes,
            left_out_at="encoder_input",
            told=(NEVER_TRAINED,) if never_trained(model.model.visual) else (),
            slide=slide,
            weights_sha256=weights_sha256,
            features_path=features_path,
        )

    def _say_all(self, questions: Sequence[str], max_new_tokens: int, streams: Sequence[Stream | None]) -> list[Said]:
        return self._spoken(self._read, questions, max_new_tokens, streams)

    @property
    def _slide_embeds(self) -> Tensor:
        head = self._model.lm_head.weight  # the visual part may be of another dtype
        return self._whole[0].to(head.device, head.dtype)

    def _answer_scores(self, said: Said) -> Scores:
        def scores(nodes: Bool | None) -> Float64:
            return self._score([said.question + said.ids], len(said.question), nodes)[:, 0]

        return scores

    def _option_scores(self, question: str, options: tuple[str, ...]) -> Scores:
        ids = self._processor.question(question, options)
        suffixes = [ids + self._processor.answer(option) for option in options]
        self._check_room(len(self._read) + max(map(len, suffixes)))

        def scores(nodes: Bool | None) -> Float64:
            return np.asarray(self._score(suffixes, len(ids), nodes).sum(2))

        return scores

    def _score(self, suffixes: list[list[int]], start: int, nodes: Bool | None) -> Float64:
        """Log-probabilities (B, C, L - start) of words under keep masks over nodes (see ``Scores``)."""
        ids, mask = (x.to(self._model.device) for x in pad(suffixes))
        batch = max(1, BATCH_TOKENS // (len(self._read) + ids.shape[1]))

        def scored(tokens: Tensor | None) -> Float64:
            made = score_words(self._model, tokens, ids, mask, start=start, batch_size=batch)
            return np.asarray(made.double().cpu().numpy())

        if nodes is None:
            return np.concatenate([scored(self._whole), scored(None)])
        out = np.zeros((len(nodes), len(suffixes), ids.shape[1] - start))
        seeing = np.flatnonzero(self._inputs.has_region(nodes))
        if len(seeing) < len(nodes):
            out[:] = scored(None)
        slides = max(1, BATCH_REGIONS // len(self.features.hierarchy.regions))
        for first in range(0, len(seeing), slides):
            part = seeing[first : first + slides]
            out[part] = scored(self._see(self._inputs.keeping(nodes[part])))
        return out

    @torch.inference_mode()
    def _see(self, batch: ResampleBatch) -> Tensor:
        """Tokens (B, Q, D) of slides."""
        there = {name: getattr(batch, name).to(self._model.device) for name in RESAMPLE_INPUTS}
        tokens: Tensor = self._model.model.visual(ResampleBatch(**there))
        return tokens
