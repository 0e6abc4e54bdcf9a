"""Slides and words to tensors.

- One row is one slide and one or several independent dialogues about it: the prefix (system words, slide) is
  segment 0, each dialogue a segment of its own. Everything is tokenised piece by piece, so the prefix's ids
  are the beginning of every full prompt about that slide, by construction.
- The language model's own chat template is used; the slide stands at the beginning of the first user turn.
- Words that spell a special token are refused: typed placeholders would be read as tissue that is not there.
- Left padding to generate, right padding to train.

Notation: T tokens, N nodes; see ``visual.py`` for the slide's tensors.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin

from hwsi.errors import HwsiError, Reason
from hwsi.model.attention import TEXT_NODE, segment_positions
from hwsi.model.config import PLACEHOLDERS, HwsiConfig, HwsiVisualConfig, placeholder_ids, placeholders
from hwsi.model.prompt import EMPTY_LAYOUT, Layout, keep_patches, lay_out, question_text
from hwsi.model.rows import IGNORE, Row, not_empty, plain, special_words, stack
from hwsi.model.slide_inputs import Arrays, arrays_of, empty_inputs, slide_inputs
from hwsi.model.visual import VISUAL_INPUTS

if TYPE_CHECKING:
    from hwsi.features import SlideFeatures

Message = Mapping[str, Any]


@dataclass(frozen=True)
class SlidePrefix:
    """A slide, tokenised: what stands before every question about it.

    Attributes:
        layout: nodes and pieces; ``token_node`` in ``row`` points into its nodes.
        row: tensors without a batch axis: input_ids, token_node, segment_ids (T,), node_parent (N,), the
            slide's.
        system: the system words in it.
    """

    layout: Layout
    row: Row
    system: str

    def __len__(self) -> int:
        return len(self.row["input_ids"])


class HwsiProcessor(ProcessorMixin):
    """Tokenizer, chat template, and how a slide becomes tokens.

    Args:
        tokenizer: the language model's, with the four placeholder tokens.
        encoders, dims: scale -> encoder id and width, as in :class:`hwsi.model.config.HwsiVisualConfig`.
        kept_patches: per region. max_cells: per patch.
        system: words that stand before every slide; empty for none.
        extra: further scale -> width, as there.
        region_reports: whether reports were taught to end with a sentence for every region, beginning with its label;
            then none is left out.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        chat_template: str | None = None,
        encoders: dict[str, str] | None = None,
        dims: dict[str, int] | None = None,
        kept_patches: int = 8,
        max_cells: int = 256,
        system: str = "",
        extra: dict[str, int] | None = None,
        region_reports: bool = False,
    ) -> None:
        default = HwsiVisualConfig()
        self.encoders = encoders or default.encoders
        self.dims = dims or default.dims
        self.kept_patches = kept_patches
        self.max_cells = max_cells
        self.system = system
        self.extra = dict(sorted((extra or {}).items()))
        self.region_reports = region_reports
        super().__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)
        placeholder_ids(tokenizer, self.extra)
        self._special = special_words(tokenizer, placeholders(self.extra).values())

    @classmethod
    def for_model(
        cls, config: HwsiConfig, tokenizer: Any, *, system: str = "", region_reports: bool = False
    ) -> HwsiProcessor:
        """The processor that fits a model."""
        visual = config.visual_config
        return cls(
            tokenizer,
            encoders=visual.encoders,
            dims=visual.dims,
            kept_patches=config.kept_patches,
            max_cells=visual.max_cells,
            system=system,
            extra=visual.extra,
            region_reports=region_reports,
        )

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes."""
        words = ["input_ids", "attention_mask", "position_ids", "token_node", "node_parent", "segment_ids"]
        return [*words, *VISUAL_INPUTS]

    # --- the parts of a row -------------------------------------------------------------------------

    def prefix(
        self,
        slide: SlideFeatures | None,
        *,
        relevance: np.ndarray[Any, np.dtype[np.float32]] | None = None,
        kept_patches: int | None = None,
        system: str | None = None,
    ) -> SlidePrefix:
        """Tokenise a slide; with None, the same words without any slide.

        Args:
            slide: its features.
            relevance: (N,) of each patch to a question; decides which patches are kept.
            kept_patches: at most so many of a region, instead of the processor's own number.
            system: system words, instead of the processor's own.

        Errors: features_mismatch (an encoder is missing or has another width), question_invalid.
        """
        if slide is None:
            layout, visual = EMPTY_LAYOUT, empty_inputs(self.dims, self.extra)
        else:
            arrays = self._arrays(slide)
            most = self.kept_patches if kept_patches is None else kept_patches
            kept = keep_patches(slide.hierarchy, arrays["patch"], most, relevance)
            layout = lay_out(slide.hierarchy, kept, [name for name in self.extra if name in arrays])
            visual = slide_inputs(slide.hierarchy, arrays, kept, self.max_cells, self.extra)
        return self.laid_out(layout, visual, self.system if system is None else system)

    def laid_out(self, layout: Layout, visual: Row, system: str) -> SlidePrefix:
        """Tokenise what stands before every question: the words before the slide, then the pieces of a layout.

        Args:
            layout: of the slide. visual: its tensors, of :func:`hwsi.model.slide_inputs.slide_inputs`.
            system: system words; empty for none.
        """
        head, _ = self._render([{"role": "user", "content": ""}], system, generation_prompt=True)
        ids, nodes = self._tokenize(head), []
        nodes += [TEXT_NODE] * len(ids)
        for text, node in layout.pieces:
            piece = self._tokenize(text)
            ids += piece
            nodes += [node] * len(piece)
        row = {
            "input_ids": torch.tensor(ids),
            "token_node": torch.tensor(nodes),
            "segment_ids": torch.zeros(len(ids), dtype=torch.int64),
            "node_parent": torch.tensor(layout.parents()),
            **visual,
        }
        return SlidePrefix(layout, row, system)

    def question(self, text: str, choices: Sequence[str] | None = None) -> list[int]:
        """Ids of what follows the prefix for one question, up to where the answer begins.

        Errors: question_empty, question_invalid.
        """
        not_empty(text)
        message = {"role": "user", "content": question_text(text, choices)}
        _, tail = self._render([message], "", generation_prompt=True)
        return [i for piece, _ in tail for i in self._tokenize(piece)]

    def answer(self, text: str) -> list[int]:
        """Ids of an answer with the token that ends it, as the model learns to write it."""
        return self._tokenize(plain(text, self._special) + self.tokenizer.eos_token)

    def encode(
        self,
        slide: SlideFeatures | SlidePrefix | None,
        dialogues: Sequence[Sequence[Message]],
        *,
        generation_prompt: bool = False,
    ) -> Row:
        """One row: a slide and independent dialogues about it, each a segment.

        Args:
            slide: features, or a prefix made before (saves the work in training), or None.
            dialogues: each a list of messages with role (user, assistant; system only at the first place) and
                content (a string or a list of text parts).
            generation_prompt: end where the assistant begins; only with one dialogue.

        Returns:
            The prefix's tensors and ``labels`` (T,): ids of the answers, -100 elsewhere.

        Errors: as of :meth:`prefix`; question_empty, question_too_long.
        """
        if generation_prompt and len(dialogues) != 1:
            raise ValueError("an answer can be generated for one dialogue per row")
        parsed = [_split_system(dialogue) for dialogue in dialogues]
        for _, messages in parsed:
            not_empty(_content(messages[0]))
        systems = {system for system, _ in parsed if system is not None}
        if len(systems) > 1:
            raise ValueError("dialogues of one row share its prefix, so they have one system message")
        system = systems.pop() if systems else None
        prefix = slide if isinstance(slide, SlidePrefix) else self.prefix(slide, system=system)
        if system is not None and system != prefix.system:
            raise ValueError("the dialogue's system message is not the prefix's")
        ids, segments, labels = [], [], []
        for number, (_, messages) in enumerate(parsed, start=1):
            _, tail = self._render(messages, "", generation_prompt=generation_prompt)
            for text, is_answer in tail:
                piece = self._tokenize(text)
                ids += piece
                segments += [number] * len(piece)
                labels += piece if is_answer else [IGNORE] * len(piece)
        row = dict(prefix.row)
        new = torch.tensor(ids, dtype=torch.int64)
        row["input_ids"] = torch.cat([row["input_ids"], new])
        row["token_node"] = torch.cat([row["token_node"], torch.full_like(new, TEXT_NODE)])
        row["segment_ids"] = torch.cat([row["segment_ids"], torch.tensor(segments, dtype=torch.int64)])
        row["labels"] = torch.cat([torch.full((len(prefix),), IGNORE), torch.tensor(labels, dtype=torch.int64)])
        longest = max([len(prefix) + segments.count(s) for s in set(segments)], default=len(prefix))
        room = int(self.tokenizer.model_max_length)
        if longest > room:
            raise HwsiError(
                Reason.QUESTION_TOO_LONG,
                f"slide and question need {longest} tokens, the model reads {room}",
                "ask in fewer words, or keep fewer patches per region",
            )
        return row

    def pad(self, rows: Sequence[Row], *, side: str = "right") -> BatchFeature:
        """A batch of rows: the same tensors with a batch axis, ``attention_mask`` and ``position_ids``.

        Args:
            rows: of :meth:`encode`, all with labels or none.
            side: ``right`` to train, ``left`` to generate.
        """
        batch: dict[str, Tensor] = {}
        words = ["input_ids", "token_node", "segment_ids", *(["labels"] if "labels" in rows[0] else [])]
        fill = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORE, "segment_ids": -1, "token_node": TEXT_NODE}
        length = max(len(row["input_ids"]) for row in rows)
        for name in words:
            batch[name] = torch.full((len(rows), length), fill[name])
            for out, row in zip(batch[name], rows, strict=True):
                n = len(row[name])
                out[length - n if side == "left" else 0 :][:n] = row[name]
        batch["attention_mask"] = (batch["segment_ids"] >= 0).long()
        batch["position_ids"] = segment_positions(batch["segment_ids"])
        for name in ("node_parent", *VISUAL_INPUTS):
            batch[name] = stack([row[name] for row in rows])
        return BatchFeature(batch)

    # --- the usual way in ---------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        slides: Any = None,
        *,
        messages: Any = None,
        choices: Sequence[str] | None = None,
        padding_side: str = "left",
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Questions about slides, ready for ``model.generate(**inputs)``.

        Args:
            text: a question or a list of them.
            slides: features of one slide (for all questions) or one entry per question; None for no slide.
            messages: instead of ``text``, a conversation (list of messages) or a list of conversations.
            choices: options of closed questions, the same for all.
            padding_side: ``left`` to generate.
            return_tensors: ``pt``.

        Errors: as of :meth:`encode`.
        """
        if return_tensors != "pt":
            raise ValueError(f"tensors are PyTorch's ('pt'), not {return_tensors!r}")
        if (text is None) == (messages is None):
            raise ValueError("give either text or messages")
        if text is not None:
            questions = [text] if isinstance(text, str) else list(text)
            dialogues = [[{"role": "user", "content": question_text(q, choices)}] for q in questions]
        else:
            dialogues = [messages] if isinstance(messages[0], Mapping) else list(messages)
        if not isinstance(slides, list | tuple):
            # one slide is laid out once, however many questions there are
            own_system = any(_split_system(dialogue)[0] is not None for dialogue in dialogues)
            slides = [slides if own_system else self._as_prefix(slides)] * len(dialogues)
        if len(slides) != len(dialogues):
            raise ValueError(f"{len(slides)} slides for {len(dialogues)} questions")
        rows = [self.encode(s, [d], generation_prompt=True) for s, d in zip(slides, dialogues, strict=True)]
        for row in rows:
            del row["labels"]
        return self.pad(rows, side=padding_side)

    def apply_chat_template(  # type: ignore[override]
        self, conversation: Any, *, slides: Any = None, **kwargs: Any
    ) -> Any:
        """Words with ``tokenize=False``; with ``tokenize=True`` the model's inputs, as :meth:`__call__`."""
        if kwargs.pop("tokenize", False):
            return self(messages=conversation, slides=(kwargs.get("processor_kwargs") or {}).get("slides", slides))
        return self.tokenizer.apply_chat_template(
            conversation, tokenize=False, chat_template=self.chat_template, **kwargs
        )

    def decode(self, ids: Any, **kwargs: Any) -> str:
        """Ids to words, without special tokens."""
        return str(self.tokenizer.decode(ids, **{"skip_special_tokens": True, **kwargs}))

    # --- inside -------------------------------------------------------------------------------------

    def _as_prefix(self, slide: SlideFeatures | SlidePrefix | None) -> SlidePrefix:
        return slide if isinstance(slide, SlidePrefix) else self.prefix(slide)

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _render(
        self, messages: Sequence[Message], system: str, *, generation_prompt: bool
    ) -> tuple[str, list[tuple[str, bool]]]:
        """Words before the slide, and the pieces after it with whether the model is to write them."""
        slot = PLACEHOLDERS["slide"]
        chat = [{"role": "system", "content": plain(system, self._special)}] if system else []
        for i, message in enumerate(messages):
            content = plain(_content(message), self._special)
            if i == 0 and message["role"] != "user":
                raise ValueError("a dialogue begins with the user")
            chat.append({"role": message["role"], "content": slot + content if i == 0 else content})

        def words(upto: int, prompt: bool) -> str:
            text: str = self.tokenizer.apply_chat_template(
                chat[:upto], tokenize=False, add_generation_prompt=prompt, chat_template=self.chat_template
            )
            return text

        head, found, _ = words(len(chat), generation_prompt).partition(slot)
        if not found:
            raise ValueError("the chat template drops the beginning of the first user message")
        pieces: list[tuple[str, bool]] = []
        done = len(head) + len(slot)
        for i, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            asked, told = words(i, True), words(i + 1, False)
            if not told.startswith(asked):
                raise ValueError("the chat template changes earlier turns, so answers cannot be found in it")
            pieces.append((asked[done:], False))
            answer = message["content"] + self.tokenizer.eos_token
            answer = answer if told[len(asked) :].startswith(answer) else told[len(asked) :]
            pieces.append((answer, True))
            done = len(asked) + len(answer)
        if generation_prompt or not pieces:
            pieces.append((words(len(chat), generation_prompt)[done:], False))
        return head, [(text, answer) for text, answer in pieces if text]

    def _arrays(self, slide: SlideFeatures) -> Arrays:
        return arrays_of(slide, self.encoders, self.dims, self.extra)


def _content(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _split_system(dialogue: Sequence[Message]) -> tuple[str | None, Sequence[Message]]:
    if dialogue and dialogue[0]["role"] == "system":
        return _content(dialogue[0]), dialogue[1:]
    return None, dialogue
