"""Questions about a phantom slide: a closed set of kinds, each tagged with the scale that decides it.

- Templates and the order of choices are drawn without looking at the answer; a kind's last template is kept for
  cohorts that are not for training.
- Unanswerable questions share their wording with answerable ones where they can: the grade on a slide without
  tumour, the necrosis that is not there, a region that does not exist or lies under an artefact.
- ``closed_eval`` marks what may be counted as closed accuracy: refusals and open questions may not.
- ``balance`` makes the answers of a cohort uniform within organ and kind, so that no wording betrays the answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hwsi.phantom.drawing import Compartment
from hwsi.phantom.measure import CONTENTS
from hwsi.phantom.spec import DIAGNOSES, Spec
from hwsi.phantom.truth import Measured
from hwsi.phantom.wordings import DESCRIBE, KINDS, NEVER, NEVER_REASONS, NO_TUMOUR, OF_TUMOUR, REFUSAL, YES_NO

Question = dict[str, Any]


def region_text(grid: tuple[int, int]) -> str:
    """The citation of a region that a reader replaces by its label."""
    return f"{{R:{grid[0]},{grid[1]}}}"


def closed_answers(spec: Spec, slide: dict[str, Any]) -> dict[str, str]:
    """kind -> answer for every kind (but ``content``) whose answer is clear on this slide."""
    tumour = bool(slide["neoplastic"])
    of: dict[str, str | None] = {"diagnosis": spec.diagnosis, "where_infiltrate": slide["where_infiltrate"]}

    def pick(kind: str, index: int | None) -> None:
        of[kind] = None if index is None else KINDS[kind].choices[index]

    def yes_no(kind: str, value: bool | None) -> None:
        of[kind] = None if value is None else YES_NO[0 if value else 1]

    yes_no("necrosis", slide["necrosis"])
    if spec.organ != "lymph node":  # its lymphocytes are the tissue itself
        pick("infiltrate", slide["til"])
        of["inflammatory_cell"] = slide["inflammatory"]
    if spec.organ == "lymph node":
        yes_no("germinal", slide["germinal"])
    if spec.organ == "lung":
        yes_no("keratin", slide["keratin"])
    if spec.organ == "colon":
        yes_no("mucin", slide["mucin"])
        pick("goblet_cells", slide["goblet_cells"])
    if spec.diagnosis != "ductal carcinoma in situ":
        of["malignancy"] = "malignant" if spec.malignant else "benign"
    of["fragments"] = {1: "one", 2: "two", 3: "three"}.get(slide["fragments"])
    if tumour:
        pick("pleomorphism", _less_one(slide["pleomorphism_score"]))
        yes_no("nucleoli", slide["nucleoli"])
        pick("mitosis", _less_one(slide["mitosis_score"]))
        if spec.diagnosis != "invasive lobular carcinoma":  # which has none by definition
            pick("tubules", _less_one(slide["tubule_score"]))
        pick("extent", slide["extent"])
        of |= {
            "pattern": slide["pattern"],
            "focality": slide["focality"],
            "where_tumour": slide["where_tumour"],
        }
        of["where_necrosis"] = slide["where_necrosis"]
        of["grade"] = f"grade {slide['grade']}" if slide["grade"] else None
        if spec.organ == "breast":
            of["in_situ"] = "invasive" if spec.malignant else "in situ"
    if spec.malignant:
        yes_no("vascular_invasion", slide["vascular_invasion"])
    return {kind: answer for kind, answer in of.items() if answer is not None}


def _less_one(score: int | None) -> int | None:
    return None if score is None else score - 1


class _Asker:
    """Words questions of one slide; its random stream depends on the seed only, never on an answer."""

    def __init__(self, slide_id: str, spec: Spec, *, held_out: bool) -> None:
        self.slide_id, self.spec, self.held_out = slide_id, spec, held_out
        self.questions: list[Question] = []

    def rng(self, kind: str, k: int) -> np.random.Generator:
        number = int.from_bytes(f"{kind}/{k}".encode()[-8:], "big")
        return np.random.default_rng([self.spec.seed, 31, number])

    def ask(
        self,
        kind: str,
        answer: str,
        *,
        name: str | None = None,
        k: int = 0,
        region: str = "",
        answerable: bool = True,
        regions: Iterable[tuple[int, int]] = (),
        patches: Iterable[tuple[int, int]] = (),
        pair: str | None = None,
        template: int | None = None,
    ) -> Question:
        what = KINDS[kind]
        rng = self.rng(kind, k)
        drawn = int(rng.integers(len(what.templates) - (0 if self.held_out else 1)))
        template = drawn if template is None else template
        choices = what.choices or DIAGNOSES[self.spec.organ]
        if kind == "content":
            choices = contents_of(self.spec.organ)
        choices = tuple(choices[i] for i in rng.permutation(len(choices)))
        text = what.templates[template].format(organ=self.spec.organ, region=region)
        question: Question = {
            "id": f"{self.slide_id}/{name or kind}/{k}",
            "kind": kind,
            "scale": what.scale,
            "question": text,
            "choices": list(choices),
            "answer": answer,
            "answerable": answerable,
            "closed_eval": answerable,
            "template": template,
            "pair": pair,
            "regions": [list(r) for r in regions],
            "patches": [list(p) for p in patches],
        }
        self.questions.append(question)
        return question

    def open(self, name: str, scale: str, text: str, answer: str, **where: Any) -> Question:
        question: Question = {
            "id": f"{self.slide_id}/{name}/{where.pop('k', 0)}",
            "kind": name,
            "scale": scale,
            "question": text,
            "choices": [],
            "answer": answer,
            "answerable": True,
            "closed_eval": False,
            "template": 0,
            "pair": None,
            "regions": [],
            "patches": [],
        } | where
        self.questions.append(question)
        return question


def contents_of(organ: str) -> tuple[str, ...]:
    """The tissues that the content of a region is chosen from in this organ."""
    without = {
        "breast": {"muscle", "alveoli", "lymphoid tissue"},
        "colon": {"alveoli", "fat", "lymphoid tissue"},
        "lung": {"muscle", "fat", "benign glands", "lymphoid tissue"},
        "lymph node": {"muscle", "alveoli", "benign glands"},
        "prostate": {"fat", "alveoli", "lymphoid tissue"},
    }[organ]
    return tuple(c for c in CONTENTS if c not in without)


def make_questions(slide_id: str, spec: Spec, measured: Measured, sentences: dict[tuple[int, int], str], *,
                   held_out: bool) -> list[Question]:  # fmt: skip
    """The questions of one slide, 15 to 20 % of them unanswerable.

    Args:
        slide_id: stem of the slide's name; ids are ``slide_id/kind/k``.
        sentences: sentence of each region that has one, without its citation; two regions are to be described.
        held_out: whether wordings kept from training may be drawn.
    """
    asker = _Asker(slide_id, spec, held_out=held_out)
    slide = measured.slide
    answers = closed_answers(spec, slide)
    for kind, answer in answers.items():
        regions, patches = _where(kind, answer, measured)
        asker.ask(kind, answer, regions=regions, patches=patches)
    legal = contents_of(spec.organ)
    visible = [r for r in measured.regions if r.tissue >= 0.15 and r.attrs["covered_fraction"] < 0.25]
    clear = [r for r in visible if r.attrs["content"] in legal]
    for k, r in enumerate(clear[:4]):
        asker.ask("content", r.attrs["content"], k=k, region=region_text(r.grid), regions=[r.grid],
                  patches=r.patches)  # fmt: skip
    rng = asker.rng("describe", 0)
    told = [r for r in measured.regions if r.grid in sentences]
    for k, i in enumerate(sorted(rng.permutation(len(told))[:2])):
        region = told[int(i)]
        wording = int(rng.integers(len(DESCRIBE) - (0 if held_out else 1)))
        text = DESCRIBE[wording].format(region=region_text(region.grid))
        asker.open("describe", "region", text, sentences[region.grid], k=k, template=wording,
                   regions=[list(region.grid)], patches=[list(p) for p in region.patches])  # fmt: skip
    _unanswerable(asker, measured)
    return asker.questions


def _unanswerable(asker: _Asker, measured: Measured) -> None:
    """Refusals: about 1 for 5 answerable ones, at most half of them told by their wording alone."""
    slide = measured.slide
    wanted = max(2, round(len(asker.questions) * 0.21))
    rng = asker.rng("refuse", 0)
    partner = next((q for q in asker.questions if q["kind"] == "content"), None)
    false: list[tuple[str, str, dict[str, Any]]] = []
    if not slide["neoplastic"]:
        false += [(kind, NO_TUMOUR, {}) for kind in rng.permutation(OF_TUMOUR)[:2]]
    if slide["necrosis"] is False:
        false.append(("where_necrosis", "There is no necrosis.", {}))
    rows, cols = measured.region_grid
    missing = f"R{int(rng.integers(rows * cols + 1, rows * cols + 6))}"
    where: dict[str, Any] = {"region": missing, "k": 90}
    if partner:
        where |= {"pair": partner["id"], "template": partner["template"]}
    false.append(("content", "There is no such region.", where))
    hidden = [r for r in measured.regions if r.tissue >= 0.05 and r.attrs["covered_fraction"] > 0.6]
    for k, r in enumerate(hidden):
        where = {**where, "region": region_text(r.grid), "k": 91 + k, "regions": [r.grid]}
        false.insert(0, ("content", "This region is covered by an artefact.", where))
    order = [0, *(1 + rng.permutation(len(false) - 1))] if len(false) > 1 else [0]
    visual = max(1, wanted - wanted // 2)
    for i in order[:visual]:
        kind, reason, where = false[int(i)]
        refused = asker.ask(str(kind), f"{REFUSAL} {reason}", name=f"no_{kind}", answerable=False, **where)
        if partner and refused["pair"]:
            partner["pair"] = refused["id"]
    for k in range(wanted - min(visual, len(order))):
        reason = NEVER_REASONS[int(rng.integers(len(NEVER_REASONS)))]
        text = NEVER[reason][int(rng.integers(len(NEVER[reason])))]
        if any(q["question"] == text for q in asker.questions):
            continue
        question = asker.open("never", "slide", text, f"{REFUSAL} {reason}", k=k)
        question["answerable"] = False


def _where(kind: str, answer: str, measured: Measured) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Regions and up to six patches that hold what the answer rests on; empty where the whole slide does."""
    table = measured.patches
    score: dict[str, Any] = {
        "necrosis": table["necrosis"], "where_necrosis": table["necrosis"], "mitosis": table["mitoses"],
        "infiltrate": table["til_per_mm2"], "where_infiltrate": table["til_per_mm2"], "mucin": table["mucin"],
        "inflammatory_cell": table["til_per_mm2"], "where_tumour": table["lesion"],
        "pleomorphism": table["nuclear_area_cv"], "nucleoli": table["nucleolus"], "tubules": table["lesion"],
        "pattern": table["lesion"], "in_situ": table["lesion"],
        "keratin": table["compartments"][:, Compartment.KERATIN],
    }  # fmt: skip
    if kind not in score or answer in ("no", "few"):
        return [], []
    value = np.nan_to_num(np.asarray(score[kind], np.float64)) * np.asarray(table["tissue"], np.float64)
    best = [int(i) for i in np.argsort(-value, kind="stable")[:6] if value[i] > 0]
    patches = [(int(table["grid"][i, 0]), int(table["grid"][i, 1])) for i in best]
    return sorted({(r // 8, c // 8) for r, c in patches}), patches


def balance(questions: Sequence[Question], organ_of: dict[str, str], seed: int = 0) -> list[Question]:
    """A subset of closed questions whose answers are uniform within (organ, kind); other questions are left out.

    Args:
        questions: of a whole cohort; only those with ``closed_eval`` are considered.
        organ_of: slide id -> organ.
    """
    groups: dict[tuple[str, str], dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for q in questions:
        if q["closed_eval"]:
            groups[organ_of[slide_of(q)], q["kind"]][q["answer"]].append(q)
    picked = []
    for (organ, kind), by_answer in sorted(groups.items()):
        if len(by_answer) < 2:
            continue  # one answer only: nothing to ask
        rng = np.random.default_rng([seed, len(organ), int.from_bytes(kind.encode()[:7], "big")])
        # an answer so rare that it would cost most of the rest is given up, unless two must remain
        sizes = sorted((len(v) for v in by_answer.values()), reverse=True)
        best = max(range(2, len(sizes) + 1), key=lambda m: m * sizes[m - 1])
        least = sizes[best - 1]
        kept = sorted(by_answer, key=lambda a: (-len(by_answer[a]), a))[:best]
        for answer in sorted(kept):
            those = by_answer[answer]
            picked += [those[i] for i in sorted(rng.permutation(len(those))[:least])]
    return picked


def slide_of(question: Question) -> str:
    """The slide id of a question."""
    return str(question["id"]).rsplit("/", 2)[0]


def majority_accuracy(questions: Sequence[Question], organ_of: dict[str, str]) -> float:
    """Accuracy of giving the most frequent answer of each (organ, kind): what words alone may reach."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for q in questions:
        counts[organ_of[slide_of(q)], q["kind"]][q["answer"]] += 1
    total = sum(sum(c.values()) for c in counts.values())
    return sum(max(c.values()) for c in counts.values()) / total if total else float("nan")
