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
WorkersOpt = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that encode, each one with its own copy of the encoders: for a cohort one, or one for each "
        "GPU, or on a cluster one for each machine. 0 encodes in this "
        "process, as slides that are named one by one are: nothing is guarded against a decoder that crashes.",
    ),
]
EngineOpt = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where workers run: local, or ray: on the Ray cluster of RAY_ADDRESS, with slides and job folder under "
        "the same paths on all machines, or slides by URL and --store.",
    ),
]
TimeoutOpt = Annotated[
    float,
    typer.Option("--timeout", min=1, help="Seconds without any progress after which a worker's slide counts as hung."),
]
