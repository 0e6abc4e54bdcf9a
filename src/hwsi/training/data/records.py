"""What the stages learn from: four kinds of record, one documented schema each (``docs/training-data.md``).

- A record that exists is sound in itself: texts are neither empty nor too long, spell no special token, and a
  conversation takes turns. What it says of a slide is checked against the features in ``checking.py``.
- A slide is named by its stem, whatever the file's folder and ending: ``TCGA-LUSC/TCGA-21-1083.pt`` is
  ``TCGA-21-1083``. It never becomes shorter than that: barcodes are cut by an explicit map alone.
- Images of pairs are read when they are needed, from a file, from bytes or from the middle of a tar.
"""

import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from hwsi.errors import HwsiError
from hwsi.inference.questions import check_choices

MAX_CHARS = 20_000
"""A longer text is an accident: a whole file in one cell, or a quote that is never closed."""
SPLITS = ("train", "val", "test")

_ENDINGS = frozenset(
    {
        *(".h5", ".hdf5", ".pt", ".pth", ".npy", ".npz", ".csv"),
        *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".svslide", ".dcm"),
        *(".png", ".jpg", ".jpeg"),
    }
)
_SPELT = re.compile(r"<\|[^<>|]*\|>|<image>")
_SAME_SPLIT = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def slide_name(path: str) -> str:
    """The stem that names a slide: without folders and without a known ending, all else as it stands."""
    name = PurePosixPath(path.strip().replace("\\", "/")).name
    stem, _, ending = name.rpartition(".")
    if stem and f".{ending.lower()}" in _ENDINGS:
        return stem.removesuffix(".ome")
    return name


def same_text(text: str) -> str:
    """What two texts share that differ in white space and capitals alone."""
    return " ".join(text.split()).casefold()


def plain_words(text: str) -> str:
    """A text without surrounding white space; refuses what no record may hold."""
    text = text.strip()
    if not text:
        raise PydanticCustomError("empty_text", "is empty")
    if len(text) > MAX_CHARS:
        raise PydanticCustomError(
            "too_long", "has {n} characters, at most {most} are read", {"n": len(text), "most": MAX_CHARS}
        )
    found = _SPELT.search(text)
    if found:
        raise PydanticCustomError("special_token", "spells the special token {token}", {"token": repr(found.group())})
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"), None)
    if odd is not None:
        raise PydanticCustomError("odd_character", "holds the character U+{code}", {"code": f"{ord(odd):04X}"})
    return text


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    told = value.strip().lower()
    return _SAME_SPLIT.get(told, told) or None


def _choices(value: Any) -> Any:
    """A list as it is; from a table, options parted by ``|``."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split("|")) if value.strip() else ()
    return value


def _distinct(choices: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return check_choices(choices or None)
    except HwsiError as error:
        raise PydanticCustomError("bad_choices", "{why}", {"why": error.what}) from error


def _one_slide(value: Any) -> Any:
    """A LLaVA ``image`` may be a list of one."""
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise PydanticCustomError("several_slides", "names {n} slides, not one", {"n": len(value)})
        value = value[0]
    return slide_name(value) if isinstance(value, str) else value


class TarMember(NamedTuple):
    """Bytes in the middle of a tar: nothing is ever extracted."""

    tar: Path
    name: str
    offset: int
    size: int


Words = Annotated[str, AfterValidator(plain_words)]
Slide = Annotated[str, BeforeValidator(_one_slide), AfterValidator(plain_words)]
Split = Annotated[Literal["train", "val", "test"] | None, BeforeValidator(_split)]
Choices = Annotated[tuple[str, ...], BeforeValidator(_choices), AfterValidator(_distinct)]
OptionalText = Annotated[str, BeforeValidator(lambda v: "" if v is None else v)]
OptionalWords = Annotated[OptionalText, AfterValidator(lambda v: plain_words(v) if v.strip() else "")]
Image = Annotated[Path | bytes | TarMember, BeforeValidator(lambda v: Path(v) if isinstance(v, str) else v)]

_SLIDE: Any = Field(validation_alias=AliasChoices("slide", "slide_id", "image"))
_PATIENT: Any = Field(default="", validation_alias=AliasChoices("patient", "patient_id"))


class Record(BaseModel):
    """What all kinds share: immutable; fields that no kind knows are left out here and told by the reader."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    def identity(self) -> tuple[object, ...]:
        """Two records of one kind with the same identity say the same thing twice."""
        raise NotImplementedError

    def words(self) -> tuple[str, ...]:
        """All texts in it."""
        raise NotImplementedError


class SlideRecord(Record):
    """A record about one slide.

    Attributes:
        slide: name of the slide, see :func:`slide_name`.
        patient: whose tissue it is; empty if unknown (:func:`hwsi.training.data.splits.assign_patients`).
        split: train, val or test, if the data say so.
        lang: language of the texts, BCP 47.
    """

    slide: Slide = _SLIDE
    patient: OptionalText = _PATIENT
    split: Split = None
    lang: Annotated[str, BeforeValidator(lambda v: v or "en")] = "en"


class ReportRecord(SlideRecord):
    """A slide and its report; ``caption`` is the slide in one sentence, empty for none."""

    report: Words
    caption: OptionalWords = ""

    def identity(self) -> tuple[object, ...]:
        """One report for each slide and language."""
        return self.slide, self.lang

    def words(self) -> tuple[str, ...]:
        """Report and caption."""
        return (self.report, self.caption) if self.caption else (self.report,)


class Turn(BaseModel):
    """What one side says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Words


class ConversationRecord(SlideRecord):
    """A conversation about one slide, of any number of turns; it is learned whole.

    A closed question carries its options in its words, as ``hwsi.model.prompt.question_text`` writes them.

    Attributes:
        id: of the record, unique in its file; empty for none.
        turns: an optional system turn, then user and assistant in turn; the assistant has the last word.
        task: what kind of question it is, if known.
        source: where it came from.
    """

    id: OptionalText = ""
    turns: tuple[Turn, ...]
    task: OptionalText = ""
    source: OptionalText = ""

    @model_validator(mode="after")
    def _takes_turns(self) -> Self:
        roles = [turn.role for turn in self.turns]
        spoken = roles[1:] if roles[:1] == ["system"] else roles
        if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
            raise PydanticCustomError(
                "bad_turns",
                "must be user and assistant in turn and end with the assistant, is {roles}",
                {"roles": ", ".join(roles[:6]) or "empty"},
            )
        return self

    def identity(self) -> tuple[object, ...]:
        """The same words about the same slide."""
        return self.slide, self.turns

    def words(self) -> tuple[str, ...]:
        """All turns."""
        return tuple(turn.content for turn in self.turns)

    def messages(self) -> list[dict[str, str]]:
        """As the processor reads them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.turns]


class PreferenceRecord(SlideRecord):
    """Two answers to one question about a slide, of which one is better.

    Attributes:
        question: without options. choices: its options, if it is closed.
        chosen, rejected: the better and the worse answer.
        source: what gave the answers or the verdict: a file, the viewer, a phantom's truth.
        annotator: who judged; empty if unknown.
    """

    id: OptionalText = ""
    question: Words
    choices: Choices = ()
    chosen: Words
    rejected: Words
    source: OptionalText = ""
    annotator: OptionalText = ""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if " ".join(self.chosen.split()).casefold() == " ".join(self.rejected.split()).casefold():
            raise PydanticCustomError("same_answers", "chosen and rejected say the same")
        return self

    def identity(self) -> tuple[object, ...]:
        """The same verdict of the same person."""
        return self.slide, self.question, self.choices, self.chosen, self.rejected, self.annotator

    def words(self) -> tuple[str, ...]:
        """Question, options and both answers."""
        return self.question, *self.choices, self.chosen, self.rejected


class PairRecord(Record):
    """An image and what is to be seen in it.

    Attributes:
        image: a file, the encoded bytes themselves, or a member of a WebDataset.
        caption: the words.
        source: where it came from.
        group: what must not be parted between training and validation (a patient, an article); empty if unknown.
    """

    image: Image
    caption: Words
    source: OptionalText = ""
    group: OptionalText = ""
    split: Split = None

    def read(self) -> bytes:
        """The encoded image (PNG, JPEG, ...).

        Raises:
            OSError: the file is gone or cut short.
        """
        if isinstance(self.image, bytes):
            return self.image
        if isinstance(self.image, Path):
            return self.image.read_bytes()
        with self.image.tar.open("rb") as file:
            file.seek(self.image.offset)
            data = file.read(self.image.size)
        if len(data) != self.image.size:
            raise OSError(f"{self.image.tar} is cut short in {self.image.name}")
        return data

    def identity(self) -> tuple[object, ...]:
        """The same words for the same image."""
        return self.image, self.caption

    def words(self) -> tuple[str, ...]:
        """The caption."""
        return (self.caption,)
