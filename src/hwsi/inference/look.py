"""A slide looked at part by part: most regions are never encoded if the first ones answer the question.

- First all regions are seen at low magnification (``slide/glance.py``), and the few that are full of tissue and nuclei,
  in focus, and together cover what there is, are encoded.
- Where the model is not sure of its answer then, it looks further: twice as much each time. Regions that look like
  those near the question's words come first, since their own features are not there yet. A report is never looked at.
- What was encoded stays in the job's journal; whoever encodes the whole slide later goes on from it.

Notation: R regions, of which k were read.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsi.encoding.encode import find_tree
from hwsi.encoding.part import encode_part
from hwsi.encoding.progress import Progress
from hwsi.encoding.stack import Stack, load_stack
from hwsi.errors import HwsiError, Reason
from hwsi.hierarchy.selection import select_regions
from hwsi.hierarchy.tree import Hierarchy
from hwsi.inference.guided import question_relevance
from hwsi.inference.loading import load_model
from hwsi.inference.seen import Seen, read_seen
from hwsi.inference.session import session_of, study
from hwsi.inference.studied import StudiedSlide
from hwsi.presets import Preset, load_preset
from hwsi.slide import Slide, Tissue, open_slide, region_glance, slide_name

Float64 = NDArray[np.float64]
Int = NDArray[np.int64]

SURE = 0.9
"""Confidence from which on no further look is needed; the calibrated one where the model has it."""

_ALIKE = 0.1
"""How near in looks (cosine) a region lends its nearness to the question to another."""


def look(
    slide: str | Path,
    question: str,
    choices: Sequence[str] | None = None,
    *,
    share: float,
    preset: str = "nano",
    out: str | Path | None = None,
    mpp: float | None = None,
    mask: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> StudiedSlide:
    """Read as much of a slide as a question needs, beginning with a share of its regions.

    Args:
        slide: a path. question, choices: as of :meth:`StudiedSlide.ask`, which it is ready for.
        share: of the regions, in (0, 1].
        preset, out, mpp, mask, device, progress: as of :func:`hwsi.inference.session.study`; a slide that ``out`` holds
            whole is read from there.

    Returns:
        The slide as far as it was read: ``looked_at`` says how far.

    Errors: option_invalid for a share that is none, or a preset whose features are fused at the end; as of ``study``.
    """
    if not 0 < share <= 1:
        raise HwsiError(Reason.OPTION_INVALID, f"a look at {share:g} of the slide", "give a share above 0, at most 1")
    chosen = load_preset(preset)

    def all_of_it() -> StudiedSlide:
        return study(slide, preset=preset, out=out, mpp=mpp, mask=mask, device=device, progress=progress)

    whole = None if out is None else Path(out) / "features" / f"{slide_name(Path(slide))}.h5"
    if share == 1 or (whole is not None and whole.is_file()):
        return all_of_it()
    if chosen.as_released or chosen.encoders.fusion:
        what = f"preset {chosen.name} fuses the features of all regions: it has no look at some of them"
        raise HwsiError(Reason.OPTION_INVALID, what, "leave out --look")
    opened = open_slide(slide, mpp=mpp)
    try:
        loaded = load_model(preset, device)  # weights that are missing are told before the long work
        with tempfile.TemporaryDirectory(prefix="hwsi-") as aside:
            job = Path(aside if out is None else out)
            reader = _Reader(opened, chosen, job, mask, load_stack(chosen, device), progress)
            while True:
                seen = reader.read(share, question, choices or ())
                if seen is None:
                    break
                session = session_of(loaded, preset, seen.features, slide=opened)
                session.looked_at *= seen.share
                if seen.done < seen.total:
                    session.warnings = (*session.warnings, _told(seen))
                if seen.done == seen.total or _is_sure(session, question, choices):
                    return session
                share = min(1.0, 2 * share)
    except BaseException:
        opened.close()
        raise
    opened.close()
    return all_of_it()


class _Reader:
    """Chooses regions and encodes them."""

    def __init__(
        self, slide: Slide, preset: Preset, job: Path, mask: str | Path | None, stack: Stack, progress: Progress | None
    ) -> None:
        slide.check()
        self._slide, self._preset, self._job, self._mask = slide, preset, job, mask
        self._stack, self._progress = stack, progress
        self._found: tuple[Tissue, Hierarchy] = find_tree(slide, preset, mask)
        regions = self._found[1].regions
        rows = region_glance(slide, regions.xy, regions.size0)
        spread = rows.std(0)
        self._looks: Float64 = (rows - rows.mean(0)) / np.where(spread > 0, spread, 1)
        quality = regions.tissue * regions.focus * (1 - regions.pen)
        self._promise: Float64 = _scaled(quality) + _scaled(rows[:, 0]) + _scaled(rows[:, 3])
        self._chosen: Int = np.zeros(0, np.int64)
        self._seen: Seen | None = None

    def read(self, share: float, question: str, choices: Sequence[str]) -> Seen | None:
        """Read on until so much of the slide is read; None if another process has made the whole meanwhile."""
        tree = self._found[1]
        budget = max(1, round(share * len(tree.regions)))
        rest = np.setdiff1d(np.arange(len(tree.regions)), self._chosen)
        scores = self._promise if self._seen is None else self._promise + self._nearness(self._seen, question, choices)
        more = select_regions(scores[rest], self._looks[rest], max(0, budget - len(self._chosen)))
        self._chosen = np.union1d(self._chosen, rest[more])
        encode_part(
            self._slide, self._job, tree, self._chosen.tolist(),
            preset=self._preset, stack=self._stack, mask=self._mask, progress=self._progress,
        )  # fmt: skip
        seen = read_seen(self._slide, self._job, self._found, preset=self._preset, stack=self._stack, mask=self._mask)
        self._seen = seen
        return seen

    def _nearness(self, seen: Seen, question: str, choices: Sequence[str]) -> Float64:
        """How near to the question each region (R,) may be, by those that look alike and were read."""
        try:
            known = question_relevance(seen.features, question, choices)
        except HwsiError:  # a preset without a text encoder: what covers the slide has to do
            return np.zeros(len(self._looks))
        unit = self._looks / np.maximum(np.linalg.norm(self._looks, axis=1, keepdims=True), 1e-9)
        alike = np.exp((unit @ unit[seen.regions].T - 1) / _ALIKE)
        return np.asarray(alike @ known / np.maximum(alike.sum(1), 1e-9))


def _is_sure(session: StudiedSlide, question: str, choices: Sequence[str] | None) -> bool:
    answer = session.ask(question, choices, evidence=False)
    return (answer.confidence if answer.calibrated is None else answer.calibrated) >= SURE


def _told(seen: Seen) -> str:
    return (
        f"Looked at {100 * seen.share:.0f} % of the tissue ({seen.done} of {seen.total} regions), chosen at low "
        "magnification; the rest was not read."
    )


def _scaled(x: NDArray[np.floating]) -> Float64:
    """To [0, 1]."""
    spread = float(np.ptp(x))
    return np.asarray((x - x.min()) / spread if spread > 0 else np.zeros(len(x)), np.float64)
