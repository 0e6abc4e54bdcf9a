"""Writes cohorts of the second edition, whole or as features only, and reads them back.

- A cohort of either edition can be *regenerated*: a slide is drawn from its seed, encoded, and its pixels are deleted;
  truth, patches, cells and features stay. A run that was stopped goes on where it was: what is whole is skipped.
- Slides and truths are those that :func:`hwsi.phantom.cohort.write_phantom` writes; the manifest has two more columns.
"""

import csv
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from hwsi.phantom.cohort import MANIFEST, is_whole, write_phantom
from hwsi.phantom.sampling import SIDES_UM, Plan
from hwsi.phantom.second.change import Change
from hwsi.phantom.second.drafts import Draft, draw_drafts
from hwsi.phantom.second.shifts import look_of

_COLUMNS = ("slide", "split", "organ", "diagnosis", "seed", "patient", "twin_of", "family", "axis")

Say = Callable[[int, int], None]
Encode = Callable[[Path], object]


def write_draft(folder: Path, draft: Draft, split: str) -> Path:
    """Draw, paint, measure and write one slide with its truth. Raises as ``write_phantom``."""
    path, spec = folder / draft.file, draft.plan.spec
    write_phantom(path, spec, look=look_of(spec.seed, draft.axis), held_out=split != "train", change=draft.change)
    return path


def write_second(
    folder: Path, slides: int, seed: int, *, split: str, axis: str = "", workers: int = 1,
    sides_um: tuple[int, int] = SIDES_UM, progress: Say | None = None,
) -> list[Draft]:  # fmt: skip
    """Write a cohort of the second edition; slides that are whole stay as they are.

    Args:
        folder: made if absent. slides, seed, split, axis, sides_um: as of ``draw_drafts``.
        workers: processes. progress: called with (slides done, slides).
    """
    drafts = draw_drafts(slides, seed, split, axis, sides_um)
    write_manifest(folder, drafts, split)
    missing = [d for d in drafts if not is_whole(folder / d.file, d.plan.spec, d.change)]
    done = len(drafts) - len(missing)
    say = progress or (lambda done, total: None)
    say(done, len(drafts))
    if workers == 1:
        for draft in missing:
            write_draft(folder, draft, split)
            done += 1
            say(done, len(drafts))
        return drafts
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(write_draft, folder, d, split) for d in missing]):
            job.result()
            done += 1
            say(done, len(drafts))
    return drafts


def write_manifest(folder: Path, drafts: Sequence[Draft], split: str) -> None:
    """``manifest.csv`` of a cohort, as ``hwsi.phantom.cohort.read_manifest`` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for d in drafts:
        spec = d.plan.spec
        row = (d.file, split, spec.organ, spec.diagnosis, spec.seed, d.plan.patient_id, d.plan.twin_of)
        writer.writerow((*row, d.family, d.axis))
    part = folder / f".{MANIFEST}.part"
    part.write_text(text.getvalue(), encoding="utf-8")
    os.replace(part, folder / MANIFEST)


def first_edition(plans: Sequence[Plan]) -> list[Draft]:
    """Plans of the first edition, to be regenerated."""
    return [Draft(plan, NOTHING) for plan in plans]


NOTHING = Change()


def regenerate(folder: Path, draft: Draft, split: str, encode: Encode, features: Path) -> bool:
    """Have the truth and the features of a slide, and no pixels.

    Args:
        folder: of the cohort. encode: writes the feature file of a slide, ``features``, whole or not at all.

    Returns:
        Whether anything had to be done. Pixels are deleted last, so a run that is killed in between encodes again.
    """
    path, spec = folder / draft.file, draft.plan.spec
    change = draft.change if draft.family else None
    truth = is_whole(path, spec, change, pixels=False)
    if not (truth and features.is_file()):
        if not is_whole(path, spec, change):
            if draft.family:
                write_draft(folder, draft, split)
            else:
                write_phantom(path, spec, held_out=split != "train")
        encode(path)
    elif not path.exists():
        return False
    path.unlink()
    return True
