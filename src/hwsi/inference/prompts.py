"""Classes in words: a YAML file of names and templates that makes the prompts of zero-shot classification.

- A prompt is a template filled with a class's name, its group (an organ, say) and one of its findings; every template
  with every spelling and finding is one, and a class is the mean of their unit vectors: a prompt ensemble, as CLIP
  (arXiv 2103.00020, section 3.1.4) and CONCH use it.
- Where slides were aligned with whole reports, what a report says beside its diagnosis moves its vector, too. ``slots``
  hold such words (how many fragments, which artefact): prompts draw from them, every class the same draws, so that the
  mean of a class is about the class alone.
- Two sets are in the package (``classes/``): of drawn tissue, for the embedded model. Others are the user's own.
"""

from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from hwsi.errors import HwsiError, Reason
from hwsi.inference.cases import unit
from hwsi.inference.space import Space

Float32 = NDArray[np.float32]
_FIELDS = {"name", "group", "finding"}
_EMBEDDED = files("hwsi") / "inference" / "classes"


class ClassWords(BaseModel):
    """One class.

    Attributes:
        name: as it is shown, and as an option to the language model.
        spellings: other names, used in prompts beside ``name``.
        group: what it is asked within, such as an organ; empty for none.
        findings: sentences that a report of it may hold, for ``{finding}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    spellings: tuple[str, ...] = ()
    group: str = ""
    findings: tuple[str, ...] = ()


class PromptSet(BaseModel):
    """Classes and how they are put into words.

    Attributes:
        name: of the set. scale: what is classified unless the user says otherwise.
        question: to the language model, with the names as options.
        templates: with ``{name}`` and, as wanted, ``{group}``, ``{finding}`` and slots.
        slots: name -> words that may stand at ``{name}`` in templates and findings.
        draws: from the slots; each draw with every finding is a prompt, and has one of the templates in turn.
        classes: at least two, of different names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    scale: Literal["slide", "region", "patch"] = "slide"
    question: str = Field(min_length=1)
    templates: tuple[str, ...] = Field(min_length=1)
    slots: dict[str, tuple[str, ...]] = {}
    draws: int = Field(default=0, ge=0, le=256)
    classes: tuple[ClassWords, ...] = Field(min_length=2)

    # vectors of the last space that was asked for: a cohort is classified slide by slide
    _read: tuple[Space, Float32] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _can_be_filled(self) -> Self:
        if bool(self.slots) != bool(self.draws) or not all(self.slots.values()):
            raise ValueError("slots need words and a number of draws, and draws need slots")
        for finding in (f for c in self.classes for f in c.findings):
            if _names(finding) - self.slots.keys():
                raise ValueError(f"finding {finding!r} may have slots only")
        names = [c.name.casefold() for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        for template in self.templates:
            found = _names(template)
            if "name" not in found or found - _FIELDS - self.slots.keys():
                raise ValueError(f"template {template!r} needs {{name}}, and may have {{group}}, {{finding}} and slots")
            if "finding" in found and not all(c.findings for c in self.classes):
                raise ValueError(f"template {template!r} has {{finding}}, but a class has no findings")
            if "group" in found and not all(c.group for c in self.classes):
                raise ValueError(f"template {template!r} has {{group}}, but a class has none")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, in order."""
        return tuple(c.name for c in self.classes)

    def within(self, group: str) -> "PromptSet":
        """Only the classes of a group. Raises HwsiError(OPTION_INVALID) if there are fewer than two."""
        chosen = tuple(c for c in self.classes if c.group == group)
        if len(chosen) < 2:
            groups = ", ".join(sorted({c.group for c in self.classes if c.group})) or "none"
            what = f"{self.name} has {len(chosen)} classes of the group '{group}' (groups: {groups})"
            raise HwsiError(Reason.OPTION_INVALID, what, "name a group of at least two")
        found = self.model_copy(update={"classes": chosen})
        found._read = None
        return found

    def prompts(self, words: ClassWords) -> tuple[str, ...]:
        """All prompts of a class, each once; the first letter is a capital."""
        made = []
        for template, drawn in self._ways():
            for name in (words.name, *words.spellings):
                for finding in words.findings if "{finding}" in template else ("",):
                    told = finding.format(**drawn) if drawn else finding
                    text = template.format(name=name, group=words.group, finding=told, **drawn)
                    made.append(text[:1].upper() + text[1:])
        return tuple(dict.fromkeys(made))

    def _ways(self) -> list[tuple[str, dict[str, str]]]:
        """Templates, each with what is drawn from the slots; the same for every class."""
        if not self.draws:
            return [(template, {}) for template in self.templates]
        rng = np.random.default_rng(0)
        return [
            (self.templates[d % len(self.templates)], {n: w[int(rng.integers(len(w)))] for n, w in self.slots.items()})
            for d in range(self.draws)
        ]

    def vectors(self, space: Space) -> Float32:
        """The classes in the space of tissue and words: (classes, E), rows of length one."""
        if self._read is None or self._read[0] is not space:
            each = [self.prompts(c) for c in self.classes]
            flat = space.texts([text for texts in each for text in texts])
            ends = np.cumsum([len(texts) for texts in each])[:-1]
            self._read = space, unit(np.stack([part.mean(0) for part in np.split(flat, ends)]))
        return self._read[1]


def _names(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def embedded_sets() -> tuple[str, ...]:
    """Names of the sets in the package."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in _EMBEDDED.iterdir() if f.name.endswith(".yaml")))


def load_prompts(name: str | Path) -> PromptSet:
    """A set of the package by its name, or one's own by the path of a YAML file.

    Raises:
        HwsiError: DATA_MISSING if there is none, DATA_INVALID if its content is wrong.
    """
    path = Path(name)
    if str(name) in embedded_sets():
        text = (_EMBEDDED / f"{name}.yaml").read_text(encoding="utf-8")
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    else:
        todo = f"take one of {', '.join(embedded_sets())}, or the path of a YAML file"
        raise HwsiError(Reason.DATA_MISSING, f"there are no classes {str(name)!r}", todo)
    try:
        return PromptSet.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"the classes in {path.name} are wrong: {where + ': ' if where else ''}{first['msg']}"
        raise HwsiError(Reason.DATA_INVALID, what, "correct the file") from error
    except yaml.YAMLError as error:
        raise HwsiError(Reason.DATA_INVALID, f"{path.name} is no YAML: {error}", "correct the file") from error
