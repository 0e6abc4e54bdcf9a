"""``hwsi import-features``: what the authors' scripts encoded, as a feature file."""

from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import out
from hwsi.cli.options import MppOpt


def import_features(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What the release's feature extraction wrote.")],
    name: Annotated[str, typer.Option("--name", help="Name of the slide: that of its files.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Job folder; the file goes to its folder 'features'.")],
    mpp: MppOpt = None,
    cells: Annotated[
        Path | None, typer.Option("--cells", help="What its cell step wrote, if that lies in another folder.")
    ] = None,
    slide: Annotated[
        Path | None, typer.Option("--slide", help="The slide: says how large its pixels are, and ties the file to it.")
    ] = None,
) -> None:
    """Make a feature file of the .pt files that the released model's scripts wrote for a slide."""
    from hwsi.encoding.imported import import_released

    path = import_released(folder, name, out_dir, mpp=mpp, cells=cells, slide=slide)
    out().print(str(path), markup=False)
