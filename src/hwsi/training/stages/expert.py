"""A simulated expert: knows the truth of a phantom slide, hears two answers, and says which is better.

- Two answers are sampled from the model that is to be improved, so the pairs are about what it really says.
- Of reports and captions the one that invents less is better, and of equals the one that says more that is true. Of
  closed questions the right one is better. A tie is no pair.
- What is true and what is invented is counted by a judge that is handed in.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwsi.errors import HwsiError, Reason
from hwsi.inference.key_regions import MAX_REGIONS
from hwsi.inference.tasks import CAPTION_PROMPT, REPORT_PROMPT
from hwsi.model.checkpoint import load
from hwsi.model.modeling import HwsiForConditionalGeneration
from hwsi.model.processor import HwsiProcessor
from hwsi.model.prompt import question_text
from hwsi.model.scoring import PrefixCache, generate, prefill
from hwsi.phantom.truth import fill_labels
from hwsi.training.data.phantom import split_by_manifest
from hwsi.training.data.records import PreferenceRecord
from hwsi.training.data.store import FeatureStore
from hwsi.training.data.writing import write_records
from hwsi.training.nano.cohort import CohortSlide, read_cohort
from hwsi.training.nano.dialogues import labels_of
from hwsi.training.stages.checkpoint import STAGE_FILE
from hwsi.training.stages.watch import Progress, silent

SOURCE, ANNOTATOR = "phantom", "simulated expert"
TEMPERATURE = 1.0
_LONGEST = 320  # tokens of an answer


@dataclass(frozen=True, order=True)
class Judged:
    """How many facts of an answer are true, and how many are invented."""

    right: int
    invented: int


Judge = Callable[[str, dict[str, Any], Callable[[int, int], str | None]], Judged]
"""(answer, truth of the slide, label of a region by its row and column) -> :class:`Judged`."""


@dataclass(frozen=True)
class Verdicts:
    """``asked``: questions to which two answers were sampled. ``pairs``: how many were no tie."""

    asked: int
    pairs: int


def better(first: Judged, second: Judged) -> int:
    """Which of two answers is better: 0 or 1, or -1 for neither."""
    a, b = ((-j.invented, j.right) for j in (first, second))
    return -1 if a == b else int(b > a)


def write_verdicts(
    model: Path, cohort: Path, features: Path, out: Path, *, judge: Judge, slides: int, questions: int, seed: int,
    progress: Progress = silent,
) -> Verdicts:  # fmt: skip
    """Sample answers about slides of a training cohort and write which is better, as preferences.

    Args:
        model: a stage's output, or a model's folder. cohort: of phantom slides. features: job folder of them.
        out: the JSONL. judge: counts facts of reports and captions.
        slides: at most so many. questions: closed ones of each slide. seed: of all that is drawn.

    Raises:
        HwsiError: FEATURES_MISSING (no slide has features), OPTION_INVALID (a model of another fusion; only ties),
            as :func:`hwsi.model.load`.
    """
    folder = model / "model" if (model / STAGE_FILE).is_file() else model
    loaded, processor = load(folder, device="cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(loaded, HwsiForConditionalGeneration):
        what = f"the model in {model} has fusion '{loaded.config.fusion}'"
        raise HwsiError(Reason.OPTION_INVALID, what, "the expert hears models with fusion 'interleave'")
    store = FeatureStore([features])
    named = {entry.path.stem for entry in store.entries}
    everything = read_cohort(cohort)
    splits = split_by_manifest(cohort, everything)
    # a larger slide would be cut to key regions, and its labels count those
    fit = [s for s in everything if s.name in named and store.lengths(s.name).regions <= MAX_REGIONS]
    taken = [s for s in fit if splits[s.name] != "test"]
    if not taken:
        what = f"no slide of {cohort} has a feature file in {features}"
        raise HwsiError(Reason.FEATURES_MISSING, what, "encode the cohort with hwsi encode")
    order = np.random.default_rng(seed).permutation(len(taken))[:slides]
    found: list[PreferenceRecord] = []
    asked = 0
    for done, i in enumerate(order, start=1):
        slide = taken[int(i)]
        for number, pair in enumerate(_of_slide(slide, loaded, processor, store, judge, questions, [seed, int(i)])):
            asked += 1
            if pair is not None:
                about: dict[str, Any] = {"slide": slide.name, "patient": slide.patient, "split": splits[slide.name]}
                found.append(
                    PreferenceRecord(**about, id=f"{slide.name}/{number}", source=SOURCE, annotator=ANNOTATOR, **pair)
                )
        progress("expert", done, len(order))
    if not found:
        what = f"all {asked} pairs of answers are ties"
        raise HwsiError(Reason.OPTION_INVALID, what, "ask about more slides, or train the model further")
    write_records(out, found)
    return Verdicts(asked, len(found))


def _of_slide(
    slide: CohortSlide, model: Any, processor: HwsiProcessor, store: FeatureStore, judge: Judge, questions: int,
    seed: list[int],
) -> Iterator[dict[str, Any] | None]:  # fmt: skip
    """A pair for each question about a slide, or None for a tie."""
    features, truth = store.get(slide.name), slide.truth()
    labels = labels_of(features.hierarchy)

    def label_of(row: int, col: int) -> str | None:
        return labels.get((row, col))

    rng = np.random.default_rng(seed)
    closed = [q for q in truth["questions"] if q["choices"] and "{R:" not in q["question"]]
    picked = [closed[int(i)] for i in rng.permutation(len(closed))[:questions]]
    prefix = prefill(model, processor, processor.prefix(features))
    for prompt, choices, answer in [
        (REPORT_PROMPT, (), None),
        (CAPTION_PROMPT, (), None),
        *((q["question"], tuple(q["choices"]), fill_labels(q["answer"], label_of)) for q in picked),
    ]:
        two = sample_two(model, processor, prefix, question_text(prompt, choices), int(rng.integers(1 << 31)))
        if answer is None:
            judged = [judge(text, truth, label_of) for text in two]
        else:
            judged = [Judged(int(text == answer), int(text != answer)) for text in two]
        best = better(*judged)
        if best < 0 or not all(two):
            yield None
            continue
        yield {"question": prompt, "choices": choices, "chosen": two[best], "rejected": two[1 - best]}


def sample_two(model: Any, processor: HwsiProcessor, prefix: PrefixCache, question: str, seed: int) -> tuple[str, str]:
    """Two answers, drawn from the model's own distribution; the same seed gives the same two."""
    ids = processor.question(question)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = generate(
            model, prefix, [ids, ids], do_sample=True, temperature=TEMPERATURE, top_k=0, max_new_tokens=_LONGEST
        )
    first, second = (processor.decode(row).strip() for row in made)
    return first, second
