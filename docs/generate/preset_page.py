"""The page of all presets: those that say how a slide is read and by what it is answered, and those of training."""

from pathlib import Path

from hwsi.encoders import get
from hwsi.presets import Preset, available, load_preset

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "hwsi"
TRAINING = PACKAGE / "training" / "presets"

HEAD = """# Presets

A preset is one YAML file. It says which encoders read a slide, at which sizes, and which model answers:
`--preset NAME`, or the path of a file of your own ([own encoders](../how-to/own-encoders.md)). Equal presets and equal
weights give equal features. The files below are those of the package; who they are made for and what is known about
them stands in the [model cards](../models/index.md).
"""

TRAIN_HEAD = """## Of training

`hwsi train STAGE --config NAME`, see [training](../training.md). `--set KEY=VALUE` replaces single settings.
"""


def preset_page() -> str:
    """The page, as Markdown."""
    loaded = [load_preset(name) for name in available()]
    parts = [HEAD, _table(loaded), *(_section(preset) for preset in loaded), TRAIN_HEAD]
    parts += [f"### {path.stem}\n\n{_yaml(path)}" for path in sorted(TRAINING.glob("*.yaml"))]
    parts += [f"### accelerate/{p.name}\n\n{_yaml(p)}" for p in sorted((TRAINING / "accelerate").glob("*.yaml"))]
    parts.append("## Settings\n\nWhat each key means: [`hwsi.presets.Preset`](python.md#hwsi.presets.Preset).\n")
    return "\n".join(parts)


def _table(presets: list[Preset]) -> str:
    rows = {
        "region": lambda p: f"{p.region_px} px, {p.region_px * p.read_mpp / 1000:g} mm",
        "patch": lambda p: f"{p.patch_px} px, {p.patch_px * p.read_mpp:g} µm",
        "read at": lambda p: f"{p.read_mpp:g} µm/px",
        "patches of a region in a prompt": lambda p: f"{p.kept_patches}",
        "coarsest slide": lambda p: f"{p.max_mpp:g} µm/px",
        "precision": lambda p: p.precision,
        "language model": lambda p: f"`{p.language_model}`",
    }
    lines = [f"| | {' | '.join(p.name for p in presets)} |", "|---" * (len(presets) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(show(p) for p in presets)} |" for name, show in rows.items()]
    return "\n".join(lines) + "\n"


def _section(preset: Preset) -> str:
    ids = preset.encoders.model_dump()
    rows = []
    for scale, encoder in ids.items():
        if encoder:
            spec = get(encoder)
            gated = "gated" if spec.gated else "free" if spec.has_weights else "no weights"
            use = "yes" if spec.commercial else "no"
            rows.append(f"| {scale} | `{encoder}` | {spec.dim or 'as read'} | {spec.licence} | {gated} | {use} |")
    heads = "| scale | encoder | width | licence | access | commercial use |\n|---|---|---|---|---|---|"
    table = "\n".join([heads, *rows])
    return f"## {preset.name}\n\n{table}\n\n{_yaml(PACKAGE / 'presets' / f'{preset.name}.yaml')}"


def _yaml(path: Path) -> str:
    return f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"
