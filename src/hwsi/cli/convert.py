"""``hwsi convert``: a model between the release's layout and ours, or its language model alone."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from hwsi.cli.console import note, one_line, out


def convert(
    source: Annotated[str, typer.Argument(help="A model's folder of either layout, or Bastech/MLLM-HWSI.")],
    target: Annotated[Path, typer.Argument(help="A new folder, which gets the other layout.")],
    language_model: Annotated[
        bool,
        typer.Option("--language-model", help="Write the language model alone, of any model: for vllm serve."),
    ] = False,
) -> None:
    """Convert a released model to our layout, or one of ours to the release's; every weight, in float32."""
    from hwsi.model.conversion import convert as convert_model
    from hwsi.model.conversion import write_language_model
    from hwsi.model.released import NeverTrained

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", NeverTrained)
        if language_model:
            write_language_model(source, target)
            held = f"the language model of {source}"
        else:
            whose = "our" if convert_model(source, target) == "ours" else "the release's"
            held = f"{source} in {whose} layout"
    for warning in told:
        if issubclass(warning.category, NeverTrained):
            note(f"hwsi: note: {warning.message}")
    size_gb = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e9
    out().print(one_line(f"{target} holds {held}, {size_gb:.3g} GB"), markup=False)
