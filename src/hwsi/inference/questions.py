"""Whether a question can be asked at all: checked before anything heavy is loaded.

- A question is plain words: text that spells one of the model's special tokens is refused, never stripped,
  since it could forge the slide's part of the prompt.
"""

import re
import unicodedata
from collections.abc import Sequence

from hwsi.errors import HwsiError, Reason

MAX_QUESTION_CHARS = 2000
MAX_CHOICES = 26

# how special tokens are spelt here and in the language models that we can carry; the processor refuses by its own list
_SPECIAL = re.compile(r"<\|[^<>|]*\|>")


def check_question(question: str) -> str:
    """The question without surrounding white space.

    Errors: question_empty, question_too_long, question_invalid.
    """
    text = question.strip()
    if not text:
        raise HwsiError(
            Reason.QUESTION_EMPTY, "the question is empty", "ask in words, for example 'What tissue is this?'"
        )
    if len(text) > MAX_QUESTION_CHARS:
        what = f"the question has {len(text):,} characters, at most {MAX_QUESTION_CHARS:,} are read"
        raise HwsiError(Reason.QUESTION_TOO_LONG, what, "shorten it, or ask several questions")
    _check_words(text, "the question")
    return text


def check_choices(choices: Sequence[str] | None) -> tuple[str, ...]:
    """The options of a closed question, stripped; an empty tuple for an open one.

    Errors: question_invalid (fewer than two, more than 26, empty, equal, or with special tokens).
    """
    if choices is None:
        return ()
    options = tuple(c.strip() for c in choices)
    if not 2 <= len(options) <= MAX_CHOICES:
        what = f"a closed question needs 2 to {MAX_CHOICES} choices, got {len(options)}"
        raise HwsiError(Reason.QUESTION_INVALID, what, "give more choices, or none for an open question")
    for option in options:
        if not option:
            raise HwsiError(Reason.QUESTION_INVALID, "a choice is empty", "give each choice as words")
        if len(option) > MAX_QUESTION_CHARS:
            what = f"a choice has {len(option):,} characters, at most {MAX_QUESTION_CHARS:,} are read"
            raise HwsiError(Reason.QUESTION_TOO_LONG, what, "shorten it")
        _check_words(option, "a choice")
    if len({o.casefold() for o in options}) < len(options):
        raise HwsiError(Reason.QUESTION_INVALID, "two choices are the same", "make every choice different")
    return options


def _check_words(text: str, name: str) -> None:
    found = _SPECIAL.search(text)
    if found:
        what = f"{name} holds the special token {found.group()!r}"
        raise HwsiError(Reason.QUESTION_INVALID, what, "ask in plain words")
    control = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"), None)
    if control is not None:
        what = f"{name} holds the control character U+{ord(control):04X}"
        raise HwsiError(Reason.QUESTION_INVALID, what, "ask in plain words")
