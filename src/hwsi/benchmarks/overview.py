"""All results of a run in one table: a line for each task and metric, with chance and every baseline beside it.

- The tables of ``tables.py`` have a column for each metric, so tasks cannot share one; here metrics are lines.
- Only the figures by which a task is known stand here (``HEADLINES``); all of them stand in the results.
"""

from collections.abc import Sequence

from hwsi.benchmarks.results import RunResult
from hwsi.benchmarks.tables import RUN, Row, Table

HEADLINES = {
    "closed": ("accuracy_micro", "accuracy_macro", "invalid_rate"),
    "open": ("exact_match", "bleu4", "rougeL", "c_index"),
    "report": ("fact_f1", "invented_per_report", "bleu4", "rougeL"),
    "caption": ("fact_f1", "bleu4", "rougeL"),
    "classify": ("balanced_accuracy", "f1_weighted"),
    "similar": ("Acc@1", "Acc@5", "MVAcc@5"),
    "search": ("hit@5",),
    "match": ("R@1", "R@5", "MRR"),
}
_JUDGED = ("wsi_precision", "wsi_relevance")
_FIRST = ("chance", "majority", "majority letter", "longest option", "same question", "most frequent")


def overview(results: Sequence[RunResult]) -> Table:
    """One table of all results; of benchmarks and versions that differ the lines say which.

    Raises:
        ValueError: no results.
    """
    first = results[0]
    one = all((r.benchmark, r.version_sha) == (first.benchmark, first.version_sha) for r in results)
    models = list(dict.fromkeys(r.model.partition(", ")[0] for r in results))
    named = list(dict.fromkeys(name for r in results for name in r.baselines))
    columns = [*(n for n in _FIRST if n in named), *(n for n in named if n not in _FIRST)]
    rows = []
    for r in results:
        where = "" if one else f"{r.benchmark} "
        model, _, way = r.model.partition(", ")
        whose = model if len(models) > 1 else ""
        told = ", ".join(part for part in (f"{where}{r.task}", way, r.profile, whose) if part)
        measured = dict.fromkeys(name for figures in (r.metrics, *r.baselines.values()) for name in figures)
        for metric in measured:
            if _is_headline(r.task, metric):
                cells = {name: figures[metric] for name, figures in r.baselines.items() if metric in figures}
                here = {"this run": r.metrics[metric]} if metric in r.metrics else {}
                rows.append(Row(f"{told}: {metric}", RUN, {**here, **cells}))
    versions = sorted({f"{r.benchmark}, version {r.version} ({r.version_sha[:12]})" for r in results})
    notes = dict.fromkeys(note for r in results for note in r.notes)
    lost: dict[str, int] = {}
    for r in results:
        lost |= {reason: max(n, lost.get(reason, 0)) for reason, n in r.unusable.items()}
    unusable = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items())) or "none"
    slides = max(r.patients for r in results)
    below = [f"intervals: 95%, patients resampled; up to {slides} patients; unusable records: {unusable}", *notes]
    title = "; ".join([*versions, ", ".join(models)])
    return Table(title, ("this run", *columns), tuple(rows), tuple(below))


def _is_headline(task: str, metric: str) -> bool:
    known = HEADLINES.get(task.partition(",")[0], ())
    return metric.partition("/")[0] in known if "match" in task else metric in known or metric in _JUDGED
