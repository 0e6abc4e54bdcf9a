"""What the language model of nano is taught to say about one slide: questions, descriptions, report and caption.

- Wording and order of choices are drawn anew at every visit; which of them stands there never follows from the answer.
- A closed question is asked with its options or, less often, without: then the answer is the same words.
- Places are written as the labels of the slide's own tree (``R3``); a region without tissue has none.
- The wordings kept for test cohorts (the last template of a kind) are never drawn.
- Within organ and kind a rare answer is drawn as often as a frequent one: no wording is worth a guess.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from hwsi.hierarchy.labels import region_label
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.prompt import question_text
from hwsi.phantom.questions import region_text
from hwsi.phantom.truth import fill_labels
from hwsi.phantom.wordings import KINDS

Dialogue = list[dict[str, str]]


def labels_of(tree: Hierarchy) -> dict[tuple[int, int], str]:
    """Grid place (row, column) of a region -> its label on this slide."""
    return {(int(row), int(col)): region_label(i) for i, (row, col) in enumerate(tree.regions.grid)}


def answer_counts(truths: Iterable[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """How often each (organ, kind, answer) stands in a cohort."""
    return Counter((t["organ"], q["kind"], q["answer"]) for t in truths for q in t["questions"] if q["choices"])


class Teacher:
    """Dialogues about one slide, drawn from its truth.

    Args:
        truth: ``NAME.truth.json``. tree: of the slide's features.
        counts: of the cohort, see :func:`answer_counts`.
    """

    def __init__(self, truth: dict[str, Any], tree: Hierarchy, counts: Counter[tuple[str, str, str]]) -> None:
        self.truth = truth
        known = labels_of(tree)
        self._label = lambda row, col: known.get((row, col))
        self.questions = [q for q in truth["questions"] if self._can_be_asked(q, known)]
        rarity = [1 / counts.get((truth["organ"], q["kind"], q["answer"]), 20) for q in self.questions]
        self._chance = np.array(rarity) / np.sum(rarity)

    @staticmethod
    def _can_be_asked(question: dict[str, Any], known: dict[tuple[int, int], str]) -> bool:
        # a question about a region that our own tissue finder left out has no region to look at
        return "{R:" not in question["question"] or all((int(r), int(c)) in known for r, c in question["regions"])

    def _fill(self, text: str) -> str:
        return fill_labels(text, self._label)

    def draw(self, rng: np.random.Generator, n: int) -> list[Dialogue]:
        """``n`` dialogues: questions without repetition, and now and then the report or the caption."""
        picked = rng.choice(len(self.questions), min(n, len(self.questions)), replace=False, p=self._chance)
        found = [self._question(self.questions[int(i)], rng) for i in picked]
        found.append(_turns(CAPTION_PROMPT, self._fill(self.truth["caption"])))
        found.append(_turns(REPORT_PROMPT, self._fill(self.truth["report"])))
        return found

    def _question(self, q: dict[str, Any], rng: np.random.Generator) -> Dialogue:
        text = str(q["question"])
        kind = KINDS.get(q["kind"])
        if kind and q["choices"]:
            wording = kind.templates[int(rng.integers(len(kind.templates) - 1))]
            region = ""
            if "{region}" in wording:
                region = region_text(tuple(q["regions"][0])) if q["regions"] else _label_in(text)
            text = wording.format(organ=self.truth["organ"], region=region)
        choices = [q["choices"][int(i)] for i in rng.permutation(len(q["choices"]))]
        if choices and rng.random() < 0.25:
            choices = []
        return _turns(question_text(self._fill(text), choices or None), self._fill(str(q["answer"])))


def _label_in(text: str) -> str:
    """The label that a question about a region that is not there was asked with."""
    return next((w.strip("?.,") for w in text.split() if w[0] == "R" and w[1:2].isdigit()), "R40")


def _turns(question: str, answer: str) -> Dialogue:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
