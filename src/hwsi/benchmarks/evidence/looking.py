"""Whether the model looks at the slide, and whether it is silent where there is nothing to see.

- *Silence*: blank slides (glass of many colours, with dust and shadows) are to be refused before any question. Asked
  openly, what the slide cannot answer (out of the field, the wrong organ, a stain that is not there, too coarse) is to
  be refused in words, and what it can is not.
- *Pairs*: the same question about two slides of an organ and of different patients with different answers; both must
  be right.
- *Without the slide*: accuracy of the same model that was shown none, above the most frequent answer of each organ and
  kind; and how often the answer changes where the slide is exchanged for one with another truth.
"""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hwsi.benchmarks.evidence.figure import Line, line
from hwsi.benchmarks.evidence.material import Case, HeldOut, Material, can_be_asked
from hwsi.errors import HwsiError, Reason
from hwsi.inference import study
from hwsi.phantom.truth import fill_labels
from hwsi.phantom.wordings import REFUSAL
from hwsi.phantom.write import write_slide

_OPEN = 6
_BLANK_PX = 1024


def silence(material: Material, seed: int) -> list[Line]:
    """Shares that are refused: blank slides, unanswerable questions, answerable ones."""
    can, of_can, cannot, of_cannot = [], [], [], []
    model = material.slides[0].model
    blank = [float(_refused_blank(model, k)) for k in range(max(20, len(material.slides)))]
    rng = np.random.default_rng([seed, 2])
    for slide in material.slides:
        asked = [q for q in slide.truth["questions"] if can_be_asked(slide, q)]
        answerable = [q for q in asked if q["answerable"]]
        for k in sorted(rng.permutation(len(answerable))[:_OPEN]):
            words = fill_labels(answerable[k]["question"], slide.session.region_at)
            can.append(float(_withheld(slide, words)))
            of_can.append(slide.patient)
        for q in asked:
            if not q["answerable"]:
                cannot.append(float(_withheld(slide, fill_labels(q["question"], slide.session.region_at))))
                of_cannot.append(slide.patient)
    return [
        line("silence", "blank slide: abstains", blank, [str(k) for k in range(len(blank))], floor=0.98, aim=0.999),
        line("silence", "answerable: wrongly abstains", can, of_can, floor=0.05, aim=0.02, less=True),
        line("silence", "unanswerable: abstains", cannot, of_cannot),
    ]


def _withheld(slide: HeldOut, words: str) -> bool:
    return slide.session.ask(words, evidence=False).text.startswith(REFUSAL)


def _refused_blank(model: str, seed: int) -> bool:
    """Whether a blank slide is refused: glass of one colour with a shadow, noise and some dust."""
    rng = np.random.default_rng([7, seed])
    shadow = np.linspace(0, float(rng.uniform(-12, 12)), _BLANK_PX)[:, None, None]
    image = rng.uniform(222, 248, 3) + shadow + rng.normal(0, rng.uniform(0.5, 3), (_BLANK_PX, _BLANK_PX, 3))
    for _ in range(int(rng.integers(0, 30))):
        x, y = rng.integers(0, _BLANK_PX - 4, 2)
        image[y : y + 3, x : x + 3] -= rng.uniform(20, 120)
    with TemporaryDirectory(prefix="hwsi-blank-") as folder:
        path = write_slide(Path(folder) / "blank.tiff", np.clip(image, 0, 255).astype(np.uint8))
        try:
            study(path, preset=model).close()
        except HwsiError as error:
            return error.reason is Reason.NO_TISSUE
    return False


def pairs(material: Material, seed: int) -> list[Line]:
    """Both right, of two slides with different truths; each case is in one pair at most."""
    groups: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
    for case in material.cases:
        key = (case.slide.organ, case.question["kind"], ";".join(sorted(case.choices)))
        groups[key].append(case)
    both, patients, changed = [], [], []
    rng = np.random.default_rng([seed, 3])
    for _, those in sorted(groups.items()):
        left = [those[i] for i in rng.permutation(len(those))]
        while left:
            one = left.pop()
            other = next((c for c in left if c.answer != one.answer and c.patient != one.patient), None)
            if other is None:
                continue
            left.remove(other)
            given = [_answer(c.slide, one.words if c is one else other.words, one.choices) for c in (one, other)]
            both.append(float(given == [one.answer, other.answer]))
            changed.append(float(given[0] != given[1]))
            patients.append(one.patient)
    beside = {"answer changes": float(np.mean(changed)) if changed else float("nan")}
    return [line("pairs", "paired slides: both right", both, patients, floor=0.75, aim=0.9, beside=beside)]


def without_slide(material: Material, seed: int) -> list[Line]:
    """Accuracy without any slide, in points above the most frequent answer."""
    seen, blind, swapped, patients = [], [], [], []
    for case in material.cases:
        found, none = case.slide.session.choice_log_probs(case.words, case.choices)
        other = material.other(case.slide)
        seen.append(float(case.choices[int(found.argmax())] == case.answer))
        blind.append(float(case.choices[int(none.argmax())] == case.answer))
        swapped.append(
            float("nan") if other is None else float(_answer(other, case.words, case.choices) == case.answer)
        )
        patients.append(case.patient)
    above = [100 * (b - material.majority) for b in blind]
    beside = {
        "with the slide": 100 * float(np.mean(seen)), "without": 100 * float(np.mean(blind)),
        "another slide": 100 * float(np.nanmean(swapped)), "majority": 100 * material.majority,
    }  # fmt: skip
    what = "score without the slide above the majority, points"
    return [line("without-slide", what, above, patients, floor=2.0, aim=0.0, less=True, beside=beside)]


def _answer(slide: HeldOut, words: str, choices: list[str]) -> str:
    return choices[int(slide.session.choice_log_probs(words, choices)[0].argmax())]
