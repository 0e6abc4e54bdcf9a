"""``hwsi caption``: a slide in one sentence."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.ask import show
from hwsi.cli.console import bars, note, out, print_json
from hwsi.cli.options import DeviceOpt, FeaturesOpt, JobOpt, JsonOpt, MaskOpt, MppOpt, PresetOpt, SlideArg
from hwsi.cli.outputs import check_writable


def caption(
    slide: SlideArg,
    geojson: Annotated[
        Path | None, typer.Option("--geojson", help="Write the evidence as GeoJSON that QuPath opens.")
    ] = None,
    preset: PresetOpt = "nano",
    mpp: MppOpt = None,
    mask: MaskOpt = None,
    out_dir: JobOpt = None,
    features: FeaturesOpt = None,
    device: DeviceOpt = "auto",
    json: JsonOpt = False,
) -> None:
    """Describe a slide in one sentence, with the tissue that it rests on."""
    if geojson:
        check_writable(geojson)

    from hwsi.inference import study

    with bars(quiet=json) as progress:
        session = study(
            slide, preset=preset, out=out_dir, features=features, mpp=mpp, mask=mask, device=device, progress=progress
        )
    answer = session.caption()
    if geojson:
        from hwsi.features.geojson import write_evidence

        write_evidence(geojson, answer, session.features.tissue)
    if json:
        print_json(answer.to_dict())
        return
    out().print(answer.text, markup=False)
    show(answer)
    if geojson:
        note(f"evidence written to {geojson}")
