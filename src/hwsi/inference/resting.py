"""What an answer rests on, as a studied slide finds it: claims made of the model's scores, and evidence made of worth.

Notation: T tokens of an answer, C options, N nodes, B keep masks, U units (sentences, or the whole answer).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.inference.answer import Evidence, Provenance
from hwsi.inference.calibration import Calibration
from hwsi.inference.evidence import Bool, Float64, Value, Worth
from hwsi.inference.evidence.attribution import Attribution, Cells, Claims, Mode, Slopes, attribute
from hwsi.inference.tissue import EvidenceMaker
from hwsi.model.prompt import Node

MAX_EVIDENCE = 8

Scores = Callable[[Bool | None], Float64]
"""Keep masks over nodes (B, N) -> log-probabilities (B, T) of tokens, or (B, C) of options; None gives the two rows of
the whole slide and of no slide."""


@dataclass(frozen=True)
class Said:
    """Words of the model: (q,) question ids, (T,) answer ids with the end token if it came, and the text."""

    question: list[int]
    ids: list[int]
    text: str


@dataclass(frozen=True)
class Chosen:
    """A closed question as the model answers it.

    Attributes:
        options: C of them. seen, blind: (C,) summed log-probabilities with the slide and without.
        chosen: which option is meant. claims: its log-odds, for evidence. scores: of all options, under keep masks.
    """

    options: tuple[str, ...]
    seen: Float64
    blind: Float64
    chosen: int
    claims: Claims
    scores: Scores


class Resting(ABC):
    """The part of a studied slide that knows what words rest on."""

    calibration: Calibration | None
    provenance: Provenance
    _nodes: Sequence[Node]
    _tissue: EvidenceMaker

    @abstractmethod
    def _answer_scores(self, said: Said) -> Scores:
        """Log-probabilities (B, T) of the tokens of what was said."""

    @abstractmethod
    def _option_scores(self, question: str, options: tuple[str, ...]) -> Scores:
        """Summed log-probabilities (B, C) of the options, each with its end token."""

    def _answer_slopes(self, said: Said, members: Bool) -> Slopes | None:
        """For the cheap ranking of what the units ``members`` (U, T) of an answer rest on; None without one."""
        return None

    def _option_slopes(self, question: str, options: tuple[str, ...], chosen: int) -> Slopes | None:
        """The same for the log-odds of an option."""
        return None

    def _option_cells(self, question: str, options: tuple[str, ...], chosen: int) -> Cells | None:
        """Which cells of a patch carry an option; None where the model does not read single cells."""
        return None

    def _said_claims(self, said: Said, members: Bool, reliance: Sequence[float]) -> Claims:
        """The units of an answer; ``members`` (U, T) says which tokens are whose."""
        shares = members / np.maximum(members.sum(1, keepdims=True), 1)
        scores = self._answer_scores(said)
        slopes = self._answer_slopes(said, members) if len(members) else None
        return self._claims(lambda nodes: np.asarray(scores(nodes) @ shares.T), tuple(reliance), slopes)

    def _claims(
        self, value: Value, reliance: tuple[float, ...], slopes: Slopes | None, cells: Cells | None = None
    ) -> Claims:
        return Claims(self._parents, self._tissue.places(), value, reliance, slopes, cells)

    def _found(self, claims: Claims, how: bool | Mode, limit: int = MAX_EVIDENCE, lead: int = 4) -> Attribution | None:
        """What units rest on, found as asked for."""
        if how is False:
            return None
        mode = Mode.VERIFY if how is True else how
        if mode is Mode.CHEAP and claims.slopes is None:
            what = f"there is no cheap evidence for {self.provenance.model}: its tokens are made of the whole slide"
            raise HwsiError(Reason.OPTION_INVALID, what, "ask for verify")
        return attribute(claims, mode, limit=limit, lead=lead)

    def _evidence(
        self, worth: Worth | None, unit: int, supports: str, limit: int, cells: Cells | None = None
    ) -> tuple[Evidence, ...]:
        if worth is None:
            return ()
        return tuple(
            self._tissue.make(node, w, supports, cells(node) if cells and self._nodes[node].scale == "cell" else None)
            for node, w in worth.best(unit, limit)
        )

    def _rests_on(self, worth: Worth | None, unit: int, cites: Sequence[str]) -> tuple[str, ...] | None:
        if worth is None:
            return None
        nodes = self._nodes
        found = {nodes[n].label for n, _ in worth.best(unit, len(nodes)) if nodes[n].scale != "cell"}
        return tuple(label for label in cites if label in found)

    @property
    def nodes(self) -> Sequence[Node]:
        """What the prompt is made of, for masks over it."""
        return self._nodes

    @property
    def _parents(self) -> NDArray[np.int64]:
        return np.array([node.parent for node in self._nodes], np.int64)


def about(found: Attribution | None) -> dict[str, Any]:
    """What an answer says of how its evidence was found."""
    if found is None:
        return {}
    agreement = found.agreement[0] if found.agreement else None
    return {"support": found.support[0], "found_by": found.mode.value, "passes": found.passes, "agreement": agreement}
