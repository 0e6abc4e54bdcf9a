"""A phantom cohort as training data in the documented schemas, so that every stage runs without a patient.

- Words are those of nano's lessons (``training/nano/dialogues.py``); regions are cited by the labels of the slide's
  own tree (``R3``), so texts are written once the features are there.
- In a preference the rejected answer is another option of the question, or what is true of another region: fluent,
  and wrong.
- Pairs are patches as the slide's file holds them, with the phrase for what is in them, in one WebDataset.
- A cohort's slides keep their split; of a training cohort one patient in twelve is for validation.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hwsi.errors import HwsiError, Reason
from hwsi.features.atomic import atomic_path
from hwsi.phantom.cohort import read_manifest
from hwsi.phantom.truth import fill_labels
from hwsi.slide import open_slide
from hwsi.training.data.records import ConversationRecord, PreferenceRecord, ReportRecord, Turn
from hwsi.training.data.store import FeatureStore
from hwsi.training.data.writing import write_records
from hwsi.training.nano.cohort import CohortSlide, held_out, read_cohort
from hwsi.training.nano.dialogues import Teacher, answer_counts, labels_of
from hwsi.training.nano.pixels import choose

SOURCE = "phantom"
_PATCH_PX = 256


@dataclass(frozen=True)
class Written:
    """How many records were written, and which slides of the cohort have no feature file."""

    reports: int
    conversations: int
    preferences: int
    without_features: tuple[str, ...]


def write_texts(
    cohort: Path, features: Path, out: Path, *, questions: int = 12, preferences: int = 4, seed: int = 0
) -> Written:
    """Write ``reports.jsonl``, ``conversations.jsonl`` and ``preferences.jsonl`` of a cohort into ``out``.

    Args:
        cohort: folder that ``hwsi phantom cohort`` wrote. features: job folder with its feature files.
        questions, preferences: of each slide, at most. seed: of what is asked.

    Raises:
        HwsiError: SLIDE_MISSING (no cohort), FEATURES_MISSING (no slide has features), as ``FeatureStore``.
    """
    store = FeatureStore([features], max_bytes=1)
    there = {entry.path.stem for entry in store.entries}
    slides = read_cohort(cohort)
    taken = [slide for slide in slides if slide.name in there]
    if not taken:
        what = f"no slide of {cohort} has a feature file in {features}"
        raise HwsiError(Reason.FEATURES_MISSING, what, "encode the cohort with hwsi encode")
    splits = split_by_manifest(cohort, slides)
    counts = answer_counts(slide.truth() for slide in taken)
    reports: list[ReportRecord] = []
    said: list[ConversationRecord] = []
    judged: list[PreferenceRecord] = []
    for slide in taken:
        tree, truth = store.get(slide.name).hierarchy, slide.truth()
        teacher = Teacher(truth, tree, counts)
        labels = labels_of(tree)
        rng = np.random.default_rng([seed, slide.seed])
        whose: dict[str, Any] = {"slide": slide.name, "patient": slide.patient, "split": splits[slide.name]}

        def fill(text: str, labels: dict[tuple[int, int], str] = labels) -> str:
            return fill_labels(text, lambda row, col: labels.get((row, col)))

        reports.append(ReportRecord(**whose, report=teacher.reported(rng), caption=fill(truth["caption"])))
        found: dict[str, tuple[Turn, ...]] = {}
        for dialogue in teacher.draw(rng, questions, reported=0):
            found.setdefault(json.dumps(dialogue), tuple(map(Turn.model_validate, dialogue)))
        for n, turns in enumerate(found.values()):
            said.append(ConversationRecord(**whose, id=f"{slide.name}/{n}", turns=turns, source=SOURCE))
        for n, pair in enumerate(_pairs(teacher, rng, preferences)):
            filled = {name: [*map(fill, v)] if isinstance(v, list) else fill(v) for name, v in pair.items()}
            judged.append(
                PreferenceRecord.model_validate({**whose, "id": f"{slide.name}/{n}", "source": SOURCE, **filled})
            )
    write_records(out / "reports.jsonl", reports)
    write_records(out / "conversations.jsonl", said)
    write_records(out / "preferences.jsonl", judged)
    missing = tuple(slide.name for slide in slides if slide.name not in there)
    return Written(len(reports), len(said), len(judged), missing)


def write_pairs(cohort: Path, path: Path, *, per_slide: int = 16, seed: int = 0) -> int:
    """Write patches of a cohort and their phrases as one WebDataset, ``path`` (``.tar``); the same bytes every time.

    Args:
        per_slide: patches of a slide, at most; rare findings more often than stroma.

    Returns:
        The number of pairs.
    """
    slides = read_cohort(cohort)
    splits = split_by_manifest(cohort, slides)
    count = 0
    with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
        for slide in slides:
            about = {"group": slide.patient, "source": SOURCE, "split": splits[slide.name]}
            for name, png, phrase in _patches(slide, per_slide, seed):
                parts = {"png": png, "txt": phrase.encode(), "json": json.dumps(about).encode()}
                for ending, data in parts.items():
                    member = tarfile.TarInfo(f"{name}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                count += 1
    return count


def split_by_manifest(cohort: Path, slides: list[CohortSlide]) -> dict[str, str]:
    """Slide -> train, val or test."""
    told = {Path(row["slide"]).stem: row["split"] for row in read_manifest(cohort)}
    kept = held_out([slide.patient for slide in slides])
    return {
        slide.name: ("val" if out or told[slide.name] == "val" else "train")
        if told[slide.name] in ("train", "val")
        else "test"
        for slide, out in zip(slides, kept, strict=True)
    }


def _pairs(teacher: Teacher, rng: np.random.Generator, most: int) -> Iterator[dict[str, Any]]:
    """Questions with a true and a wrong answer, places still as ``{R:row,col}``."""
    left = most
    for i in rng.permutation(len(teacher.questions)):
        if not left:
            return
        q = teacher.questions[int(i)]
        rivals = q["choices"] or [other["answer"] for other in teacher.questions if other["kind"] == q["kind"]]
        rivals = sorted({r for r in rivals if r.casefold() != q["answer"].casefold()})
        if not rivals:
            continue
        left -= 1
        yield {
            "question": q["question"],
            "choices": [q["choices"][int(k)] for k in rng.permutation(len(q["choices"]))],
            "chosen": q["answer"],
            "rejected": rivals[int(rng.integers(len(rivals)))],
        }


def _patches(slide: CohortSlide, per_slide: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """Name, PNG and phrase of some patches of a slide."""
    table, record = slide.patches(), slide.truth()
    rows = choose(table, per_slide, np.random.default_rng([slide.seed, seed, 37]))
    size0 = record["patch_um"] / record["mpp"]
    with open_slide(slide.path) as opened:
        for n in rows.tolist():
            phrase = str(table["phrase"][n])
            if not phrase:
                continue
            row, col = table["grid"][n].tolist()
            pixels = opened.read(round(col * size0), round(row * size0), _PATCH_PX, record["patch_um"] / _PATCH_PX)
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "png")
            yield f"{slide.name}-{row}-{col}", png.getvalue(), phrase
