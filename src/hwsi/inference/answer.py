"""The answer object: text, what it rests on, and how much of it needed the slide.

An answer is plain data: it can be printed, stored as JSON and drawn without a model.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hwsi.inference.evidence.verdict import Support

Scale = Literal["cell", "patch", "region", "slide"]
LeftOutAt = Literal["lm_token", "encoder_input"]


@dataclass(frozen=True)
class Evidence:
    """A piece of tissue that (a part of) the answer rests on.

    Attributes:
        scale: cell, patch or region.
        label: citable name, such as ``R3`` or ``R3.P7``.
        box: (x0, y0, x1, y1) in level-0 pixels, inside the slide.
        contours: outlines in level-0 pixels of the cells meant, for the cell scale; else empty.
        score: what it is worth to the answer, in nats; higher is more. The mean of what the answer loses when only
            this is left out and what it gains when only this is added; of the mean log-probability per token, or
            for a closed question of the log-odds of the chosen option (``evidence.py``).
        supports: the words of the answer that it supports.
        left_out_at: where it was left out: ``lm_token``, what the language model reads, or ``encoder_input``, what the
            model's visual part makes that of.
    """

    scale: Scale
    label: str
    box: tuple[int, int, int, int]
    score: float
    supports: str
    contours: tuple[tuple[tuple[float, float], ...], ...] = ()
    left_out_at: LeftOutAt = "lm_token"


@dataclass(frozen=True)
class Provenance:
    """What made the answer, enough to make it again."""

    model: str
    weights_sha256: str
    preset: str
    slide: str
    slide_id: str
    features: str
    seed: int
    hwsi_version: str


@dataclass(frozen=True)
class Answer:
    """An answer to one question about one slide.

    Attributes:
        question: as asked.
        text: the answer in words.
        evidence: best first.
        visual_reliance: mean log p(answer | slide) minus mean log p(answer | no slide), nats per token.
            Near zero: the words would have come without looking.
        confidence: in [0, 1]; for a closed question the probability of the chosen option among the options,
            else the geometric mean probability per token. Not calibrated.
        choices: the options of a closed question, and ``choice_probs`` their probabilities.
        support: the verdict on the evidence as a whole; None if evidence was not asked for.
        warnings: what the reader must know (for nano: that it knows synthetic tissue only).
        found_by: how the evidence was found: ``cheap``, ``verify`` or ``full``; empty if it was not asked for.
        passes: over the words, that this took. agreement: of ``full``, the rank correlation of its map with random
            halves of the slide that it was not made from.
        calibrated: probability that the answer is right, where the model was calibrated; of closed questions only.
        withheld: True where the answer is not good enough for the risk that was accepted, or the slide adds nothing
            to it: then ``text`` says so and nothing is shown as evidence.
        looked_at: share of the slide's tissue that the model read.
    """

    question: str
    text: str
    evidence: tuple[Evidence, ...]
    visual_reliance: float
    confidence: float
    provenance: Provenance
    choices: tuple[str, ...] = ()
    choice_probs: tuple[float, ...] = ()
    support: Support | None = None
    warnings: tuple[str, ...] = field(default=())
    found_by: str = ""
    passes: int = 0
    agreement: float | None = None
    calibrated: float | None = None
    withheld: bool = False
    looked_at: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; floats rounded to 6 digits so that equal answers give equal bytes."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value
