"""Writes phantom slides with their truth, one or a whole cohort.

- A slide is whole when its ``truth.json`` is there, asks for the same, and names the bytes of its other files: it is
  written last, and everything is written to a temporary folder and renamed.
- ``write_cohort`` skips slides that are whole, so a run that was stopped goes on where it was.
- ``digest`` in the truth names what was drawn (cells, compartments, attributes), whatever the pixels' encoder does.
"""

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwsi.errors import HwsiError, Reason
from hwsi.phantom.drawing import Drawing
from hwsi.phantom.measure import ARTEFACTS, CONTENTS, PATCH_UM, PATTERNS, REGION_UM
from hwsi.phantom.questions import make_questions
from hwsi.phantom.report import patch_phrases, region_clauses, region_sentences, write_report
from hwsi.phantom.sampling import SIDES_UM, Plan, draw_plans
from hwsi.phantom.spec import Spec
from hwsi.phantom.truth import SCHEMA, Measured, Truth, load_truth, measure
from hwsi.phantom.wordings import NEVER_REASONS

if TYPE_CHECKING:
    from hwsi.phantom.develop import Look
    from hwsi.phantom.second.change import Change

MPP = 0.5
MANIFEST = "manifest.csv"
_COLUMNS = ("slide", "split", "organ", "diagnosis", "seed", "patient", "twin_of")


def make_truth(slide_id: str, spec: Spec, drawing: Drawing, measured: Measured, *, held_out: bool) -> Truth:
    """Put measured attributes into words: the record of ``truth.json`` and the arrays beside it."""
    sentences = region_sentences(spec, measured)
    report, units, caption = write_report(spec, measured)
    slide = {
        **_plain(measured.slide),
        "unanswerable": list(NEVER_REASONS),
    }
    regions = [
        {
            "grid": list(r.grid),
            "box": [round(v / MPP) for v in r.box_um],
            "tissue": round(r.tissue, 4),
            "attrs": _plain(r.attrs),
            "clauses": [list(c) for c in region_clauses(r.attrs, spec.organ)] if r.grid in sentences else [],
            "sentence": sentences.get(r.grid, ""),
            "patches": [list(p) for p in r.patches],
        }
        for r in measured.regions
    ]
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "slide_id": slide_id,
        "seed": spec.seed,
        "spec": _plain(spec.to_dict()),
        "organ": spec.organ,
        "diagnosis": spec.diagnosis,
        "malignant": spec.malignant,
        "mpp": MPP,
        "width0": round(spec.width_um / MPP),
        "height0": round(spec.height_um / MPP),
        "patch_um": PATCH_UM,
        "region_um": REGION_UM,
        "codes": {"artefact": list(ARTEFACTS), "pattern": list(PATTERNS), "content": list(CONTENTS)},
        "slide": slide,
        "regions": regions,
        "report": report,
        "report_units": [u.to_dict() for u in units],
        "caption": caption,
        "questions": make_questions(slide_id, spec, measured, sentences, held_out=held_out),
    }
    record["digest"] = _digest(drawing, slide)
    patches = {**measured.patches, "phrase": np.array(patch_phrases(spec, measured.patches), np.str_)}
    return Truth(record, patches, cell_arrays(drawing))


def cell_arrays(drawing: Drawing) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``cells.npz``, in level-0 pixels; ``ignored``: under an artefact, or its centre is outside."""
    from hwsi.phantom.cells import contours_of

    cells = drawing.cells
    xy = np.stack([cells["x_um"], cells["y_um"]], 1)
    outside = (xy < 0) | (xy >= (drawing.width_um, drawing.height_um))
    ignored: NDArray[np.bool_] = np.asarray(outside.any(1))
    for mask in drawing.artefacts.values():
        row = np.clip(xy[:, 1] * mask.shape[0] / drawing.height_um, 0, mask.shape[0] - 1).astype(np.int64)
        col = np.clip(xy[:, 0] * mask.shape[1] / drawing.width_um, 0, mask.shape[1] - 1).astype(np.int64)
        ignored |= mask[row, col]
    return {
        "xy": (xy / MPP).astype(np.float32),
        "contour": (contours_of(cells) / MPP).astype(np.float32),
        "kind": cells["kind"].astype(np.uint8),
        "figure": cells["figure"].astype(np.int32),
        "neoplastic": cells["neoplastic"].astype(np.bool_),
        "grazed": cells["grazed"].astype(np.bool_),
        "ignored": ignored,
    }


def _digest(drawing: Drawing, attributes: dict[str, Any]) -> str:
    names = ("x_um", "y_um", "ra_um", "rb_um", "kind", "figure", "neoplastic")
    content = sha256(np.ascontiguousarray(drawing.compartments).tobytes())
    for name in names:
        # float32 to a hundredth of a micron: what another machine's last bit may not change
        column = np.round(drawing.cells[name].astype(np.float64) * 100).astype(np.int64)
        content.update(column.tobytes())
    content.update(json.dumps(attributes, sort_keys=True).encode())
    return content.hexdigest()[:32]


def _plain(value: Any) -> Any:
    """JSON-ready data: floats of 6 digits, no nan (None), tuples as lists."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def write_phantom(
    path: str | Path, spec: Spec, *, look: "Look | None" = None, held_out: bool = True, change: "Change | None" = None
) -> Truth:
    """Draw, paint, measure and write one slide with its truth.

    Args:
        path: ``NAME.svs`` or ``NAME.tiff``; ``NAME.truth.json``, ``.patches.npz`` and ``.cells.npz`` come beside it.
        look: stain and scanner; None draws them from the seed.
        held_out: whether wordings that training never sees may be used.
        change: what the second edition does to the drawing; the truth is measured after it.

    Raises:
        HwsiError: option_invalid for another suffix, output_unwritable, disk_full. Nothing half-written stays.
    """
    from hwsi.phantom.develop import Look
    from hwsi.phantom.draw import draw
    from hwsi.phantom.paint import paint
    from hwsi.phantom.write import write_slide

    path = Path(path)
    look = look or Look.from_seed(spec.seed)
    if path.suffix.lower() not in (".svs", ".tiff", ".tif"):
        raise HwsiError(Reason.OPTION_INVALID, f"cannot write {path.name}", "name it OUT.svs or OUT.tiff")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.part-", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        drawing = draw(spec)
        if change is not None:
            drawing = change.before(drawing, spec.seed)
        image = paint(drawing, spec, look)
        if change is not None:
            drawing, image = change.after(drawing, image)
        truth = make_truth(path.stem, spec, drawing, measure(drawing, spec), held_out=held_out)
        if change is not None:
            truth.record.update(change=change.to_dict(), second=change.measure(drawing))
        write_slide(folder / path.name, image, mpp=MPP, quality=look.jpeg_quality, description=path.stem)
        _write_npz(folder / f"{path.stem}.patches.npz", truth.patches)
        _write_npz(folder / f"{path.stem}.cells.npz", truth.cells)
        truth.record["files"] = {f.name: _sha(f) for f in sorted(folder.iterdir())}
        last = folder / f"{path.stem}.truth.json"
        last.write_text(json.dumps(truth.record, ensure_ascii=False, indent=1), encoding="utf-8")
        _settle(folder, path.parent, last.name)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return truth


def _unwritable(path: Path, error: OSError) -> HwsiError:
    import errno

    if error.errno == errno.ENOSPC:
        return HwsiError(Reason.DISK_FULL, f"no space left for {path}", "free some space and run it again")
    return HwsiError(Reason.OUTPUT_UNWRITABLE, f"cannot write {path}: {error}", "choose a folder you may write to")


def _settle(folder: Path, parent: Path, last: str) -> None:
    """Sync and rename; an old truth goes first and the new one comes last, so that a truth never stands alone."""
    (parent / last).unlink(missing_ok=True)
    names = sorted(f.name for f in folder.iterdir() if f.name != last)
    for name in [*names, last]:
        with (folder / name).open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(folder / name, parent / name)


def _sha(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _write_npz(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Like ``numpy.savez_compressed``, without the clock in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def is_whole(path: Path, spec: Spec, change: "Change | None" = None, *, pixels: bool = True) -> bool:
    """Whether the slide at ``path`` is there with all its files, their bytes as its truth says, for this request.

    Without ``pixels`` the slide itself may be gone: features and truth are kept, pixels are not.
    """
    try:
        record = load_truth(path)
    except HwsiError:
        return False
    files = record.get("files", {})
    asked = {"spec": _plain(spec.to_dict()), "change": None if change is None else change.to_dict()}
    if any(record.get(name) != value for name, value in asked.items()) or path.name not in files:
        return False
    needed = {name: sha for name, sha in files.items() if pixels or name != path.name}
    return all((path.parent / name).is_file() and _sha(path.parent / name) == sha for name, sha in needed.items())


def _write_one(folder: Path, plan: Plan, held_out: bool) -> str:
    write_phantom(folder / (plan.slide_id + plan.suffix), plan.spec, held_out=held_out)
    return plan.slide_id


def write_cohort(
    folder: str | Path,
    slides: int,
    seed: int,
    *,
    split: str,
    workers: int = 1,
    sides_um: tuple[int, int] = SIDES_UM,
    progress: Callable[[int, int], None] | None = None,
) -> list[Plan]:
    """Write a cohort and its ``manifest.csv``; slides that are whole are kept as they are.

    Args:
        folder: made if absent.
        slides: how many, twins included; a longer cohort keeps the slides of a shorter one.
        seed: of the cohort.
        split: one of ``sampling.SPLITS``; only ``train`` is kept from the held-out wordings.
        workers: processes.
        sides_um: smallest and largest side of a slide.
        progress: called with (slides done, slides).

    Returns:
        The plans, in order of the manifest.
    """
    folder = Path(folder)
    if slides < 1 or workers < 1:
        raise HwsiError(Reason.OPTION_INVALID, f"slides {slides}, workers {workers}", "both are at least 1")
    plans = draw_plans(slides, seed, split, sides_um)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_manifest(folder, plans, split)
    except OSError as error:
        raise _unwritable(folder, error) from None
    missing = [p for p in plans if not is_whole(folder / (p.slide_id + p.suffix), p.spec)]
    for plan in missing:  # what a run that was killed left behind
        for rest in folder.glob(f".{plan.slide_id}.part-*"):
            shutil.rmtree(rest, ignore_errors=True)
    done = len(plans) - len(missing)
    if progress:
        progress(done, len(plans))
    held_out = split != "train"
    if workers == 1:
        for plan in missing:
            _write_one(folder, plan, held_out)
            done += 1
            if progress:
                progress(done, len(plans))
        return plans
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_write_one, folder, plan, held_out) for plan in missing]
        for job in as_completed(jobs):
            job.result()
            done += 1
            if progress:
                progress(done, len(plans))
    return plans


def _write_manifest(folder: Path, plans: list[Plan], split: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for p in plans:
        name = p.slide_id + p.suffix
        writer.writerow((name, split, p.spec.organ, p.spec.diagnosis, p.spec.seed, p.patient_id, p.twin_of))
    part = folder / f".{MANIFEST}.part"
    part.write_text(text.getvalue(), encoding="utf-8")
    os.replace(part, folder / MANIFEST)


def read_manifest(folder: str | Path) -> list[dict[str, str]]:
    """Rows of a cohort's manifest. Raises: slide_missing."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise HwsiError(Reason.SLIDE_MISSING, f"no {MANIFEST} in {folder}", "make it with hwsi phantom cohort")
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))
