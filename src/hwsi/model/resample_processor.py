"""Slides and words to tensors for ``fusion: resample``.

- The words are the chat template's, tokenised with the tokenizer's own special tokens; the slide's tokens are put
  before them by the model.
- What is present is read off the features: a patch without cells (zero) is left out, and a region without patches, as
  in the release's training. A slide without any cells keeps its regions and patches. ``masking="none"`` is what the
  release does at inference: everything counts, so an absent cell speaks as the projector's bias.
- Words that spell a special token are refused.

Notation: T tokens of words; see ``resample.py`` for the slide's.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from hwsi.errors import HwsiError, Reason
from hwsi.features.released import Quadruplet, quadruplet
from hwsi.model.config import SCALES, HwsiResampleConfig
from hwsi.model.prompt import question_text
from hwsi.model.resample import RESAMPLE_INPUTS
from hwsi.model.rows import IGNORE, Row, not_empty, plain, special_words, stack

if TYPE_CHECKING:
    from hwsi.features import SlideFeatures

MASKING = ("masked", "none")


class HwsiResampleProcessor(ProcessorMixin):
    """Tokenizer, chat template, and the quadruplet of features of a slide.

    Args:
        tokenizer: the language model's.
        encoders, dims: scale -> encoder id and width, as in :class:`hwsi.model.config.HwsiResampleConfig`.
        system: words of the system message; empty for none.
        masking: ``masked`` or, as the release at inference, ``none``; it can be set later, too.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: str | None = None,
        encoders: dict[str, str] | None = None,
        dims: dict[str, int] | None = None,
        system: str = "",
        masking: str = "masked",
    ) -> None:
        default = HwsiResampleConfig()
        self.encoders = encoders or default.encoders
        self.dims = dims or default.dims
        self.system = system
        self.masking = masking
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self._special = special_words(tokenizer)

    @classmethod
    def for_model(cls, config: HwsiResampleConfig, tokenizer: Any, *, system: str = "") -> HwsiResampleProcessor:
        """The processor that fits a model."""
        return cls(tokenizer, encoders=config.encoders, dims=config.dims, system=system)

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes."""
        return ["input_ids", "attention_mask", *RESAMPLE_INPUTS]

    def prompt(self, question: str, choices: Sequence[str] | None = None) -> str:
        """The words that stand behind the slide, up to where the answer begins.

        Errors: question_empty, question_invalid.
        """
        not_empty(question)
        chat = [{"role": "system", "content": plain(self.system, self._special)}] if self.system else []
        chat.append({"role": "user", "content": plain(question_text(question, choices), self._special)})
        text: str = self.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, chat_template=self.chat_template
        )
        return text

    def question(self, text: str, choices: Sequence[str] | None = None) -> list[int]:
        """Ids of :meth:`prompt`."""
        return self._tokenize(self.prompt(text, choices))

    def answer(self, text: str) -> list[int]:
        """Ids of an answer with the token that ends it, as the model learns to write it."""
        return self._tokenize(plain(text, self._special) + self.tokenizer.eos_token, special=False)

    def encode(
        self,
        slide: SlideFeatures | Quadruplet,
        question: str,
        *,
        choices: Sequence[str] | None = None,
        answer: str | None = None,
    ) -> Row:
        """One row, without a batch axis.

        Args:
            slide: its features, or the quadruplet itself.
            question: in words. choices: options of a closed question.
            answer: in training; it and the token that ends it get ``labels``.

        Returns:
            input_ids (T,), labels (T,) with an answer, and the slide's features and masks.

        Errors: question_empty, question_invalid, question_too_long, features_mismatch.
        """
        visual = self.visual(slide)
        ids = self.question(question, choices)
        row = {"input_ids": torch.tensor(ids), **visual}
        if answer is not None:
            # tokenised apart, so that the words before an answer are the same with and without it
            learned = self.answer(answer)
            row["labels"] = torch.tensor([IGNORE] * len(ids) + learned)
            row["input_ids"] = torch.tensor(ids + learned)
        room = int(self.tokenizer.model_max_length)
        if len(row["input_ids"]) > room:
            raise HwsiError(
                Reason.QUESTION_TOO_LONG,
                f"the words need {len(row['input_ids'])} tokens, the model reads {room}",
                "use fewer words",
            )
        return row

    def pad(self, rows: Sequence[Row], *, side: str = "right") -> BatchFeature:
        """A batch of rows: the same tensors with a batch axis, and ``attention_mask``.

        Args:
            rows: of :meth:`encode`, all with labels or none.
            side: ``right`` to train, ``left`` to generate.

        Errors: option_invalid (slides of different sizes without masks).
        """
        length = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, Tensor] = {"attention_mask": torch.zeros(len(rows), length, dtype=torch.int64)}
        fill = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORE}
        for name in ("input_ids", *(["labels"] if "labels" in rows[0] else [])):
            batch[name] = torch.full((len(rows), length), fill[name])
        for i, row in enumerate(rows):
            n = len(row["input_ids"])
            here = slice(length - n if side == "left" else 0, None if side == "left" else n)
            batch["attention_mask"][i, here] = 1
            for name in fill.keys() & batch.keys():
                batch[name][i, here] = row[name]
        for name in RESAMPLE_INPUTS:
            if name in rows[0]:
                batch[name] = self._stack([row[name] for row in rows])
        return BatchFeature(batch)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        slides: Any = None,
        *,
        choices: Sequence[str] | None = None,
        padding_side: str = "left",
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Questions about slides, ready for ``model.generate(**inputs)``.

        Args:
            text: a question or a list of them.
            slides: of one slide (for all questions) or a list with one for each: SlideFeatures or Quadruplet.
            choices: options of closed questions, the same for all.
            padding_side: ``left`` to generate.
            return_tensors: ``pt``.

        Errors: as of :meth:`encode` and :meth:`pad`.
        """
        if return_tensors != "pt":
            raise ValueError(f"tensors are PyTorch's ('pt'), not {return_tensors!r}")
        if text is None or slides is None:
            raise ValueError("give a question and a slide")
        questions = [text] if isinstance(text, str) else list(text)
        slides = list(slides) if isinstance(slides, list | tuple) else [slides] * len(questions)
        if len(slides) != len(questions):
            raise ValueError(f"{len(slides)} slides for {len(questions)} questions")
        rows = [self.encode(s, q, choices=choices) for s, q in zip(slides, questions, strict=True)]
        return self.pad(rows, side=padding_side)

    def decode(self, ids: Any, **kwargs: Any) -> str:
        """Ids to words, without special tokens."""
        return str(self.tokenizer.decode(ids, **{"skip_special_tokens": True, **kwargs}))

    def _tokenize(self, text: str, *, special: bool = True) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def visual(self, slide: SlideFeatures | Quadruplet) -> Row:
        """The features of one slide and, unless ``masking`` is none, what of them is present; no batch axis.

        Errors: option_invalid, features_mismatch.
        """
        if self.masking not in MASKING:
            raise HwsiError(
                Reason.OPTION_INVALID, f"masking '{self.masking}' is unknown", f"use {' or '.join(MASKING)}"
            )
        parts = slide if isinstance(slide, Quadruplet) else quadruplet(slide, self.encoders)
        row = {f"{scale}_features": torch.from_numpy(getattr(parts, scale).copy()) for scale in SCALES}
        r, c = row["patch_features"].shape[:2]
        axes = {"slide": (), "region": (r,), "patch": (r, c), "cell": (r, c)}
        wrong = [
            f"{scale} {tuple(row[f'{scale}_features'].shape)} for {(*axes[scale], self.dims[scale])}"
            for scale in SCALES
            if row[f"{scale}_features"].shape != (*axes[scale], self.dims[scale])
        ]
        if wrong:
            raise HwsiError(
                Reason.FEATURES_MISMATCH,
                f"features of a slide do not fit the model: {', '.join(wrong)}",
                "encode the slide with the model's preset",
            )
        if self.masking == "none":
            return row
        masks = _present(row["patch_features"], row["cell_features"])
        if not masks["region_mask"].any():
            todo = "encode the slide again, and check its tissue"
            raise HwsiError(Reason.FEATURES_MISMATCH, "no patch of the slide has features", todo)
        return row | masks

    def _stack(self, values: list[Tensor]) -> Tensor:
        if self.masking == "none" and len({v.shape for v in values}) > 1:
            raise HwsiError(
                Reason.OPTION_INVALID,
                "slides of different sizes in one batch need masks",
                "use masking 'masked', or one slide at a time",
            )
        return stack(values)


def _present(patch: Tensor, cell: Tensor) -> Row:
    """Masks of one slide from its patches (R, C, Dp) and fused cells (R, C, Dc), zero where absent."""
    there, cells = (patch != 0).any(-1), (cell != 0).any(-1)
    kept = there & cells
    if not kept.any():
        kept = there
    return {"region_mask": kept.any(1), "patch_mask": kept, "cell_mask": kept & cells}
