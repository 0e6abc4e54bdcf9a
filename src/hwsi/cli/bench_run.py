"""``hwsi bench run``, ``table`` and ``compare``: a dataset before a model, and what came of it.

- ``run phantom`` and ``run phantom2`` draw their own slides; every other dataset, and a phantom cohort that is there,
  is read from its files and asked of the feature files that ``hwsi encode`` wrote.
- Rows that cannot be used, and records without features, are told on stderr, counted, and end nothing.
- A key for a judge's address is taken from ``HWSI_JUDGE_KEY``, never from the command line.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwsi.cli.bench_data import DataOpt, open_told
from hwsi.cli.console import bars, note, out, print_json
from hwsi.cli.options import DeviceOpt, JsonOpt
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.benchmarks.running.run import Progress
    from hwsi.benchmarks.running.sheet import Scored
    from hwsi.benchmarks.running.writing import Measures
    from hwsi.benchmarks.tables import Table

_DRAWN = ("phantom", "phantom2")
_TASKS = ("closed", "open", "report", "caption", "classify", "similar", "search", "match")
_PROFILES = ("coco", "wsillava", "hwsi")
_FORMS = ("terminal", "markdown", "latex")

FormOpt = Annotated[str, typer.Option("--form", help="terminal, markdown or latex.")]


def run(
    name: Annotated[str, typer.Argument(help="A dataset of hwsi bench list, a file of one, NAME=FILE, or a cohort.")],
    model: Annotated[str, typer.Option("--model", help="Preset of the model.")] = "nano",
    features: Annotated[
        list[Path] | None, typer.Option("--features", help="Job folder with the feature files of its slides.")
    ] = None,
    no_features: Annotated[
        bool, typer.Option("--no-features", help="Only what words alone reach; no model, no slides.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option("--tasks", help=f"all, or some of {', '.join(_TASKS)}, with commas between.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Whose records are asked, where there are splits.")] = "test",
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help=f"Of text metrics: {', '.join(_PROFILES)} (hwsi).")
    ] = None,
    bertscore: Annotated[
        Path | None, typer.Option("--bertscore", help="Folder of an encoder model: BERTScore of texts, too.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="WSI-Precision and -Relevance by the chat endpoint or folder MODEL.")
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="Address of an OpenAI-compatible endpoint that has the judge.")
    ] = None,
    slides: Annotated[int | None, typer.Option("--slides", min=1, help="Phantoms to draw (40; phantom2: 120).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which phantoms; order of shuffled options.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; a run that was stopped goes on there.")
    ] = None,
    data: DataOpt = None,
    device: DeviceOpt = "auto",
    json: JsonOpt = False,
) -> None:
    """Run a benchmark and print its table."""
    from tempfile import TemporaryDirectory

    asked = _tasks(tasks)
    if features and no_features:
        raise HwsiError(Reason.OPTION_INVALID, "--features and --no-features exclude one another", "give one of them")
    with bars(quiet=json) as progress, TemporaryDirectory(prefix="hwsi-bench-") as folder:
        where = output or Path(folder)
        if name in _DRAWN and not features and not no_features:
            if name == "phantom" and asked:
                made = _drawn_tasks(model, slides or 40, seed, where, asked, device, progress)
            else:
                _drawn(name, model, slides, seed, output, where, progress, json)
                return
        else:
            made = _dataset(
                name, model, features, no_features, asked or _TASKS, split, seed, where, data, device, progress,
                profile or ["hwsi"], bertscore, judge, judge_url,
            )  # fmt: skip
    results = [one.result for one in made]
    if json:
        from dataclasses import asdict

        print_json([asdict(result) for result in results])
        return
    from hwsi.benchmarks.overview import overview
    from hwsi.benchmarks.tables import rich_table

    out().print(rich_table(overview(results)))
    if output is not None:
        note(f"{output}: {len(results)} results with their predictions; hwsi bench table {output}")


def _tasks(told: str | None) -> tuple[str, ...]:
    """The tasks that are asked for; none if nothing is said."""
    if told is None:
        return ()
    names = _TASKS if told.strip() == "all" else tuple(part.strip() for part in told.split(","))
    strange = [n for n in names if n not in _TASKS]
    if strange:
        raise HwsiError(Reason.OPTION_INVALID, f"no task '{strange[0]}'", f"choose all, or of: {', '.join(_TASKS)}")
    return names


def _drawn(
    name: str, model: str, slides: int | None, seed: int, output: Path | None, where: Path, progress: "Progress",
    json: bool,
) -> None:  # fmt: skip
    """The two editions of the phantom benchmark, on slides that they draw."""
    from hwsi.benchmarks import phantom, phantom_second

    result: phantom.Result | phantom_second.Result
    if name == "phantom":
        result = phantom.run(model=model, slides=slides or 40, seed=seed, out=output, progress=progress)
    else:
        count = slides or 120
        result = phantom_second.run(
            model=model, slides=count, shifted=max(1, count // 5), seed=seed, out=where, progress=progress
        )
    if json:
        print_json(result.to_dict())
    else:
        out().print(result.table())


def _drawn_tasks(
    model: str, slides: int, seed: int, where: Path, tasks: tuple[str, ...], device: str, progress: "Progress"
) -> "list[Scored]":
    """All tasks on phantoms that are drawn and encoded first."""
    from hwsi.benchmarks.datasets.phantom import MANIFEST, load
    from hwsi.benchmarks.phantom_tasks import draw, run_phantom
    from hwsi.benchmarks.running.run import Request

    cohort, files = draw(where, slides, seed, model, progress)
    loaded = load((cohort / MANIFEST,))
    return run_phantom(loaded, cohort, files, where, Request(model, device, tasks, seed), progress=progress)


def _dataset(
    name: str, model: str, features: list[Path] | None, no_features: bool, tasks: tuple[str, ...], split: str,
    seed: int, where: Path, data: Path | None, device: str, progress: "Progress", profiles: list[str],
    bertscore: Path | None, judge: str | None, judge_url: str | None,
) -> "list[Scored]":  # fmt: skip
    """A dataset from its files."""
    from hwsi.benchmarks.phantom_tasks import run_phantom
    from hwsi.benchmarks.running.run import Request, run_without_features
    from hwsi.benchmarks.running.run import run as run_dataset
    from hwsi.inference.sources import feature_files

    if not features and not no_features:
        what = f"{name} is asked of slides, and no feature files are named"
        raise HwsiError(Reason.OPTION_INVALID, what, "give --features JOB (of hwsi encode --out JOB), or --no-features")
    measures = _measures(profiles, bertscore, judge, judge_url, where)
    loaded = open_told(name, data)
    request = Request(model, device, tasks, seed, split=split)
    if no_features:
        return run_without_features(loaded, where, request, measures=measures)
    files = feature_files(features or [])
    cohort = _cohort(name, data) if loaded.version.startswith("phantom@") else None
    if cohort is not None:
        made = run_phantom(loaded, cohort, files, where, request, scale=measures, progress=progress)
    else:
        made = run_dataset(loaded, files, where, request, measures=measures, progress=progress)
    for line in made[0].result.notes[len(loaded.notes) :]:  # the dataset's own are told already
        note(f"{loaded.version}: {line}")
    return made


def _cohort(name: str, data: Path | None) -> Path | None:
    """The folder with the truth of a phantom cohort that is named as any dataset is."""
    from hwsi.benchmarks.datasets.phantom import MANIFEST
    from hwsi.benchmarks.datasets.registry import data_root

    told = Path(name.partition("=")[2] or name)
    folders = (told, told.parent, *([root / name] if (root := data_root(data)) else []))
    return next((folder for folder in folders if (folder / MANIFEST).is_file()), None)


def _measures(
    profiles: list[str], bertscore: Path | None, judge: str | None, judge_url: str | None, where: Path
) -> "Measures":
    from hwsi.benchmarks.running.judging import judged_by
    from hwsi.benchmarks.running.writing import Measures

    strange = [p for p in profiles if p not in _PROFILES]
    if strange:
        raise HwsiError(Reason.OPTION_INVALID, f"no metric profile {strange[0]!r}", f"choose: {', '.join(_PROFILES)}")
    if judge_url and not judge:
        raise HwsiError(Reason.OPTION_INVALID, "--judge-url names no judge", "give --judge MODEL, too")
    more = None
    if bertscore is not None:
        from hwsi.benchmarks.metrics.bertscore import BertScore
        from hwsi.benchmarks.running.writing import as_figures

        more = as_figures(BertScore.load(bertscore).figures)
    judged = {}
    if judge:
        judged = judged_by(judge, judge_url or "", os.environ.get("HWSI_JUDGE_KEY", ""), where / "judge")
    return Measures(profiles=tuple(dict.fromkeys(profiles)), more=more, judged=judged)


def table(
    results: Annotated[list[Path], typer.Argument(help="Results of hwsi bench run, or folders of them.")],
    form: FormOpt = "terminal",
    one: Annotated[bool, typer.Option("--one", help="All tasks in one table, by their main metrics.")] = False,
) -> None:
    """Render results with intervals, baselines and the published figures, marked as quoted."""
    from hwsi.benchmarks.overview import overview
    from hwsi.benchmarks.results import read_result
    from hwsi.benchmarks.tables import tables_of

    if form not in _FORMS:
        raise HwsiError(Reason.OPTION_INVALID, f"no form {form!r}", "choose terminal, markdown or latex")
    read = [read_result(path) for path in _result_files(results)]
    for made in [overview(read)] if one else tables_of(read):
        _show(made, form)


def _show(made: "Table", form: str) -> None:
    from hwsi.benchmarks.tables import latex, markdown, rich_table

    if form == "terminal":
        out().print(rich_table(made))
    else:
        typer.echo((markdown if form == "markdown" else latex)(made))


def _result_files(paths: list[Path]) -> list[Path]:
    """Results as they are named, and those in folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = [p for p in sorted(path.glob("*.json")) if p.name != "result.json"] if path.is_dir() else [path]
        if not inside:
            raise HwsiError(Reason.DATA_MISSING, f"there is no result in {path}", "give the --out of hwsi bench run")
        found += inside
    return found


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Predictions of a run (*.predictions.jsonl).")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Those of another run of the same task.")],
    score: Annotated[
        str | None, typer.Option("--score", help="By which score; all that both have, if left out.")
    ] = None,
    json: JsonOpt = False,
) -> None:
    """Paired tests of two runs on the same rows: bootstrap, permutation, and McNemar's for right and wrong."""
    from hwsi.benchmarks.compare import compare_runs, comparison_table

    found = compare_runs(first, second, score)
    if json:
        from dataclasses import asdict

        print_json({name: asdict(one) for name, one in found.items()})
    else:
        out().print(comparison_table(found, first, second))
