"""Options that several verbs share, each said once."""

from pathlib import Path
from typing import Annotated

import typer

SlideArg = Annotated[
    Path, typer.Argument(metavar="SLIDE", help="A slide: SVS, NDPI, MRXS, TIFF, OME-TIFF, DICOM, PNG, ...")
]
PresetOpt = Annotated[str, typer.Option("--preset", help="Which encoders and model.")]
MppOpt = Annotated[
    float | None,
    typer.Option("--mpp", help="Microns per pixel of the full resolution, where the file does not say."),
]
MaskOpt = Annotated[
    Path | None, typer.Option("--mask", help="Your own tissue mask: an image, or GeoJSON in full-resolution pixels.")
]
JobOpt = Annotated[
    Path | None, typer.Option("--out", help="Job folder for feature files; an encoded slide is not encoded again.")
]
FeaturesOpt = Annotated[
    Path | None, typer.Option("--features", help="Feature file of this slide, instead of encoding it.")
]
DeviceOpt = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one, for all but nano."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
