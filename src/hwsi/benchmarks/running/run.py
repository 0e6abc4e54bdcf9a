"""A run: the records of a dataset, a model and feature files to results.

- Case by case: a slide's tokens are prefilled once, all that is asked of it is asked, the answers go to the journal.
  A run that was killed goes on where it stopped and ends with the same predictions, byte for byte.
- What cannot be asked ends nothing: it is counted by its reason, in every result that it is missing from.
- The folder of a run: ``TASK-WAY.json`` (the result), ``TASK-WAY.predictions.jsonl``, and ``answers/`` (the journal).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hwsi.benchmarks.datasets.record import Loaded, Record
from hwsi.benchmarks.results import write_predictions, write_result
from hwsi.benchmarks.running import finding
from hwsi.benchmarks.running.asking import Answers, ask_case, blind_question, merged
from hwsi.benchmarks.running.choosing import class_results, closed_results, words_alone
from hwsi.benchmarks.running.journal import Journal, key_of
from hwsi.benchmarks.running.labels import Labels
from hwsi.benchmarks.running.plan import Form, Plan, form_of, make_plan
from hwsi.benchmarks.running.sheet import Scored, Stamp
from hwsi.benchmarks.running.unseen import WithoutSlide
from hwsi.benchmarks.running.writing import Measures, text_results, texts_alone
from hwsi.errors import HwsiError, Reason
from hwsi.features import read_features
from hwsi.inference import studied, study
from hwsi.inference.index import content_sha256
from hwsi.inference.loading import load_model
from hwsi.inference.prompts import PromptSet
from hwsi.inference.space import Space, load_space
from hwsi.presets import load_preset

Progress = Callable[[str, int, int], None]
TASKS = ("closed", "open", "report", "caption", "classify", "similar", "match")
_TEXTS: tuple[Form, ...] = ("open", "report", "caption")
_JOURNAL = "answers"
_REVISION = 1  # of what is asked and how
_CHUNK = 16
_OWN_MAJORITY = "majorities are those of the records asked, which no model may know"


@dataclass(frozen=True)
class Request:
    """What is asked of whom.

    Attributes:
        model: preset. device: where it computes. tasks: of ``TASKS``.
        seed: of shuffled options. orders: how many shuffled orders each closed question is asked in.
        split: whose records are asked; where the dataset has none of it, all are.
        prompts: of classes, instead of plain templates.
        groups: slide id -> group within which the other slide is sought.
    """

    model: str = "nano"
    device: str = "auto"
    tasks: tuple[str, ...] = TASKS
    seed: int = 0
    orders: int = 1
    split: str = "test"
    prompts: PromptSet | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """A run that was asked, before it is scored; what a dataset of its own kind adds to it starts here.

    Attributes:
        plan: what was asked. stamp: of its results. labels: of regions. train: records that baselines learn from.
        space: of words; None for a preset without. indexed: the cases' vectors; None where no task needs them.
    """

    plan: Plan
    stamp: Stamp
    labels: Labels
    train: tuple[Record, ...]
    space: Space | None
    indexed: finding.Indexed | None


def parted(records: Sequence[Record], split: str) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """The records that are asked, and those that baselines may learn from: of the split, and of ``train``."""
    asked = tuple(r for r in records if r.split == split)
    if not asked or split == "train":
        return asked or tuple(records), ()
    return asked, tuple(r for r in records if r.split == "train")


def stamp_of(loaded: Loaded, model: str, request: Request, unusable: Mapping[str, int], *notes: str) -> Stamp:
    """What all results of a run share; rows that became no record are counted by their kind."""
    name, _, version = loaded.version.partition("@")
    lost = Counter(p.kind for p in loaded.unusable) + Counter(unusable)
    seeds = {"bootstrap": 0, "options": request.seed}
    return Stamp(name, version, loaded.sha, model, dict(sorted(lost.items())), seeds, (*loaded.notes, *notes))


def run(
    loaded: Loaded,
    files: Sequence[Path],
    out: Path,
    request: Request,
    *,
    measures: Callable[[Ready], Measures] | Measures | None = None,
    more: Callable[[Ready], list[Scored]] | None = None,
    progress: Progress | None = None,
) -> list[Scored]:
    """Ask, score and write.

    Args:
        loaded: the dataset. files: feature files, named by their slides. out: folder of the run.
        measures: how texts are scored. more: results that only this dataset has.
        progress: called with (stage, done, total).

    Raises:
        HwsiError: FEATURES_MISSING (no slide has features), WEIGHTS_MISSING, OPTION_INVALID (nothing to ask);
            as ``load_model``.
    """
    say = progress or (lambda stage, done, total: None)
    asked, train = parted(loaded.records, request.split)
    plan = make_plan(asked, files, request.groups)
    forms = _forms(plan.records, request.tasks)
    notes = [plan.told] if plan.missing else []
    model, sha = _model(request, forms, notes)
    space = _space(request, plan.records, notes)
    labels = Labels(plan, load_preset(request.model).encoders.region)
    own: dict[str, Answers] = {}
    lent: dict[str, Answers] = {}
    blind: dict[str, str] = {}
    if model is not None:
        journal = Journal(out / _JOURNAL)
        base = (_REVISION, sha, request.model, request.seed, request.orders)
        parts = _ask(plan, forms, request, labels, journal, base, say)
        own, lent = merged(parts, "own"), merged(parts, "lent")
        blind = _ask_blind(model, plan.records, forms, labels, journal, base, say)
    told = "" if train else "majorities are those of the test itself, which no model may know"
    stamp = stamp_of(
        loaded, f"{request.model} {sha[:8]}".strip(), request, plan.unusable, *notes, *filter(None, [told])
    )
    wanted = {"classify", "similar", "match", "search"} & set(request.tasks)
    indexed = finding.index_cases(plan, request.model, space) if wanted else None
    ready = Ready(plan, stamp, labels, train, space, indexed)
    scale = measures(ready) if callable(measures) else measures or Measures()
    scale = replace(scale, reference=lambda r: labels.fill(r, r.answer))
    made = _in_words(ready, forms, own, lent, blind, scale)
    made += _by_vectors(ready, request, files, train)
    made += more(ready) if more is not None else []
    if not made:
        what = f"{loaded.version} has nothing for the tasks {', '.join(request.tasks)}"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose tasks that it has, see hwsi bench list")
    write(made, out)
    return made


def run_without_features(
    loaded: Loaded, out: Path, request: Request, *, measures: Measures | None = None
) -> list[Scored]:
    """What words alone reach, as results: no model, no slide.

    Raises:
        HwsiError: OPTION_INVALID (no task of these can be answered by words).
    """
    asked, train = parted(loaded.records, request.split)
    stamp = stamp_of(loaded, "words alone", request, {}, *([] if train else [_OWN_MAJORITY]))
    scale = measures or Measures()
    made: list[Scored] = []
    if "closed" in request.tasks:
        made += words_alone(stamp, [r for r in asked if form_of(r) == "closed"], train)
    for form in _TEXTS:
        if form in request.tasks:
            made += texts_alone(stamp, form, [r for r in asked if form_of(r) == form], train, scale)
    if not made:
        what = f"{loaded.version} has nothing that words alone could answer in {', '.join(request.tasks)}"
        raise HwsiError(Reason.OPTION_INVALID, what, "choose among closed, open, report, caption")
    write(made, out)
    return made


def write(made: Sequence[Scored], out: Path) -> None:
    """Results and predictions, each file whole or not there."""
    for one in made:
        write_predictions(out / f"{one.name}.predictions.jsonl", one.predictions)
        write_result(out / f"{one.name}.json", one.result)


def _forms(records: Sequence[Record], tasks: Sequence[str]) -> frozenset[Form]:
    """What is asked of the language model."""
    return frozenset(form for form in (form_of(r) for r in records) if form in tasks)


def _model(request: Request, forms: frozenset[Form], notes: list[str]) -> tuple[Any, str]:
    """Model, processor and digest; none where nothing has to be said in words and the preset has no model."""
    if not forms:
        return None, ""
    try:
        model, processor, sha = load_model(request.model, request.device)
    except HwsiError as error:
        if error.reason != Reason.WEIGHTS_MISSING or forms - {"classify"}:
            raise
        notes.append(f"no likelihood: {error.what}")
        return None, ""
    return (model, processor), sha


def _space(request: Request, records: Sequence[Record], notes: list[str]) -> Space | None:
    forms = {form_of(r) for r in records}
    words = ("classify" in forms and "classify" in request.tasks) or ("report" in forms and "match" in request.tasks)
    if not words and "search" not in request.tasks:
        return None
    try:
        return load_space(request.model, device=request.device)
    except HwsiError as error:
        if error.reason != Reason.OPTION_INVALID:
            raise
        notes.append(f"no similarity: {error.what}")
        return None


def _ask(
    plan: Plan,
    forms: frozenset[Form],
    request: Request,
    labels: Labels,
    journal: Journal,
    base: tuple[Any, ...],
    say: Progress,
) -> list[dict[str, dict[str, Answers]]]:
    """The answers of every case, from the journal or from the model."""
    parts = []
    for i, case in enumerate(plan.cases):
        lent = plan.lent(i)
        try:
            shas = [content_sha256(path) for path in case.files]
            asked = [[r.key for r in records if form_of(r) in forms] for records in (case.records, lent)]
            key = key_of(*base, shas, asked)
            answers = journal.kept(case.name, key)
            if answers is None:
                slides = [read_features(path) for path in case.files]
                sessions = [study(slide, preset=request.model, device=request.device) for slide in slides]
                answers = ask_case(
                    case, lent, sessions, labels.question, forms=forms, seed=request.seed, orders=request.orders
                )
                journal.keep(case.name, key, answers)
        except HwsiError as error:
            if error.reason in (Reason.DISK_FULL, Reason.OUTPUT_UNWRITABLE):
                raise
            fault: Answers = {"fault": error.reason.value}
            answers = {"own": {r.key: fault for r in case.records}, "lent": {}}
        parts.append(answers)
        say("slides asked", i + 1, len(plan.cases))
    return parts


def _ask_blind(
    model: Any,
    records: Sequence[Record],
    forms: frozenset[Form],
    labels: Labels,
    journal: Journal,
    base: tuple[Any, ...],
    say: Progress,
) -> dict[str, str]:
    """Key of an open record -> the model's words without any slide; each wording is asked once."""
    said: dict[str, str] = {}
    words: dict[str, str] = {}
    for r in records:
        question = labels.question(r) if form_of(r) in _TEXTS and form_of(r) in forms else None
        if question is not None:
            words[r.key] = blind_question(r, question)
    distinct = sorted(set(words.values()))
    reader: WithoutSlide | None = None
    for start in range(0, len(distinct), _CHUNK):
        part = distinct[start : start + _CHUNK]
        name, key = f"without slide {start // _CHUNK}", key_of(*base, part)
        kept = journal.kept(name, key)
        if kept is None:
            reader = reader or WithoutSlide(*model)
            kept = {text: _say_blind(reader, text) for text in part}
            journal.keep(name, key, kept)
        said |= kept
        say("without slide", min(start + _CHUNK, len(distinct)), len(distinct))
    return {key: said[text] for key, text in words.items() if said[text] is not None}


def _say_blind(reader: WithoutSlide, text: str) -> str | None:
    try:
        return reader.say(text, max_new_tokens=studied.REPORT_TOKENS)
    except HwsiError:
        return None


def _in_words(
    ready: Ready,
    forms: frozenset[Form],
    own: Mapping[str, Answers],
    lent: Mapping[str, Answers],
    blind: Mapping[str, str],
    measures: Measures,
) -> list[Scored]:
    of = partial(_of_form, ready.plan.records)
    taught = partial(_of_form, ready.train)
    made: list[Scored] = []
    if "closed" in forms:
        made += closed_results(ready.stamp, of("closed"), own, lent, taught("closed"))
    for form in _TEXTS:
        if form in forms:
            made += text_results(ready.stamp, form, of(form), own, lent, blind, taught(form), measures)
    if "classify" in forms and own:
        for task, records in class_sets(of("classify")).items():
            made += class_results(ready.stamp, task, records, own, lent, taught("classify"))
    return made


def _by_vectors(ready: Ready, request: Request, files: Sequence[Path], train: Sequence[Record]) -> list[Scored]:
    indexed = ready.indexed
    if indexed is None:
        return []
    labelled = _of_form(ready.plan.records, "classify")
    taught = _of_form(train, "classify")
    made: list[Scored] = []
    for task, records in class_sets(labelled).items():
        if "classify" in request.tasks and ready.space is not None:
            prompts = request.prompts or finding.prompts_of(records)
            made += finding.similarity_result(ready.stamp, task, indexed, records, ready.space, prompts, taught)
    first = next(iter(class_sets(labelled).values()), [])
    if "classify" in request.tasks:
        learnt_from = _index_train(taught, files, request) if taught else None
        made += finding.probe_result(ready.stamp, "classify", indexed, first, taught, learnt_from)
    if "similar" in request.tasks:
        made += finding.similar_results(ready.stamp, indexed, first)
    reports = _of_form(ready.plan.records, "report")
    if "match" in request.tasks and ready.space is not None:
        texts = {r.key: ready.labels.fill(r, r.answer) for r in reports}
        made += finding.match_results(ready.stamp, indexed, reports, ready.space, texts)
    return made


def _index_train(taught: Sequence[Record], files: Sequence[Path], request: Request) -> finding.Indexed | None:
    """Training slides as vectors; None where there are no features of them."""
    try:
        return finding.index_cases(make_plan(taught, files), request.model, None)
    except HwsiError as error:
        if error.reason != Reason.FEATURES_MISSING:
            raise
        return None


def class_sets(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of classification by what they are to choose among: ``classify``, or ``classify, AREA known``.

    A record whose area is written ``X known`` is told X: its options are those of X.
    """
    found: dict[str, list[Record]] = {}
    for r in records:
        found.setdefault(f"classify, {r.area}" if r.area.endswith(" known") else "classify", []).append(r)
    return found


def _of_form(records: Sequence[Record], form: Form) -> list[Record]:
    return [r for r in records if form_of(r) == form]
