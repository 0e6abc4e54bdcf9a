"""A slide under study: read once, asked many times.

- The slide's part of the prompt is read by the language model once and kept; a question costs only its own words.
  What is kept is never written to, so questions do not influence one another.
- Deterministic: greedy words, float32, no random number anywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray

from hwsi import __version__
from hwsi.encoding.progress import Progress
from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures, read_features
from hwsi.hierarchy.labels import region_label
from hwsi.inference.answer import Answer, Evidence, Provenance
from hwsi.inference.closed import log_odds, option_probs
from hwsi.inference.evidence import Bool, Float64, Worth, weigh
from hwsi.inference.key_regions import key_regions
from hwsi.inference.loading import load_model
from hwsi.inference.questions import check_choices, check_question
from hwsi.inference.report import Report, Statement, citations, sentences
from hwsi.inference.streaming import Pieces, speak, token_ends
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.inference.tissue import EvidenceMaker, quality_warnings
from hwsi.model.attention import SLIDE_NODE
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.model.scoring import PrefixCache, prefill, score

if TYPE_CHECKING:
    from hwsi.slide import Slide

MAX_NEW_TOKENS = 96
REPORT_TOKENS = 320
MAX_EVIDENCE = 8
SENTENCE_EVIDENCE = 3
BATCH_TOKENS = 16_384

Stream = Callable[[str], None]

PRESET_WARNINGS = {
    "nano": "The embedded model 'nano' was trained on synthetic tissue only; on real tissue its words mean nothing. "
    "Research use; not a diagnosis.",
}
"""What every answer of a preset must say."""


@dataclass(frozen=True)
class _Said:
    """Words of the model: (q,) question ids, (T,) answer ids with the end token if it came, and the text."""

    question: list[int]
    ids: list[int]
    text: str


def study(
    slide: "str | Path | Slide | SlideFeatures",
    *,
    preset: str = "nano",
    out: str | Path | None = None,
    features: str | Path | None = None,
    mpp: float | None = None,
    mask: str | Path | None = None,
    progress: Progress | None = None,
) -> "Session":
    """Encode a slide, or take what was encoded before, and get ready to be asked.

    Args:
        slide: a path, an open slide, or features (then there are no pictures).
        preset: which encoders and model.
        out: job folder; the feature file is written there, and read from there if it is already whole.
        features: a feature file of this slide, instead of encoding it.
        mpp: microns per pixel of level 0, where the file does not say.
        mask: the user's own tissue mask, an image or GeoJSON.
        progress: called with (stage, done, total).

    Errors: of opening, encoding and reading (``hwsi.errors``); weights_missing; features_mismatch.
    """
    if isinstance(slide, SlideFeatures):
        model, processor, sha = load_model(preset)
        return Session(model, processor, slide, weights_sha256=sha)
    from hwsi.encoding import encode_slide, encode_to_file
    from hwsi.slide import Slide, open_slide

    opened = slide if isinstance(slide, Slide) else open_slide(slide, mpp=mpp)
    try:
        # a slide that cannot be opened is told at once, weights that are missing before the long work
        model, processor, sha = load_model(preset)
        if features is None and out is not None:
            features = encode_to_file(opened, out, preset=preset, mask=mask, progress=progress)
        if features is not None:
            made = read_features(features, slide_id=opened.slide_id)
        else:
            made = encode_slide(opened, preset=preset, mask=mask, progress=progress)
        path = "" if features is None else str(features)
        return Session(model, processor, made, slide=opened, weights_sha256=sha, features_path=path)
    except BaseException:
        if opened is not slide:
            opened.close()
        raise


class Session:
    """One slide, ready to be asked; made by :func:`study`.

    Attributes:
        features: what was encoded, of a large slide its key regions.
        slide: the open slide, None if the session was made from features alone.
        warnings: what every answer about this slide must say.
        kept_patches: rows of the patches that the language model sees.
    """

    def __init__(
        self,
        model: HwsiForConditionalGeneration,
        processor: HwsiProcessor,
        features: SlideFeatures,
        *,
        slide: "Slide | None" = None,
        weights_sha256: str = "",
        features_path: str = "",
    ) -> None:
        whole = len(features.hierarchy.regions)
        features = key_regions(features, processor.encoders["region"])
        read = len(features.hierarchy.regions)
        self.features = features
        self.slide = slide
        self._model, self._processor = model, processor
        self._slide_prefix = processor.prefix(features)
        self._prefix: PrefixCache = prefill(model, processor, self._slide_prefix)
        # every row of a pass has its own copy of the slide's cache: a long prefix is copied less often at a time
        self._batch = max(4, min(32, BATCH_TOKENS // len(self._prefix)))
        self._tissue = EvidenceMaker(features.hierarchy, self._prefix.layout.nodes)
        self.kept_patches: tuple[int, ...] = tuple(int(n) for n in self._prefix.layout.patches)
        grid = features.hierarchy.regions.grid
        self._regions = {(int(row), int(col)): region_label(r) for r, (row, col) in enumerate(grid)}
        own = PRESET_WARNINGS.get(features.preset)
        cut = f"The slide has {whole} regions; the model read {read} that cover what they show, and labels count these."
        self.warnings: tuple[str, ...] = (
            *((own,) if own else ()),
            *((cut,) if read < whole else ()),
            *features.warnings,
            *quality_warnings(features.hierarchy),
        )
        self.provenance = Provenance(
            model=f"hwsi-{features.preset}",
            weights_sha256=weights_sha256,
            preset=features.preset,
            slide=features.slide_name,
            slide_id=features.slide_id,
            features=features_path,
            seed=0,
            hwsi_version=__version__,
        )

    # --- asking -------------------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        evidence: bool = True,
        max_new_tokens: int = MAX_NEW_TOKENS,
        stream: Stream | None = None,
    ) -> Answer:
        """Answer one question.

        Args:
            question: in words.
            choices: options of a closed question; the likeliest is the answer.
            evidence: whether to measure what the answer rests on (most of the time of a question).
            max_new_tokens: an open answer ends there if it has not ended before.
            stream: called with each piece of the text as it comes; the pieces join to ``text``.

        Errors: question_empty, question_too_long, question_invalid.
        """
        question, options = check_question(question), check_choices(choices)
        if options:
            return self._closed(question, options, evidence=evidence, stream=stream)
        return self._open(question, evidence=evidence, max_new_tokens=max_new_tokens, stream=stream)

    def caption(self, *, evidence: bool = True, stream: Stream | None = None) -> Answer:
        """The slide in one sentence."""
        return self._open(CAPTION_PROMPT, evidence=evidence, max_new_tokens=MAX_NEW_TOKENS, stream=stream)

    def report(self, *, evidence: bool = True, stream: Stream | None = None) -> Report:
        """The slide in a paragraph, each sentence with the labels that it cites and the tissue that it rests on."""
        said = self._say(REPORT_PROMPT, REPORT_TOKENS, stream)
        spans = sentences(said.text)
        unit = _units(token_ends(self._processor, said.ids), spans)
        members = np.stack([unit == u for u in range(len(spans))]) if spans else np.zeros((0, len(unit)), bool)
        seen, blind = self._seen_and_blind(said)
        worth = self._worth(said, members, lead=2) if evidence and spans else None
        known = self._tissue.labels
        statements = []
        for u, (start, end) in enumerate(spans):
            text, mine = said.text[start:end], members[u]
            cites, missing = citations(text, known)
            statements.append(
                Statement(
                    text=text,
                    cites=cites,
                    missing=missing,
                    rests_on=self._rests_on(worth, u, cites),
                    evidence=self._evidence(worth, u, text, SENTENCE_EVIDENCE),
                    visual_reliance=_mean(seen[mine] - blind[mine]),
                    confidence=float(np.exp(_mean(seen[mine]))),
                )
            )
        return Report(
            text=said.text,
            statements=tuple(statements),
            visual_reliance=_mean(seen - blind),
            confidence=float(np.exp(_mean(seen))),
            provenance=self.provenance,
            warnings=self.warnings,
        )

    def _open(self, question: str, *, evidence: bool, max_new_tokens: int, stream: Stream | None) -> Answer:
        said = self._say(question, max_new_tokens, stream)
        seen, blind = self._seen_and_blind(said)
        worth = self._worth(said, np.ones((1, len(said.ids)), bool)) if evidence else None
        _, missing = citations(said.text, self._tissue.labels)
        named = tuple(f"The answer cites {label}, which this slide does not have." for label in missing)
        return Answer(
            question=question,
            text=said.text,
            evidence=self._evidence(worth, 0, said.text, MAX_EVIDENCE),
            visual_reliance=_mean(seen - blind),
            confidence=float(np.exp(_mean(seen))),
            provenance=self.provenance,
            warnings=(*self.warnings, *named),
        )

    def choice_log_probs(self, question: str, choices: Sequence[str]) -> tuple[Float64, Float64]:
        """Summed log-probabilities of each option with its end token: with the slide (C,), and without it (C,).

        Errors: as of :meth:`ask`.
        """
        scored = self._options(check_question(question), check_choices(choices))
        seen, blind = scored(torch.stack([self._everything, self._prefix.without_slide()]))
        return seen, blind

    def _closed(self, question: str, options: tuple[str, ...], *, evidence: bool, stream: Stream | None) -> Answer:
        scored = self._options(question, options)
        seen, blind = scored(torch.stack([self._everything, self._prefix.without_slide()]))
        probs = option_probs(seen)
        chosen = int(probs.argmax())
        text = options[chosen]
        if stream is not None:
            stream(text)
        worth = None
        if evidence:
            worth = weigh(self._parents, lambda m: log_odds(scored(self._tokens(m), self._parts), chosen)[:, None])
        length = len(self._processor.answer(text))
        return Answer(
            question=question,
            text=text,
            evidence=self._evidence(worth, 0, text, MAX_EVIDENCE),
            visual_reliance=float((seen[chosen] - blind[chosen]) / length),
            confidence=float(probs[chosen]),
            provenance=self.provenance,
            choices=options,
            choice_probs=tuple(float(p) for p in probs),
            warnings=self.warnings,
        )

    def _options(self, question: str, options: tuple[str, ...]) -> Callable[..., Float64]:
        """What scores the options: keep masks (B, P) over prefix tokens -> summed log-probabilities (B, C)."""
        ids = self._processor.question(question, options)
        answers = [self._processor.answer(option) for option in options]
        self._check_room(len(ids) + max(map(len, answers)))
        suffixes, mask = _pad([ids + a for a in answers])

        def scored(keep: torch.Tensor, prefix: PrefixCache = self._prefix) -> Float64:
            n, c = len(keep), len(options)
            rows = suffixes.repeat(n, 1), mask.repeat(n, 1), keep.repeat_interleave(c, 0)
            token = score(self._model, prefix, *rows, batch_size=self._batch)
            return _array(token[:, len(ids) :].sum(1).reshape(n, c))

        return scored

    # --- words and their likelihood -----------------------------------------------------------------

    def _say(self, question: str, max_new_tokens: int, stream: Stream | None) -> _Said:
        ids = self._processor.question(question)
        self._check_room(len(ids) + max_new_tokens)
        pieces = Pieces(self._processor, stream)
        speak(self._model, self._prefix, ids, pieces, max_new_tokens=max_new_tokens)
        return _Said(ids, pieces.ids, pieces.text)

    @cached_property
    def _parts(self) -> PrefixCache:
        """The slide read without its own token: what evidence is measured on (``evidence.py`` says why)."""
        return prefill(self._model, self._processor, self._slide_prefix, hidden=[SLIDE_NODE])

    def _score_answer(self, said: _Said, keep: torch.Tensor, prefix: PrefixCache | None = None) -> Float64:
        """Log-probabilities (B, T) of the answer's tokens under keep masks (B, P)."""
        suffix = torch.tensor([said.question + said.ids])
        token = score(self._model, prefix or self._prefix, suffix, None, keep, batch_size=self._batch)
        return _array(token[:, len(said.question) :])

    def _seen_and_blind(self, said: _Said) -> tuple[Float64, Float64]:
        """Log-probabilities (T,) of the answer's tokens with the slide, and without it."""
        keep = torch.stack([self._everything, self._prefix.without_slide()])
        seen, blind = self._score_answer(said, keep)
        return seen, blind

    def _worth(self, said: _Said, members: Bool, *, lead: int = 4) -> Worth:
        """Worth of nodes to the units; ``members`` (U, T) says which tokens are whose."""
        shares = members / np.maximum(members.sum(1, keepdims=True), 1)

        def value(nodes: Bool) -> Float64:
            return np.asarray(self._score_answer(said, self._tokens(nodes), self._parts) @ shares.T)

        return weigh(self._parents, value, lead=lead)

    def _evidence(self, worth: Worth | None, unit: int, supports: str, limit: int) -> tuple[Evidence, ...]:
        if worth is None:
            return ()
        return tuple(self._tissue.make(node, w, supports) for node, w in worth.best(unit, limit))

    def _rests_on(self, worth: Worth | None, unit: int, cites: Sequence[str]) -> tuple[str, ...] | None:
        if worth is None:
            return None
        nodes = self._prefix.layout.nodes
        found = {nodes[n].label for n, _ in worth.best(unit, len(nodes)) if nodes[n].scale != "cell"}
        return tuple(label for label in cites if label in found)

    @property
    def _everything(self) -> torch.Tensor:
        return torch.ones(len(self._prefix), dtype=torch.bool)

    @property
    def _parents(self) -> NDArray[np.int64]:
        return np.asarray(self._prefix.node_parent.cpu().numpy(), np.int64)

    def _tokens(self, nodes: Bool) -> torch.Tensor:
        """Keep masks over nodes (B, N) as keep masks over prefix tokens (B, P), the slide's own token left out."""
        node = self._prefix.token_node.cpu()
        return torch.from_numpy(nodes)[:, node] & (node != SLIDE_NODE)

    def _check_room(self, tokens: int) -> None:
        room = int(self._processor.tokenizer.model_max_length)
        if len(self._prefix) + tokens > room:
            what = f"slide and question need {len(self._prefix) + tokens} tokens, the model reads {room}"
            raise HwsiError(Reason.QUESTION_TOO_LONG, what, "ask in fewer words")

    # --- the slide ----------------------------------------------------------------------------------

    def region_at(self, row: int, col: int) -> str | None:
        """Label of the region at a place of the region grid; None if it has no tissue."""
        return self._regions.get((row, col))

    def need_slide(self) -> "Slide":
        """The open slide.

        Errors: slide_missing, if the session was made from features alone.
        """
        if self.slide is None:
            what = f"the session of {self.features.slide_name} has features but no slide"
            raise HwsiError(Reason.SLIDE_MISSING, what, "study the slide's file to get pictures")
        return self.slide

    def close(self) -> None:
        """Close the slide."""
        if self.slide is not None:
            self.slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, L) padded on the right, and which are there."""
    length = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
    return ids, mask


def _units(ends: Sequence[int], spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Index (T,) of the sentence that each token belongs to, from where the token's words end in the text."""
    last = np.array([end for _, end in spans], np.int64)
    return np.minimum(np.searchsorted(last, np.asarray(ends)), max(len(spans) - 1, 0))


def _array(x: torch.Tensor) -> Float64:
    return np.asarray(x.double().cpu().numpy())


def _mean(x: Float64) -> float:
    return float(x.mean()) if len(x) else 0.0
