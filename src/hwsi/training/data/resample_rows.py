"""A conversation in the tokens of ``fusion: resample``: the slide's tokens stand before all words.

- One dialogue a row: these words have no segments that could be told apart.
- With one question the row is that of ``HwsiResampleProcessor.encode``, id for id.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Mapping, Sequence

import torch

from hwsi.errors import HwsiError, Reason
from hwsi.features import SlideFeatures
from hwsi.model.resample_processor import HwsiResampleProcessor
from hwsi.model.rows import IGNORE, Row, plain, special_words


def resample_row(processor: HwsiResampleProcessor, slide: SlideFeatures, dialogue: Sequence[Mapping[str, str]]) -> Row:
    """One row: input_ids (T,), labels (T,) with the ids of the answers and -100 elsewhere, and the slide's tensors.

    Args:
        processor: of the model.
        slide: its features.
        dialogue: messages with role and content; its system message, if any, instead of the processor's.

    Raises:
        HwsiError: QUESTION_TOO_LONG; as ``processor.visual``.
    """
    chat = [dict(message) for message in dialogue]
    if chat[0]["role"] != "system" and processor.system:
        chat.insert(0, {"role": "system", "content": processor.system})
    special = special_words(processor.tokenizer)
    for message in chat:
        plain(message["content"], special)

    def words(upto: int, *, prompt: bool) -> str:
        text: str = processor.tokenizer.apply_chat_template(
            chat[:upto], tokenize=False, add_generation_prompt=prompt, chat_template=processor.chat_template
        )
        return text

    ids: list[int] = []
    labels: list[int] = []
    done = ""
    for i, message in enumerate(chat):
        if message["role"] != "assistant":
            continue
        asked = words(i, prompt=True)
        if not asked.startswith(done):
            raise ValueError("the chat template changes earlier turns, so answers cannot be found in it")
        piece = processor.tokenizer(asked[len(done) :], add_special_tokens=not done)["input_ids"]
        answer = processor.answer(message["content"])
        ids += [*piece, *answer]
        labels += [IGNORE] * len(piece) + answer
        done = asked + message["content"] + processor.tokenizer.eos_token
    room = int(processor.tokenizer.model_max_length)
    if len(ids) > room:
        what = f"the words need {len(ids)} tokens, the model reads {room}"
        raise HwsiError(Reason.QUESTION_TOO_LONG, what, "use fewer words")
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), **processor.visual(slide)}
