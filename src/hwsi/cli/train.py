"""``hwsi train``: the stages, one verb each.

- A stage is told by one YAML file or the name of a preset; ``--set`` replaces single settings of it, ``--start`` and
  ``--out`` say from where to where.
- The same call again goes on where a run stopped.
- On several processes (``torchrun``) the first one alone speaks.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwsi.cli.console import bars, note, one_line, out, print_json
from hwsi.cli.options import JsonOpt

if TYPE_CHECKING:
    from hwsi.training.stages.checkpoint import StageRecord

app = typer.Typer(help="Train a model, stage by stage.", no_args_is_help=True, rich_markup_mode=None)

ConfigOpt = Annotated[str, typer.Option("--config", help="A YAML file, or a preset such as nano-instruct.")]
OutOpt = Annotated[Path, typer.Option("--out", help="Folder of this stage's output.")]
StartOpt = Annotated[Path | None, typer.Option("--start", help="Output folder of the stage before.")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting instead of the file's; repeatable.")
]
DryOpt = Annotated[
    bool, typer.Option("--dry-run", help="Check everything; tell steps, tokens, memory and time; train nothing.")
]


@app.command("pretrain")
def pretrain(
    config: ConfigOpt, output: OutOpt, settings: SetOpt = None, dry_run: DryOpt = False, json: JsonOpt = False
) -> None:
    """Patch encoder and text tower, from images and captions."""
    from hwsi.training.stages.config import read_config
    from hwsi.training.stages.pretrain import run_pretrain
    from hwsi.training.stages.pretrain_config import PretrainConfig

    told = read_config(config, PretrainConfig, _settings(settings))
    if dry_run:
        from hwsi.training.stages.plan_contrast import plan_pretrain

        _plan(plan_pretrain(told), json)
        return
    _done(run_pretrain(told, output), output, json)


@app.command("align")
def align(
    config: ConfigOpt, output: OutOpt, start: StartOpt = None, settings: SetOpt = None, dry_run: DryOpt = False,
    json: JsonOpt = False,
) -> None:  # fmt: skip
    """Stage 1: tissue and words of four scales in one space."""
    from hwsi.training.stages.align import run_align
    from hwsi.training.stages.align_config import AlignConfig
    from hwsi.training.stages.config import read_config

    told = read_config(config, AlignConfig, _settings(settings, start=start))
    if dry_run:
        from hwsi.training.stages.plan_contrast import plan_align

        _plan(plan_align(told), json)
        return
    _done(run_align(told, output), output, json)


@app.command("project")
def project(
    config: ConfigOpt, output: OutOpt, start: StartOpt = None, settings: SetOpt = None, dry_run: DryOpt = False,
    json: JsonOpt = False,
) -> None:  # fmt: skip
    """Stage 2: the projectors learn to speak to the language model."""
    from hwsi.training.stages.config import ProjectConfig, read_config
    from hwsi.training.stages.project import gather_reports, run_project

    told = read_config(config, ProjectConfig, _settings(settings, start=start))
    if dry_run:
        from hwsi.training.stages.plan import plan_stage

        _plan(plan_stage(told, gather_reports), json)
        return
    with bars(quiet=_quiet(json)) as progress:
        record = run_project(told, output, progress=progress)
    _done(record, output, json)


@app.command("instruct")
def instruct(
    config: ConfigOpt, output: OutOpt, start: StartOpt = None, settings: SetOpt = None,
    continue_from: Annotated[
        Path | None, typer.Option("--continue-from", help="A trained model that is to learn a new task.")
    ] = None,
    replay: Annotated[
        float | None, typer.Option("--replay", min=0, max=0.99, help="Share of rows from the tasks before.")
    ] = None,
    dry_run: DryOpt = False, json: JsonOpt = False,
) -> None:  # fmt: skip
    """Stage 3: questions and answers; also a new task for a trained model."""
    from hwsi.training.stages.config import InstructConfig, read_config
    from hwsi.training.stages.continual import forgetting
    from hwsi.training.stages.instruct import gather_conversations, run_instruct

    changes = _settings(settings, start=continue_from or start, replay=replay)
    if continue_from is not None:
        changes.setdefault("former", _stage_of(continue_from))
    told = read_config(config, InstructConfig, changes)
    if dry_run:
        from hwsi.training.stages.plan import plan_stage

        _plan(plan_stage(told, gather_conversations), json)
        return
    with bars(quiet=_quiet(json)) as progress:
        record = run_instruct(told, output, progress=progress)
    _done(record, output, json)
    if not json and _speaks():
        for task in forgetting(record):
            line = f"{task.task}: {task.before:.1%} of answers right before, {task.after:.1%} after"
            out().print(f"{line} (forgotten {task.lost:+.1%})", markup=False)


@app.command("prefer")
def prefer(
    config: ConfigOpt, output: OutOpt, start: StartOpt = None, settings: SetOpt = None, dry_run: DryOpt = False,
    json: JsonOpt = False,
) -> None:  # fmt: skip
    """Stage 4: human feedback, as pairs of answers."""
    from hwsi.training.stages.config import PreferConfig, read_config
    from hwsi.training.stages.prefer import PreferTrainer, gather_preferences, run_prefer

    told = read_config(config, PreferConfig, _settings(settings, start=start))
    if dry_run:
        from hwsi.training.stages.plan import plan_stage

        extra = {"beta": told.beta, "reference": None}
        _plan(plan_stage(told, gather_preferences, PreferTrainer, extra), json)
        return
    with bars(quiet=_quiet(json)) as progress:
        record = run_prefer(told, output, progress=progress)
    _done(record, output, json)


@app.command("expert")
def expert(
    model: Annotated[Path, typer.Option("--model", help="A stage's output, or a model's folder.")],
    cohort: Annotated[Path, typer.Option("--cohort", help="Folder of phantom slides, with their truth.")],
    features: Annotated[Path, typer.Option("--features", help="Job folder with their feature files.")],
    output: Annotated[Path, typer.Option("--out", help="The JSONL of preferences to write.")],
    slides: Annotated[int, typer.Option("--slides", min=1, help="So many slides, at most.")] = 100,
    questions: Annotated[int, typer.Option("--questions", min=0, help="Of each slide, besides its report.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of slides, questions and answers.")] = 0,
) -> None:
    """A simulated expert, who knows the truth of phantom slides, ranks pairs of sampled answers."""
    from hwsi.benchmarks.facts import facts_of, score
    from hwsi.training.stages.expert import Judged, write_verdicts

    def judge(text: str, truth: dict[str, Any], label_of: Any) -> Judged:
        found = score(text, facts_of(truth, label_of))
        return Judged(right=sum(found.found.values()), invented=sum(found.invented.values()))

    with bars() as progress:
        written = write_verdicts(
            model, cohort, features, output, judge=judge, slides=slides, questions=questions, seed=seed,
            progress=progress,
        )  # fmt: skip
    out().print(one_line(f"{output}: {written.pairs} pairs of {written.asked} questions; the others were ties"))


def _settings(told: list[str] | None, **options: Any) -> dict[str, Any]:
    import yaml

    from hwsi.errors import HwsiError, Reason

    found: dict[str, Any] = {}
    for setting in told or []:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise HwsiError(Reason.OPTION_INVALID, f"--set {setting!r} sets nothing", "write KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise HwsiError(Reason.OPTION_INVALID, f"--set {setting!r} is no value", "quote it") from error
    return found | {name: value for name, value in options.items() if value is not None}


def _stage_of(folder: Path) -> str:
    """The stage that a model's folder is of; a bare model's is unknown."""
    from hwsi.training.stages.checkpoint import STAGE_FILE, read_record

    return read_record(folder).stage if (folder / STAGE_FILE).is_file() else "external"


def _speaks() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _quiet(json: bool) -> bool:
    return json or not _speaks()


def _plan(plan: Any, json: bool) -> None:
    if not _speaks():
        return
    if json:
        print_json(plan.to_dict())
        return
    for line in plan.lines():
        out().print(line, markup=False)


def _done(record: "StageRecord", folder: Path, json: bool) -> None:
    if not _speaks():
        return
    if json:
        print_json(record.model_dump(mode="json", by_alias=True))
        return
    for told in record.notes:
        note(f"hwsi: note: {told}")
    came = " > ".join([*(parent.stage for parent in record.parents), record.stage])
    note(f"hwsi: {came}: started from {record.given.sha256[:12]}, gave {record.gave[:12]}, {record.steps} steps")
    figures = {name: value for name, value in record.metrics.items() if isinstance(value, float)}
    held = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    out().print(one_line(f"{folder} is trained" + (f"; held out: {held}" if held else "")), markup=False)
