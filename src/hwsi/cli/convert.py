"""``hwsi convert``: a model between the release's layout and ours."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import note, one_line, out


def convert(
    source: Annotated[str, typer.Argument(help="A model's folder of either layout, or Bastech/MLLM-HWSI.")],
    target: Annotated[Path, typer.Argument(help="A new folder, which gets the other layout.")],
) -> None:
    """Convert a released model to our layout, or one of ours to the release's; every weight, in float32."""
    from hwsi.model.released import NeverTrained
    from hwsi.model.released import convert as convert_model

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NeverTrained)
        layout = convert_model(source, target)
    for warning in told:
        if issubclass(warning.category, NeverTrained):
            note(f"hwsi: note: {warning.message}")
    size_gb = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e9
    whose = "our" if layout == "ours" else "the release's"
    out().print(one_line(f"{target} holds {source} in {whose} layout, {size_gb:.3g} GB"), markup=False)
