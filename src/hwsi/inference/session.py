"""A slide under study: read once, asked many times.

- The slide's part of the prompt is read by the language model once and kept; a question costs only its own words.
  What is kept is never written to, so questions do not influence one another.
- :func:`study` chooses the session by the model's kind; what all of them can be asked is in ``studied.py``.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hwsi.encoding.progress import Progress
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures, read_features
from hwsi.inference.calibration import Calibration, find_calibration
from hwsi.inference.cells import carrying, reader, rows_of
from hwsi.inference.evidence import Bool, Float64
from hwsi.inference.evidence.attribution import Cells, Slopes
from hwsi.inference.key_regions import key_regions
from hwsi.inference.loading import load_model
from hwsi.inference.padding import pad
from hwsi.inference.resample_session import ResampleSession
from hwsi.inference.resting import Said, Scores
from hwsi.inference.studied import Stream, StudiedSlide
from hwsi.model.attention import SLIDE_NODE
from hwsi.model.looking import Objective, relevance
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.model.resample_model import HwsiResampleForConditionalGeneration
from hwsi.model.scoring import PrefixCache, prefill, score
from hwsi.model.visual import VISUAL_INPUTS, VisualBatch

if TYPE_CHECKING:
    from hwsi.slide import Slide

BATCH_TOKENS = 16_384
_SAME_MPP = 0.02

IMPORTED = "The features were imported without a slide: that they are of this one is known by its name and size only."
"""What answers from such features say."""


def study(
    slide: "str | Path | Slide | SlideFeatures",
    *,
    preset: str = "nano",
    out: str | Path | None = None,
    features: str | Path | None = None,
    mpp: float | None = None,
    mask: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> StudiedSlide:
    """Encode a slide, or take what was encoded before, and get ready to be asked.

    Args:
        slide: a path, an open slide, or features (then there are no pictures).
        preset: which encoders and model.
        out: job folder; the feature file is written there, and read from there if it is already whole.
        features: a feature file of this slide, instead of encoding it.
        mpp: microns per pixel of level 0, where the file does not say.
        mask: the user's own tissue mask, an image or GeoJSON.
        device: where encoders and model compute: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``: a GPU where there is one,
            but not for the embedded preset.
        progress: called with (stage, done, total).

    Errors: of opening, encoding and reading (``hwsi.errors``); weights_missing; features_mismatch.
    """
    if isinstance(slide, SlideFeatures):
        return session_of(load_model(preset, device), preset, slide)
    from hwsi.encoding import encode_slide, encode_to_file
    from hwsi.slide import Slide, open_slide

    opened = slide if isinstance(slide, Slide) else open_slide(slide, mpp=mpp)
    try:
        # a slide that cannot be opened is told at once, weights that are missing before the long work
        loaded = load_model(preset, device)
        if features is None and out is not None:
            features = encode_to_file(opened, out, preset=preset, mask=mask, device=device, progress=progress)
        if features is not None:
            made = _features_of(opened, features)
        else:
            made = encode_slide(opened, preset=preset, mask=mask, device=device, progress=progress)
        path = "" if features is None else str(features)
        return session_of(loaded, preset, made, slide=opened, features_path=path)
    except BaseException:
        if opened is not slide:
            opened.close()
        raise


class Session(StudiedSlide):
    """A slide before a model that reads the tokens of its tree (``fusion: interleave``); see :class:`StudiedSlide`."""

    _model: HwsiForConditionalGeneration

    def __init__(
        self,
        model: HwsiForConditionalGeneration,
        processor: HwsiProcessor,
        features: SlideFeatures,
        *,
        slide: "Slide | None" = None,
        weights_sha256: str = "",
        features_path: str = "",
        calibration: Calibration | None = None,
    ) -> None:
        whole = len(features.hierarchy.regions)
        all_tissue = float(features.hierarchy.regions.tissue.sum())
        features = key_regions(features, processor.encoders["region"])
        read = len(features.hierarchy.regions)
        cut = f"The slide has {whole} regions; the model read {read} that cover what they show, and labels count these."
        self._model = model
        self._slide_prefix = processor.prefix(features)
        self._prefix: PrefixCache = prefill(model, processor, self._slide_prefix)
        # every row of a pass has its own copy of the slide's cache: a long prefix is copied less often at a time
        self._batch = max(4, min(32, BATCH_TOKENS // len(self._prefix)))
        super().__init__(
            processor,
            features,
            self._prefix.layout.nodes,
            left_out_at="lm_token",
            told=(cut,) if read < whole else (),
            slide=slide,
            weights_sha256=weights_sha256,
            features_path=features_path,
            calibration=calibration,
        )
        if all_tissue > 0:
            self.looked_at = min(1.0, float(features.hierarchy.regions.tissue.sum()) / all_tissue)

    def _say_all(self, questions: Sequence[str], max_new_tokens: int, streams: Sequence[Stream | None]) -> list[Said]:
        return self._spoken(self._prefix, questions, max_new_tokens, streams)

    @cached_property
    def _slide_embeds(self) -> torch.Tensor:
        inputs = self.processor.pad([self._slide_prefix.row]).to(self._model.device)
        visual = VisualBatch(**{name: inputs[name] for name in VISUAL_INPUTS})
        with torch.inference_mode():
            embedded: torch.Tensor = self._model.model.embed(inputs["input_ids"], visual, inputs["token_node"])
        return embedded[0]

    def _answer_scores(self, said: Said) -> Scores:
        def scores(nodes: Bool | None) -> Float64:
            return self._score_answer(said, *self._hidden(nodes))

        return scores

    def _option_scores(self, question: str, options: tuple[str, ...]) -> Scores:
        ids = self._processor.question(question, options)
        answers = [self._processor.answer(option) for option in options]
        self._check_room(len(self._prefix) + len(ids) + max(map(len, answers)))
        suffixes, mask = pad([ids + a for a in answers])

        def scores(nodes: Bool | None) -> Float64:
            keep, prefix = self._hidden(nodes)
            n, c = len(keep), len(options)
            rows = suffixes.repeat(n, 1), mask.repeat(n, 1), keep.repeat_interleave(c, 0)
            token = score(self._model, prefix, *rows, batch_size=self._batch)
            return _array(token[:, len(ids) :].sum(1).reshape(n, c))

        return scores

    @property
    def model(self) -> HwsiForConditionalGeneration:
        """Who answers."""
        return self._model

    @property
    def processor(self) -> HwsiProcessor:
        """Words and slides to tokens."""
        return cast(HwsiProcessor, self._processor)

    @property
    def node_tokens(self) -> NDArray[np.int64]:
        """How many tokens (N,) of the prompt each node has."""
        return np.bincount(self._prefix.token_node.cpu().numpy(), minlength=len(self._nodes))

    def _option_slopes(self, question: str, options: tuple[str, ...], chosen: int) -> Slopes:
        ids = self._processor.question(question, options)
        suffixes, mask = pad([ids + self._processor.answer(option) for option in options])

        def odds(log_p: torch.Tensor) -> torch.Tensor:
            of = log_p[:, len(ids) :].sum(1).reshape(-1, len(options))
            others = torch.cat([of[:, :chosen], of[:, chosen + 1 :]], 1).logsumexp(1)
            return (of[:, chosen] - others)[:, None]

        return self._slopes(suffixes, mask, odds)

    def _answer_slopes(self, said: Said, members: Bool) -> Slopes:
        suffix = torch.tensor([said.question + said.ids])
        shares = torch.from_numpy(members / np.maximum(members.sum(1, keepdims=True), 1)).float()

        def units(log_p: torch.Tensor) -> torch.Tensor:
            return log_p[:, len(said.question) :] @ shares.T.to(log_p.device)

        return self._slopes(suffix, torch.ones_like(suffix, dtype=torch.bool), units)

    def _option_cells(self, question: str, options: tuple[str, ...], chosen: int) -> Cells:
        ids = self._processor.question(question, options)
        suffixes, mask = pad([ids + self._processor.answer(option) for option in options])

        def odds(log_p: torch.Tensor) -> torch.Tensor:
            of = log_p[:, :, len(ids) :].sum(2)
            return of[:, chosen] - torch.cat([of[:, :chosen], of[:, chosen + 1 :]], 1).logsumexp(1)

        def cells(node: int) -> NDArray[np.int64]:
            k, read = reader(self._model, self._slide_prefix, node, suffixes, mask, odds)
            rows = rows_of(self.features.hierarchy, self._nodes[node].index, k)
            return rows[carrying(read, self.features.hierarchy.cells.type[rows])]

        return cells

    def _slopes(self, rows: torch.Tensor, mask: torch.Tensor, objective: Objective) -> Slopes:
        """What the objective makes of the rows, repeated for each keep mask, and the nodes' relevance to it."""

        def slopes(nodes: Bool) -> tuple[Float64, Float64]:
            keep, prefix = self._hidden(nodes)
            values, total, step = [], torch.zeros(1), max(1, self._batch // len(rows))
            for start in range(0, len(keep), step):
                some = keep[start : start + step]
                several = (rows.repeat(len(some), 1), mask.repeat(len(some), 1), some.repeat_interleave(len(rows), 0))
                value, found = relevance(self._model, prefix, *several, objective)
                values.append(value)
                total = total + found
            of_node = torch.zeros(len(total), len(self._nodes)).index_add_(1, prefix.token_node.cpu(), total)
            return _array(torch.cat(values)), _array(of_node / len(keep))

        return slopes

    @cached_property
    def _parts(self) -> PrefixCache:
        """The slide read without its own token: what evidence is measured on (``evidence.py`` says why)."""
        return prefill(self._model, self._processor, self._slide_prefix, hidden=[SLIDE_NODE])

    def _score_answer(self, said: Said, keep: torch.Tensor, prefix: PrefixCache | None = None) -> Float64:
        """Log-probabilities (B, T) of the answer's tokens under keep masks (B, P)."""
        suffix = torch.tensor([said.question + said.ids])
        token = score(self._model, prefix or self._prefix, suffix, None, keep, batch_size=self._batch)
        return _array(token[:, len(said.question) :])

    def _hidden(self, nodes: Bool | None) -> tuple[torch.Tensor, PrefixCache]:
        """Keep masks over prefix tokens (B, P), and of which prefix, for keep masks over nodes (see ``Scores``)."""
        if nodes is None:
            return torch.stack([self._everything, self._prefix.without_slide()]), self._prefix
        node = self._prefix.token_node.cpu()
        return torch.from_numpy(nodes)[:, node] & (node != SLIDE_NODE), self._parts

    @property
    def _everything(self) -> torch.Tensor:
        return torch.ones(len(self._prefix), dtype=torch.bool)


def _features_of(slide: "Slide", path: str | Path) -> SlideFeatures:
    """The features in a file, seen to be of this slide; those imported without a slide know only its name and sizes."""
    made = read_features(path)
    if made.slide_id == slide.slide_id:
        return made
    tree = made.hierarchy
    inside = bool((tree.regions.xy < (slide.width0, slide.height0)).all())
    same_mpp = abs(tree.mpp / slide.mpp - 1) < _SAME_MPP
    if made.slide_id or made.slide_name != slide.name or not inside or not same_mpp:
        what = f"{path} holds features of another slide ({made.slide_name})"
        raise HwsiError(Reason.FEATURES_MISMATCH, what, "hand in the feature file of this slide, or encode it")
    return replace(
        made,
        hierarchy=replace(tree, width0=slide.width0, height0=slide.height0),
        warnings=(*made.warnings, IMPORTED),
    )


def session_of(loaded: tuple[Any, Any, str], preset: str, features: SlideFeatures, **about: Any) -> StudiedSlide:
    """The session that fits the model's kind."""
    model, processor, sha = loaded
    if isinstance(model, HwsiResampleForConditionalGeneration):
        return ResampleSession(model, processor, features, weights_sha256=sha, **about)
    known = find_calibration(preset, sha)
    return Session(model, processor, features, weights_sha256=sha, calibration=known, **about)


def _array(x: torch.Tensor) -> Float64:
    return np.asarray(x.double().cpu().numpy())
