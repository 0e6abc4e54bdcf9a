"""Features that the release's scripts made, as a feature file of ours.

- Its files name neither the slide's pixels nor their size. With the slide at hand both are taken from it, and the
  feature file is of that slide; without it the size must be given, and answers say what is not known.
"""

from dataclasses import replace
from pathlib import Path

import hwsi
from hwsi.errors import HwsiError, Reason
from hwsi.features.file import write_features
from hwsi.features.released import read_released


def import_released(
    folder: str | Path,
    name: str,
    out: str | Path,
    *,
    mpp: float | None = None,
    cells: str | Path | None = None,
    slide: str | Path | None = None,
) -> Path:
    """Write ``out/features/NAME.h5`` from the release's files of a slide.

    Args:
        folder, name: as of :func:`hwsi.features.released.read_released`.
        cells: what the cell step wrote, if not in ``folder``; without fused cells the released model cannot answer.
        out: job folder.
        mpp: level-0 micrometres per pixel; from the slide where that is given and says it.
        slide: the slide's file, where it is at hand.

    Errors: of reading and of opening a slide; mpp_missing, mpp_invalid; features_mismatch (regions outside the slide);
        output_unwritable, disk_full.
    """
    from hwsi.slide import open_slide
    from hwsi.slide.mpp import MppHints, resolve_mpp

    if not name or Path(name).name != name:
        raise HwsiError(Reason.OPTION_INVALID, f"a slide cannot be called {name!r}", "give the name of its files")
    slide_id, size0 = "", None
    if slide is not None:
        with open_slide(slide, mpp=mpp) as opened:
            mpp, slide_id, size0 = opened.mpp, opened.slide_id, (opened.width0, opened.height0)
    elif mpp is None:
        what = f"the files of {name} do not say how large the slide's pixels are"
        raise HwsiError(Reason.MPP_MISSING, what, "give --mpp, or the slide itself with --slide")
    else:
        resolve_mpp(mpp, MppHints())  # refuses what cannot be
    features = read_released(folder, name, mpp=mpp, cells=cells or folder, size0=size0, slide_id=slide_id)
    corners = features.hierarchy.regions.xy
    if size0 is not None and (corners >= size0).any():
        what = f"regions of {name} lie outside {slide}, which is {size0[0]} x {size0[1]} px"
        raise HwsiError(Reason.FEATURES_MISMATCH, what, "hand in the slide that they were made of")
    target = Path(out) / "features" / f"{name}.h5"
    provenance = {**features.provenance, "hwsi_version": hwsi.__version__}
    write_features(target, replace(features, provenance=provenance))
    return target
