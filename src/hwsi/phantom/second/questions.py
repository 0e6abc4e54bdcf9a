"""Questions of one slide that no single scale decides, derived from its truth.

- A question carries what each single scale knows of it (``known``), so that a set can be thinned until none of that
  tells the answer (``silence.py``), and so that anybody can check it.
- Wordings are drawn by the seed of the slide, never by the answer. An attribute without a clear value is not asked.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from hwsi.phantom.questions import Question
from hwsi.phantom.second.silence import thin
from hwsi.phantom.second.wordings import COMPOSITES
from hwsi.phantom.wordings import KINDS, YES_NO

_LEAD = 1.25  # the densest region has so many times the infiltrate of the next
_LEAST_CELLS = 25
_LEAST_FIGURES, _MOST_PART = 6, 0.75  # of a tumour's figures lie in one part, or there is no clear answer
_LEAST_SHARE = 0.2  # of the tumour is in either part, or there is nothing to choose
_VISIBLE, _COVERED = 0.15, 0.25


def composites(record: dict[str, Any], *, held_out: bool) -> list[Question]:
    """The composite questions of a slide, each at most once; shaped like the first edition's, and with ``known``.

    Args:
        record: ``NAME.truth.json`` of either edition (where mitoses and infiltrate lie is known in the second only).
        held_out: ask in the wording that training never sees, instead of one of the others.
    """
    found = []
    for kind, make in (("discordance", _discordance), ("necrosis_in_densest", _densest), ("mitoses_part", _part)):
        made = make(record)
        if made is not None:
            answer, known = made
            question = ask(kind, record, answer, held_out=held_out)
            found.append(question | {"known": {"organ": record["organ"], **known}})
    return found


def reword(question: Question, record: dict[str, Any], *, held_out: bool) -> Question:
    """The same question in another wording: the one kept from training, or one that is not."""
    kind = question["kind"]
    templates = (COMPOSITES[kind].words if kind in COMPOSITES else KINDS[kind]).templates
    template = _template(record, kind, len(templates), held_out=held_out)
    region = _region_in(question["question"])
    text = templates[template].format(organ=record["organ"], region=region)
    return {**question, "question": text, "template": template}


def _region_in(text: str) -> str:
    """The citation or label of a region in a question; empty where it names none."""
    return next((w.strip("?.") for w in text.split() if w.startswith("{R:") or (w[0] == "R" and w[1:2].isdigit())), "")


def _template(record: dict[str, Any], kind: str, n: int, *, held_out: bool) -> int:
    drawn = int(_rng(record, kind, "wording").integers(n - 1))
    return n - 1 if held_out else drawn


def _rng(record: dict[str, Any], kind: str, what: str) -> np.random.Generator:
    return np.random.default_rng([record["seed"], 61, int.from_bytes(f"{kind}/{what}".encode()[-8:], "big")])


def ask(
    kind: str, record: dict[str, Any], answer: str, *, held_out: bool, choices: Sequence[str] = (), name: str = ""
) -> Question:
    """A question of a composite kind about a slide, options in an order drawn by its seed."""
    what = COMPOSITES[kind]
    options = tuple(choices) or what.words.choices
    order = _rng(record, kind, "order").permutation(len(options))
    template = _template(record, kind, len(what.words.templates), held_out=held_out)
    return {
        "id": f"{record['slide_id']}/{name or kind}/0",
        "kind": kind,
        "scale": "+".join(what.scales),
        "question": what.words.templates[template],
        "choices": [options[i] for i in order],
        "answer": answer,
        "answerable": True,
        "closed_eval": True,
        "template": template,
        "pair": None,
        "regions": [],
        "patches": [],
    }


Made = tuple[str, dict[str, Any]]


def graded(record: dict[str, Any]) -> tuple[int, int, int] | None:
    """The three scores (tubules, pleomorphism, mitoses) of a slide that has a grade."""
    slide = record["slide"]
    return (
        (slide["tubule_score"], slide["pleomorphism_score"], slide["mitosis_score"])
        if slide["grade"] is not None
        else None
    )


def _discordance(record: dict[str, Any]) -> Made | None:
    slide = record["slide"]
    a, b = slide["tubule_score"], slide["pleomorphism_score"]
    if not record["malignant"] or a is None or b is None or record["diagnosis"] == "invasive lobular carcinoma":
        return None
    return YES_NO[0 if a == b else 1], {"tubules": a, "pleomorphism": b}


def _densest(record: dict[str, Any]) -> Made | None:
    """Only where some but not all regions have necrosis: else their content alone would tell."""
    if "second" not in record or record["organ"] == "lymph node":  # whose lymphocytes are the tissue itself
        return None
    seen = [r for r in record["regions"] if r["tissue"] >= _VISIBLE]
    necrosis = [r["attrs"]["necrosis"] for r in seen]
    hidden = any(r["attrs"]["covered_fraction"] >= _COVERED for r in seen)
    if hidden or len(seen) < 2 or None in necrosis or all(necrosis) or not any(necrosis):
        return None
    number = record["second"]["inflammatory"]
    full = sorted(seen, key=lambda r: -number[r["grid"][0]][r["grid"][1]])
    first, second = (number[r["grid"][0]][r["grid"][1]] for r in full[:2])
    if first < _LEAST_CELLS or first < _LEAD * second:
        return None
    necrotic = sorted(tuple(r["grid"]) for r in seen if r["attrs"]["necrosis"])
    answer = YES_NO[0 if full[0]["attrs"]["necrosis"] else 1]
    return answer, {"densest": tuple(full[0]["grid"]), "necrotic": tuple(necrotic)}


def _part(record: dict[str, Any]) -> Made | None:
    if "second" not in record or not record["malignant"]:
        return None
    area, figures = record["second"]["part_um2"], record["second"]["part_mitoses"]
    total, whole = sum(figures.values()), sum(area.values())
    if total < _LEAST_FIGURES or min(area.values()) < _LEAST_SHARE * whole:
        return None
    part = max(figures, key=lambda p: figures[p])
    if figures[part] < _MOST_PART * total:
        return None
    return f"{part} part", {
        "solid_share": round(area["solid"] / whole, 1), "mitosis_score": record["slide"]["mitosis_score"],
    }  # fmt: skip


def silenced(questions: Sequence[Question], seed: int = 0) -> list[Question]:
    """Composite questions of a cohort, thinned so that nothing in ``known`` that one scale knows tells the answer."""
    by_kind: dict[str, list[Question]] = defaultdict(list)
    for q in questions:
        by_kind[q["kind"]].append(q)
    kept = []
    for kind, those in sorted(by_kind.items()):
        keys = [lambda q, name=name: q["known"][name] for name in COMPOSITES[kind].oracles]
        kept += thin(those, lambda q: q["answer"], keys, seed)
    return kept
