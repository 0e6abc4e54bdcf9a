"""WSI-Precision and WSI-Relevance of a run's texts, by a judge that is another metric profile each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hwsi.benchmarks.datasets.record import Record
from hwsi.benchmarks.metrics.judge import Judge, JudgeScores, ReplyCache, wsi_precision, wsi_relevance
from hwsi.benchmarks.metrics.judges import EndpointJudge, LocalJudge
from hwsi.benchmarks.running.sheet import Figures
from hwsi.benchmarks.statistics import Figure, SumFigure, ratio


def judged_by(model: str, url: str, key: str, cache: Path) -> dict[str, Figures]:
    """A profile of one judge.

    Args:
        model: name at the endpoint, or folder of a causal language model. url: of the endpoint; empty for a folder.
        key: sent to the endpoint. cache: folder of its replies.

    Raises:
        HwsiError: OPTION_INVALID (no address); when texts are judged JUDGE_UNREACHABLE, WEIGHTS_MISSING.
    """
    judge: Judge = EndpointJudge(url, model, key) if url else LocalJudge(model)

    def figures(records: Sequence[Record], given: Sequence[str | None]) -> Mapping[str, Figure]:
        truth, texts = [r.answer for r in records], [g or "" for g in given]
        replies = ReplyCache(cache)
        found: dict[str, Figure] = {}
        for name, metric in (("wsi_precision", wsi_precision), ("wsi_relevance", wsi_relevance)):
            scores = metric(judge, truth, texts, replies)
            found |= scores.figures(name) | _of_areas(name, scores, [r.area for r in records])
        return found

    return {f"judge {judge.name}": figures}


def _of_areas(name: str, scores: JudgeScores, areas: Sequence[str]) -> dict[str, Figure]:
    """The mean of each area, where there are several."""
    found: dict[str, Figure] = {}
    for area in sorted(set(areas)) if len(set(areas)) > 1 else ():
        member = np.array([a == area for a in areas], np.float64)
        rows = np.stack([np.array(scores.scores) * member, member], 1)
        found[f"{name}/{area}"] = SumFigure(rows, lambda sums: ratio(sums[0], sums[1]))
    return found
