"""``hwsi encode``: slides to feature files, once."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from hwsi.cli.console import bars, note, out
from hwsi.cli.options import DeviceOpt, MaskOpt, MppOpt, PresetOpt


def encode(
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDE...", help="Slides to encode.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Job folder; files go to its folder 'features'.")],
    preset: PresetOpt = "nano",
    mpp: MppOpt = None,
    mask: MaskOpt = None,
    cells_geojson: Annotated[
        bool, typer.Option("--cells-geojson", help="Also write the cells as GeoJSON that QuPath opens.")
    ] = False,
    device: DeviceOpt = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Of the patch encoders, instead of the preset's: float32, int8 (on a CPU about twice as fast) or "
            "bfloat16 (on a GPU). How near the vectors are to float32's is measured on the first slide and told.",
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code", help="You have read the code that the preset's slide encoder brings (TITAN, PRISM)."
        ),
    ] = False,
    as_released: Annotated[
        bool,
        typer.Option(
            "--as-released",
            help="With --preset released, to compare with the authors' scripts: their grid (pixels of level 0, "
            "whatever their size, and only the tissue that it meets), background encoded with the rest, and of every "
            "region the patches most like the first region's greatest outlier. Without it regions are 2 mm wide "
            "everywhere, background is left out, and each region keeps those of its patches that differ most.",
        ),
    ] = False,
) -> None:
    """Encode slides at four scales; a slide whose file is whole is not encoded again."""
    from hwsi.encoding import encode_to_file, load_stack
    from hwsi.encoding.device import agreement, in_precision
    from hwsi.errors import HwsiError, Reason
    from hwsi.features import read_features, write_geojson
    from hwsi.presets import Preset, load_preset
    from hwsi.slide import open_slide

    if mask is not None and len(slides) > 1:
        what = f"one mask ({mask.name}) for {len(slides)} slides"
        raise HwsiError(Reason.OPTION_INVALID, what, "encode each slide that has a mask by itself")
    chosen = load_preset(preset)
    if as_released:
        if not chosen.encoders.fusion or mask is not None:
            what = "a mask" if mask is not None else f"preset {chosen.name}"
            raise HwsiError(Reason.OPTION_INVALID, f"--as-released does not go with {what}", "use --preset released")
        chosen = chosen.model_copy(update={"as_released": True})
    if precision is not None:
        if precision not in get_args(Preset.model_fields["precision"].annotation):
            what = f"there is no precision {precision!r}"
            raise HwsiError(Reason.OPTION_INVALID, what, "take float32, int8 or bfloat16")
        chosen = chosen.model_copy(update={"precision": precision})
    exact = load_stack(chosen, device, trust_remote_code=trust_remote_code)
    stack = in_precision(exact, chosen)
    compared = chosen.precision == "float32"
    failed: list[HwsiError] = []
    for slide in slides:
        try:
            if not compared:
                with open_slide(slide, mpp=mpp) as opened:
                    for encoder, cosine in agreement(exact, stack, opened, chosen).items():
                        note(f"hwsi: {encoder} in {chosen.precision}: cosine to float32 at least {cosine:.5f}")
                compared = True
                exact = stack  # float32's weights are not needed any more
            with bars() as progress:
                path = encode_to_file(slide, out_dir, preset=chosen, mpp=mpp, mask=mask, stack=stack, progress=progress)
            out().print(str(path), markup=False)
            if cells_geojson:
                cells = out_dir / "cells" / f"{path.stem}.geojson"
                write_geojson(cells, read_features(path), ["cells"])
                out().print(str(cells), markup=False)
        except HwsiError as error:
            # one bad slide does not end a cohort: the others are encoded, and the status tells
            if len(slides) == 1 or error.reason in (Reason.OUTPUT_UNWRITABLE, Reason.DISK_FULL):
                raise
            note(f"hwsi: skipped {slide}: {error}")
            failed.append(error)
    if failed:
        what = f"{len(failed)} of {len(slides)} slides were not encoded"
        raise HwsiError(failed[0].reason, what, "see the lines above; the others are done")
    if len(slides) > 1:
        note(f"hwsi: all {len(slides)} slides are encoded")
