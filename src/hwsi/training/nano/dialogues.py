"""What the language model of nano is taught to say about one slide: questions, descriptions, report and caption.

- Wording and order of choices are drawn anew at every visit; which of them stands there never follows from the answer.
  So are the wordings of report and caption: by those that a slide's own report was written with it could be told from
  all others, and what comes next be known by heart and not be read from the tissue.
- A closed question is asked with its options or, less often, without: then the answer is the same words.
- Places are written as the labels of the slide's own tree (``R3``). Nothing is told of a region that cannot be seen:
  one that the tissue finder left out, or that an artefact covers (asked about it, the model has to refuse).
- The wordings kept for test cohorts (the last template of a kind) are never drawn.
- Questions that no single scale decides (``phantom/second/``) stand among the others; which of two grades a slide has
  is asked with another grade drawn anew at every visit.
- Within organ and kind a rare answer is drawn as often as a frequent one: no wording is worth a guess. But a handful
  of slides is not asked the same at every visit: that would be learned by heart. Kinds come as often as they are asked.
"""

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

import numpy as np

from hwsi.hierarchy.labels import region_label
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.prompt import question_text
from hwsi.phantom.questions import Question, region_text
from hwsi.phantom.report import caption_of, draw_wording, slide_units
from hwsi.phantom.second.questions import ask, composites, graded
from hwsi.phantom.second.wordings import COMPOSITES
from hwsi.phantom.spec import spec_of
from hwsi.phantom.truth import QUADRANTS, fill_labels
from hwsi.phantom.wordings import KINDS
from hwsi.training.nano.everyday import OF_ARTEFACTS, everyday
from hwsi.training.nano.symmetry import turn_quarter
from hwsi.training.nano.turns import Dialogue, turns

COVERED = 0.6
"""With more of its tissue under artefacts a region is refused, see ``phantom/questions.py``."""
_LEAST_COUNT = 6
_PLACES = 4.0
"""Where something lies is asked of few slides and has four answers: it is drawn so much more often."""
_SUMMED = ("focality", "fragments")
_DRILLED = 5
_EVERYDAY = 0.6  # of the visits
_CAPTIONS = 0.3  # of the visits that may be told
_OF_TWO = "grade_of_two"


def labels_of(tree: Hierarchy) -> dict[tuple[int, int], str]:
    """Grid place (row, column) of a region -> its label on this slide."""
    return {(int(row), int(col)): region_label(i) for i, (row, col) in enumerate(tree.regions.grid)}


def answer_counts(truths: Iterable[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """How often each (organ, kind, answer) stands in a cohort."""
    return Counter((t["organ"], q["kind"], q["answer"]) for t in truths for q in all_questions(t) if q["choices"])


def all_questions(truth: dict[str, Any]) -> list[Question]:
    """The questions of a slide of either edition, with those that need more than one scale, in training's wordings."""
    there = {q["kind"] for q in truth["questions"]}
    found = [*truth["questions"], *(q for q in composites(truth, held_out=False) if q["kind"] not in there)]
    if graded(truth) is not None:
        mine = f"grade {truth['slide']['grade']}"
        found.append(ask(_OF_TWO, truth, mine, held_out=False, choices=COMPOSITES[_OF_TWO].words.choices))
    return found


class Teacher:
    """Dialogues about one slide, drawn from its truth.

    Args:
        truth: ``NAME.truth.json``. tree: of the slide's features.
        counts: of the cohort, see :func:`answer_counts`.
        code: how the slide was turned (``symmetry.py``); quarters of it change their names.
    """

    def __init__(
        self, truth: dict[str, Any], tree: Hierarchy, counts: Counter[tuple[str, str, str]], code: int = 0
    ) -> None:
        self.truth, self._code = truth, code
        known = self._known = labels_of(tree)
        covered = {(r, c) for r, c in (d["grid"] for d in truth["regions"] if d["attrs"]["covered_fraction"] > COVERED)}
        self._seen = known.keys() - covered
        self.questions = [q for q in all_questions(truth) if self._can_be_asked(q, known)]
        rarity = np.array([_rarity(counts, truth["organ"], q) for q in self.questions])
        self._chance = rarity / rarity.sum()
        self._spec = spec_of(truth)

    def _can_be_asked(self, question: dict[str, Any], known: dict[tuple[int, int], str]) -> bool:
        if "{R:" not in question["question"]:
            return True
        regions = {(int(r), int(c)) for r, c in question["regions"]}
        return regions <= (self._seen if question["kind"] == "describe" else known.keys())

    def _label(self, row: int, col: int) -> str | None:
        return self._known.get((row, col))

    def _fill(self, text: str) -> str:
        return fill_labels(text, self._label)

    def sentences(self, rng: np.random.Generator) -> list[str]:
        """All that is told of the slide, sentence by sentence: caption, report, regions under their labels."""
        regions = [f"{label}: {sentence}" for label, sentence in self.regions().items()]
        return [self._caption(rng), *self._own(rng), *regions]

    def _own(self, rng: np.random.Generator) -> list[str]:
        return [unit.text for unit in slide_units(self._spec, self.truth["slide"], draw_wording(rng))]

    def _caption(self, rng: np.random.Generator) -> str:
        return caption_of(self._spec, self.truth["slide"], draw_wording(rng))

    def regions(self) -> dict[str, str]:
        """Label -> sentence of each region that can be told of."""
        return {
            label: self._fill(r["sentence"])
            for r in self.truth["regions"]
            if tuple(r["grid"]) in self._seen and r["sentence"] and (label := self._label(*r["grid"]))
        }

    def draw(
        self, rng: np.random.Generator, n: int, *, reported: float = 1.0, shown: Container[str] | None = None
    ) -> list[Dialogue]:
        """``n`` dialogues, now and then an everyday one, and with chance ``reported`` the report; if any, captions too.

        Args:
            shown: labels of regions that can be seen, where some are hidden: a report tells of no other.
        """
        picked = rng.choice(len(self.questions), min(n, len(self.questions)), replace=False, p=self._chance)
        found = [self._question(self.questions[int(i)], rng) for i in picked]
        if rng.random() < _EVERYDAY:
            asked, said = everyday(self.truth, rng)
            found.append([asked, {**said, "content": self._fill(said["content"])}])
        if reported and rng.random() < _CAPTIONS:
            found.append(turns(CAPTION_PROMPT, self._caption(rng)))
        if rng.random() < reported:
            found.append(turns(REPORT_PROMPT, self.reported(rng, shown)))
        return found

    def drill(self, rng: np.random.Generator, *, alone: bool) -> list[Dialogue]:
        """What only the whole slide tells, and what reports give too few words to: places, numbers of foci and
        fragments, artefacts; and if the slide's token stands ``alone``, the report as well."""
        places = [q for q in self.questions if q["kind"].startswith("where_")]
        summed = [*places, *(q for q in self.questions if q["kind"] in _SUMMED)]
        picked = [summed[int(i)] for i in rng.permutation(len(summed))[:_DRILLED]]
        found = [self._question(q, rng) for q in (*picked, *places, *places)]
        found += [everyday(self.truth, rng, OF_ARTEFACTS) for _ in range(3)]
        return [*found, turns(REPORT_PROMPT, self.reported(rng, ()))] if alone else found

    def reported(self, rng: np.random.Generator, shown: Container[str] | None = None) -> str:
        """The report: of the slide, then of every region that can be seen; ``shown`` as of :meth:`draw`."""
        told = {label: s for label, s in self.regions().items() if shown is None or label in shown}
        # all of them, where the truth's own report stops at a number of words: nobody could tell which are left out.
        # And by number, since on a slide that was turned the truth's order is none
        labels = sorted(told, key=lambda name: int(name[1:]))
        return " ".join([*self._own(rng), *(f"{label}: {told[label][0].lower()}{told[label][1:]}" for label in labels)])

    def _question(self, q: dict[str, Any], rng: np.random.Generator) -> Dialogue:
        text = str(q["question"])
        kind = COMPOSITES[q["kind"]].words if q["kind"] in COMPOSITES else KINDS.get(q["kind"])
        if kind and q["choices"]:
            wording = kind.templates[int(rng.integers(len(kind.templates) - 1))]
            region = ""
            if "{region}" in wording:
                region = region_text(tuple(q["regions"][0])) if q["regions"] else _label_in(text)
            text = wording.format(organ=self.truth["organ"], region=region)
        options = q["choices"] if q["kind"] != _OF_TWO else _two(q, rng)
        choices = [options[int(i)] for i in rng.permutation(len(options))]
        if choices and rng.random() < 0.25:
            choices = []
        answer = str(q["answer"])
        if answer in QUADRANTS:
            answer = turn_quarter(answer, self._code)
        return turns(question_text(self._fill(text), choices or None), self._fill(answer))


def _two(q: Question, rng: np.random.Generator) -> list[str]:
    """The answer and one of the other options."""
    others = sorted({*q["choices"]} - {q["answer"]})
    return [q["answer"], others[int(rng.integers(len(others)))]]


def _rarity(counts: Counter[tuple[str, str, str]], organ: str, q: dict[str, Any]) -> float:
    """How much rarer an answer is than the others to this kind of question: 1 on average, but for places."""
    same = [n for (o, kind, _), n in counts.items() if (o, kind) == (organ, q["kind"])]
    if not same:
        return 1.0
    rarity = sum(same) / len(same) / max(counts[organ, q["kind"], q["answer"]], _LEAST_COUNT)
    return rarity * (_PLACES if q["kind"].startswith("where_") else 1.0)


def _label_in(text: str) -> str:
    """The label that a question about a region that is not there was asked with."""
    return next((w.strip("?.,") for w in text.split() if w[0] == "R" and w[1:2].isdigit()), "R40")
