"""``hwsi encode``: slides to feature files, once.

- One slide is encoded here and leaves its feature file. More of them, a folder, a list or a pattern are a cohort: with
  a table of states, a log and a summary, so that it may be killed, shared and gone on with.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from hwsi.cli.cohort import run_and_tell
from hwsi.cli.console import bars, note, out
from hwsi.cli.options import DeviceOpt, EngineOpt, MaskOpt, MppOpt, PresetOpt, TimeoutOpt, WorkersOpt
from hwsi.errors import HwsiError, Reason

if TYPE_CHECKING:
    from hwsi.encoding.cohort.job import Job, Row
    from hwsi.presets import Preset


def encode(
    slides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SLIDE|DIR|LIST|GLOB...",
            help="Slides; folders, searched all the way down; lists (.txt, .csv); patterns in quotes ('*.svs'); URLs.",
        ),
    ] = None,
    *,
    out_dir: Annotated[Path, typer.Option("--out", "--job_dir", help="Job folder; files go to its folder 'features'.")],
    preset: PresetOpt = "nano",
    mpp: MppOpt = None,
    mask: MaskOpt = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            "--custom_list_of_wsis",
            help="A CSV with a column 'slide' (or 'wsi') and, as wanted, mpp, patient, mask. Alone it is the cohort; "
            "with slides or folders it says more about these.",
        ),
    ] = None,
    workers: WorkersOpt = None,
    timeout: TimeoutOpt = 1800.0,
    engine: EngineOpt = "local",
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", "--wsi_cache", help="Folder on a fast disk: slides are copied there while they are encoded."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Finished files go there (s3://bucket/folder, ...) instead of staying in --out; what is there already "
            "is fetched, checked and not made again.",
        ),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Patches that TRIDENT, CLAM, AtlasPatch, STAMP or slide2vec encoded (a folder; of one slide, a file): "
            "their vectors are taken, only what is missing is computed.",
        ),
    ] = None,
    given_encoder: Annotated[
        str | None, typer.Option("--from-encoder", help="Which encoder made them, if they do not say (CLAM, .pt).")
    ] = None,
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
    wsi_dir: Annotated[
        Path | None, typer.Option("--wsi_dir", help="As in TRIDENT: a folder of slides, and where lists begin.")
    ] = None,
    mag: Annotated[
        float | None, typer.Option("--mag", help="As in TRIDENT: 20 is 0.5 µm per pixel, if the encoders see that.")
    ] = None,
    patch_size: Annotated[
        int | None, typer.Option("--patch_size", help="As in TRIDENT: side of a patch, if the encoders see that.")
    ] = None,
    patch_encoder: Annotated[
        str | None, typer.Option("--patch_encoder", help="As in TRIDENT: another patch encoder than the preset's.")
    ] = None,
    skip_errors: Annotated[
        bool, typer.Option("--skip_errors", help="As in TRIDENT; a cohort always goes on after a slide that fails.")
    ] = False,
) -> None:
    """Encode slides at four scales; a slide whose file is whole is not encoded again."""
    from hwsi.encoding.cohort.job import Job, Row
    from hwsi.encoding.cohort.manifest import find_slides, is_cohort, told_others, with_defaults
    from hwsi.encoding.cohort.state import StateTable
    from hwsi.encoding.cohort.trident import adapt
    from hwsi.presets import load_preset

    words = [*(slides or ()), *([str(wsi_dir)] if wsi_dir is not None and manifest is None else ())]
    if not words and manifest is None:
        raise HwsiError(Reason.OPTION_INVALID, "no slide is named", "name slides, a folder, a list or a pattern")
    cohort = manifest is not None or any(is_cohort(word) for word in words)
    if mask is not None and (cohort or len(words) > 1):
        what = f"one mask ({mask.name}) for {'a cohort' if cohort else f'{len(words)} slides'}"
        todo = "encode each slide that has a mask by itself, or name masks in a --manifest"
        raise HwsiError(Reason.OPTION_INVALID, what, todo)
    chosen = _as_released(load_preset(preset), mask) if as_released else load_preset(preset)
    chosen = adapt(chosen, mag=mag, patch_size=patch_size, patch_encoder=patch_encoder)
    chosen = chosen if precision is None else _in_precision(chosen, precision)
    if given is not None and not (given.is_dir() or (given.is_file() and not cohort and len(words) == 1)):
        what = f"{given} is a file" if given.is_file() else f"there is no {given}"
        raise HwsiError(Reason.OPTION_INVALID, what, "of several slides, hand in the folder of a tool's features")
    job = Job(out_dir, chosen, device, trust_remote_code, cells_geojson, cache, store, given, given_encoder)
    found = find_slides(words, manifest=manifest, root=wsi_dir, skip=out_dir)
    if found.others:
        note(f"hwsi: {told_others(found.others)}; they are no slides by their names and are left out")
    entries = [with_defaults(entry, mpp) for entry in found.entries]
    if len(entries) == 1 and not cohort and workers is None and engine == "local" and store is None:
        _encode_alone(job, Row(0, words[0], entries[0].mpp, mask))
        return
    with StateTable(out_dir, create=True) as table:
        table.enrol(job, entries)
        few = workers is None and not cohort and engine == "local"
        run_and_tell(table, job, workers=0 if few else workers, timeout_s=timeout, engine=engine)


def _encode_alone(job: "Job", row: "Row") -> None:
    from hwsi.encoding.cohort.one import cells_file, make_features

    with bars() as progress:
        path = make_features(job, row, progress=progress, note=lambda text: note(f"hwsi: {text}"))
    out().print(str(path), markup=False)
    if job.cells_geojson:
        out().print(str(cells_file(job, path)), markup=False)


def _as_released(preset: "Preset", mask: Path | None) -> "Preset":
    if not preset.encoders.fusion or mask is not None:
        what = "a mask" if mask is not None else f"preset {preset.name}"
        raise HwsiError(Reason.OPTION_INVALID, f"--as-released does not go with {what}", "use --preset released")
    return preset.model_copy(update={"as_released": True})


def _in_precision(preset: "Preset", precision: str) -> "Preset":
    if precision not in get_args(type(preset).model_fields["precision"].annotation):
        raise HwsiError(Reason.OPTION_INVALID, f"there is no precision {precision!r}", "take float32, int8 or bfloat16")
    return preset.model_copy(update={"precision": precision})
