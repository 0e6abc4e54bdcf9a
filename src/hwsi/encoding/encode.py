"""One slide, from pixels to its feature file.

- Open, find tissue, lay the grid, encode region after region into a journal, then the tokens of regions and of
  the slide, then one file.
- A run may be killed at any moment: the next one goes on from the journal, and the file has the same bytes.
- A file that is whole and was made in the same way is not made again.
"""

import hashlib
import json
import os
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import hwsi
from hwsi.encoders.summaries import summarise_tissue
from hwsi.encoding.given import Given, Laid, lay_given
from hwsi.encoding.journal import Journal, JournalCells
from hwsi.encoding.memory import give_back
from hwsi.encoding.pixels import plan_regions
from hwsi.encoding.precision import in_precision
from hwsi.encoding.progress import Progress, silent
from hwsi.encoding.regions import NOTHING, cell_rows, encode_region_tokens, encode_regions
from hwsi.encoding.released import lay_released, with_quadruplet, write_layout
from hwsi.encoding.stack import Stack, load_stack
from hwsi.encoding.timing import Timings
from hwsi.encoding.tuning import tune
from hwsi.encoding.turns import Turn, at_once
from hwsi.errors import HwsiError, Reason
from hwsi.features.file import check_features, read_features, write_features
from hwsi.features.slide_features import SlideFeatures
from hwsi.hierarchy.grid import build_grid
from hwsi.hierarchy.selection import described
from hwsi.hierarchy.tree import Hierarchy
from hwsi.presets import Preset, load_preset

if TYPE_CHECKING:
    from hwsi.slide import Slide, Tissue

_REVISION = 3
"""Of the way from pixels to features; raise it when the same slide and encoders give other features."""

_MOST_OBLONG = 1.1
"""Sides of a pixel may differ by this factor: no stretch of tissue that cutting and staining do not make, too."""


def encode_slide(
    slide: "Slide | str | Path",
    *,
    preset: str | Preset = "nano",
    out: str | Path | None = None,
    mask: str | Path | None = None,
    mpp: float | None = None,
    stack: Stack | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    timings: Timings | None = None,
) -> SlideFeatures:
    """Encode a slide at four scales, or read what was encoded before.

    Args:
        slide: an open slide, or a path.
        preset: name of a preset, path of one, or one.
        out: job folder; the file is ``out/features/<slide>.h5``. Without it nothing is kept on disk.
        mask: an image or a GeoJSON of the user that says what is tissue.
        mpp: micrometres per level-0 pixel, if the file does not tell or is wrong; only with a path.
        stack: encoders to use instead of those that the preset names, on their own device.
        device: where the encoders of the preset compute: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.
        progress: is told how far it is.
        timings: collects where the time goes.

    Raises:
        HwsiError: what :func:`hwsi.slide.open_slide` and ``find_tissue`` say; MPP_MISSING, TOO_COARSE,
            TOO_SMALL, NO_TISSUE, FLUORESCENCE, PEN_MARKED; what :func:`hwsi.encoding.stack.load_stack` says;
            FEATURES_MISMATCH if the job has a file of another slide of that name; DISK_FULL, OUTPUT_UNWRITABLE.
    """
    folder = tempfile.TemporaryDirectory(prefix="hwsi-") if out is None else nullcontext(out)
    with folder as job:
        return read_features(
            encode_to_file(
                slide, job, preset=preset, mask=mask, mpp=mpp, stack=stack, device=device, progress=progress,
                timings=timings,
            )
        )  # fmt: skip


def encode_to_file(
    slide: "Slide | str | Path",
    out: str | Path,
    *,
    preset: str | Preset = "nano",
    mask: str | Path | None = None,
    mpp: float | None = None,
    stack: Stack | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    timings: Timings | None = None,
    turn: Turn = at_once,
    given: Given | None = None,
) -> Path:
    """As :func:`encode_slide`, but gives the path of the file and never holds all cells in memory.

    Args:
        slide, out, preset, mask, mpp, stack, device, progress, timings: as there.
        turn: entered around the work of models, where several slides share them.
        given: patches and vectors of another tool; only what is missing is computed.
    """
    from hwsi.slide import open_slide

    if isinstance(slide, str | Path):
        with open_slide(slide, mpp=mpp) as opened:
            return encode_to_file(
                opened, out, preset=preset, mask=mask, stack=stack, device=device, progress=progress, timings=timings,
                turn=turn, given=given,
            )  # fmt: skip
    if mpp is not None:
        raise ValueError("an open slide has its resolution; mpp goes with a path")
    chosen = preset if isinstance(preset, Preset) else load_preset(preset)
    progress, timings = progress or silent, timings or Timings()
    _refuse_unfit(slide, chosen)
    with timings("load"):
        stack = in_precision(stack or load_stack(chosen, device), chosen)
        stack.check(chosen)
    key = key_of(slide, chosen, stack, mask, given)
    folder, target = Path(out) / "partial" / slide.name, Path(out) / "features" / f"{slide.name}.h5"

    journal = Journal(folder, key)
    if _is_whole(target, slide, key):
        if journal.is_left():  # it was killed between the last two steps
            with journal:
                journal.remove()
        return target
    _refuse_target(target)
    slide.check()  # a copy that broke off is told now, not after hours
    progress("tissue", 0, 1)
    with timings("tissue"):
        tissue, tree, laid = _find(slide, chosen, mask, given)
    progress("tissue", 1, 1)
    with journal:
        # another process may have made it while this one waited
        if not _is_whole(target, slide, key):
            with turn(), timings("tune"):
                tune(stack, chosen, Path(out))
            rows = NOTHING if laid is None else laid.rows
            encode_regions(slide, tree, chosen, stack, journal, progress, timings, turn, rows)
            with turn():
                features = collect(slide, tree, tissue, chosen, stack, journal, timings, key)
            if laid is not None:
                features = _with_given(features, laid)
            cells = JournalCells(journal, len(tree.regions), {stack.cell.spec.id: stack.cell.spec.dim})
            if stack.fusion is not None:
                with turn(), timings("fusion"):
                    features = with_quadruplet(features, cells, stack, chosen)
                write_layout(features, Path(out) / "released")
            with timings("write"):
                write_features(target, features, cells=cells)
        journal.remove()
    give_back()
    return target


def _refuse_unfit(slide: "Slide", preset: Preset) -> None:
    """Refuse what no answer can be read from (HwsiError MPP_MISSING, MPP_INVALID, TOO_COARSE, TOO_SMALL)."""
    x, y = slide.mpp_xy
    if max(x, y) > _MOST_OBLONG * min(x, y):
        raise HwsiError(
            Reason.MPP_INVALID,
            f"{slide.path} has pixels of {x:g} x {y:g} um; tissue would look stretched",
            "if the resolution is wrong, give it with --mpp",
        )
    if slide.mpp > preset.max_mpp:
        raise HwsiError(
            Reason.TOO_COARSE,
            f"{slide.path} has {slide.mpp:.3g} um/px; to see cells, preset {preset.name} needs "
            f"{preset.max_mpp:g} um/px or finer",
            "hand in the scan at full resolution; if the resolution is wrong, give it with --mpp",
        )
    shorter_um = min(slide.width0, slide.height0) * slide.mpp
    if shorter_um < preset.min_side_um:
        raise HwsiError(
            Reason.TOO_SMALL,
            f"{slide.path} is {slide.width0} x {slide.height0} px, its shorter side {shorter_um:.3g} um; "
            f"there is nothing to read below {preset.min_side_um:g} um",
            "hand in a larger piece of tissue",
        )


def find_tree(slide: "Slide", preset: Preset, mask: str | Path | None) -> tuple["Tissue", Hierarchy]:
    """The tissue of a slide and its tree of regions and patches.

    Raises:
        HwsiError: NO_TISSUE, MASK_INVALID; FLUORESCENCE, PEN_MARKED unless a mask says what is tissue.
    """
    from hwsi.slide import region_focus

    tissue = look_for_tissue(slide, preset, mask)
    if preset.as_released:
        return tissue, lay_released(slide)
    tree = build_grid(
        (slide.width0, slide.height0),
        slide.mpp,
        tissue,
        region_px=preset.region_px,
        patch_px=preset.patch_px,
        read_mpp=preset.read_mpp,
        min_tissue=preset.min_tissue,
        focus=lambda xy, size0: region_focus(slide, xy, size0),
    )
    if not len(tree.regions):
        raise HwsiError(
            Reason.NO_TISSUE,
            f"there is no tissue on {slide.path}",
            "hand in a mask of the tissue with --mask",
        )
    return tissue, tree


def look_for_tissue(slide: "Slide", preset: Preset, mask: str | Path | None) -> "Tissue":
    """The tissue of a slide. Raises HwsiError: MASK_INVALID; FLUORESCENCE, PEN_MARKED unless a mask says what it is."""
    from hwsi.slide import find_tissue, refuse_unsuitable

    tissue = find_tissue(slide, mpp=preset.tissue_mpp, mask=None if mask is None else Path(mask))
    if mask is None:
        refuse_unsuitable(slide, tissue)
    return tissue


def _find(
    slide: "Slide", preset: Preset, mask: str | Path | None, given: Given | None
) -> tuple["Tissue", Hierarchy, Laid | None]:
    """The tissue of a slide and its tree: the grid's, or that of the patches that are given."""
    if given is None:
        return (*find_tree(slide, preset, mask), None)
    if preset.as_released:
        what = "patches of another tool do not lie on the release's grid"
        raise HwsiError(Reason.OPTION_INVALID, what, "leave out --as-released, or --from")
    tissue = look_for_tissue(slide, preset, mask)
    laid = lay_given(given, slide, tissue, preset)
    return tissue, laid.tree, laid


def _with_given(features: SlideFeatures, laid: Laid) -> SlideFeatures:
    """The features with all vectors that were given, and where they come from."""
    told = features.provenance
    of_tool = {name: {**told["encoders"].get(name, {}), **about} for name, about in laid.encoders.items()}
    return replace(
        features,
        patch=features.patch | laid.rows,
        warnings=(*features.warnings, *laid.warnings),
        provenance={**told, "encoders": {**told["encoders"], **of_tool}, "given": laid.provenance},
    )


def collect(
    slide: "Slide",
    tree: Hierarchy,
    tissue: "Tissue",
    preset: Preset,
    stack: Stack,
    journal: Journal,
    timings: Timings,
    key: str,
) -> SlideFeatures:
    """Everything but the cells, from a journal that has all regions."""
    patch = {e.spec.id: np.zeros((len(tree.patches), e.spec.dim), np.float32) for e in stack.patches}
    for plan in plan_regions(tree):
        for encoder, rows in zip(stack.patches, (journal.patch, journal.read), strict=False):
            patch[encoder.spec.id][plan.patches] = rows(plan.region)
    outlines = tuple(
        tuple(np.asarray(ring.coords, np.float64)[:-1, :2] for ring in (polygon.exterior, *polygon.interiors))
        for polygon in tissue.polygons
    )
    with timings("region"):
        seen = patch[stack.patches[-1].spec.id]
        if stack.region.spec.with_cells:
            seen = np.concatenate([seen, cell_rows(tree, stack, journal)], 1)
        region = encode_region_tokens(tree, seen, preset, stack)
    with timings("slide"), torch.inference_mode():
        centre_mm = tree.centre_mm(tree.regions.xy, tree.regions.size0)
        seen = region
        if stack.slide.spec.reads:
            there = described(tree.patches.background, patch[stack.patch.spec.id])
            centre_mm = tree.centre_mm(tree.patches.xy[there], tree.patches.size0)
            seen = patch[stack.patch.spec.id][there]
        elif stack.slide.spec.with_tissue:
            regions = tree.regions
            columns = summarise_tissue([rings[0] for rings in outlines], regions.tissue, regions.xy, regions.size0)
            seen = np.concatenate([region, columns], 1)
        whole = stack.slide.encode(
            torch.from_numpy(seen)[None].to(stack.device),
            torch.ones(1, len(seen), dtype=torch.bool, device=stack.device),
            torch.from_numpy(centre_mm)[None].to(stack.device),
        )[0]
    return SlideFeatures(
        slide_id=slide.slide_id,
        slide_name=slide.name,
        hierarchy=tree,
        mpp_source=slide.mpp_source,
        preset=preset.name,
        patch=patch,
        cell={},
        region={stack.region.spec.id: region},
        slide={stack.slide.spec.id: whole.float().cpu().numpy()},
        tissue=outlines,
        warnings=tuple(slide.warnings),
        provenance={
            "hwsi_version": hwsi.__version__,
            "key": key,
            "encoders": stack.identity(),
            "preset": _of_features(preset),
            **({"batches": stack.batches} if stack.batches else {}),
        },
    )


def key_of(slide: "Slide", preset: Preset, stack: Stack, mask: str | Path | None, given: Given | None = None) -> str:
    """Digest of all that the features of a slide depend on, the slide with it."""
    parts = {
        "revision": _REVISION,
        "slide": slide.slide_id,
        "mpp": [*slide.mpp_xy],
        "preset": _of_features(preset),
        "encoders": stack.identity(),
        "mask": _digest(mask) if mask is not None else None,
        **({} if given is None else {"given": given.digest}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _of_features(preset: Preset) -> dict[str, Any]:
    """The preset without who answers, since another language model reads the same features, and without defaults."""
    return preset.model_dump(mode="json", exclude={"language_model"}, exclude_defaults=True)


def _digest(mask: str | Path) -> str:
    try:
        return hashlib.sha256(Path(mask).read_bytes()).hexdigest()
    except OSError as error:
        raise HwsiError(
            Reason.MASK_INVALID,
            f"cannot read the mask {mask}: {error.strerror}",
            "hand in an image or a GeoJSON",
        ) from error


def _refuse_target(target: Path) -> None:
    """Refuse a place that cannot be written, before the work and not after it (HwsiError OUTPUT_UNWRITABLE)."""
    folder = target.parent
    if target.is_dir() or (folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK))):
        raise HwsiError(Reason.OUTPUT_UNWRITABLE, f"cannot write {target}", "choose another --out")


def _is_whole(target: Path, slide: "Slide", key: str) -> bool:
    """Whether the file is there, whole, and made in the same way; a damaged one is made again."""
    try:
        found = check_features(target)
    except HwsiError as error:
        if error.reason in (Reason.FEATURES_MISSING, Reason.FEATURES_CORRUPT):
            return False
        raise
    if found["slide_id"] != slide.slide_id:
        raise HwsiError(
            Reason.FEATURES_MISMATCH,
            f"{target} holds features of another slide of the same name",
            "choose another --out, or remove that file",
        )
    return bool(json.loads(str(found["provenance"])).get("key") == key)
