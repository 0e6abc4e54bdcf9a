"""Presets: one YAML file each, saying which encoders read a slide, at which sizes, and which model answers.

- ``load_preset("nano")`` gives a checked, frozen :class:`Preset`; a path to a YAML file works too.
- Equal presets and equal weights give equal features, and of a preset all but ``language_model`` changes them.
"""

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from hwsi.errors import HwsiError, Reason

_HERE = Path(__file__).parent


class EncoderIds(BaseModel):
    """Which encoder of the registry reads each scale.

    ``text`` is for search by words, empty for none. ``fusion`` makes one vector of the cells of a patch, for a model
    that does not do so itself; empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    patch: str
    region: str
    slide: str
    text: str = ""
    fusion: str = ""


class Preset(BaseModel):
    """How a slide is read and encoded, and by what questions are answered.

    Attributes:
        name: of the preset.
        encoders: id in the registry for each scale.
        region_px, patch_px: sides in pixels at ``read_mpp``; a region's is a multiple of a patch's.
        read_mpp: micrometres per pixel at which regions and patches are read.
        max_mpp: a slide whose level 0 is coarser is refused: its nuclei cannot be seen.
        min_side_um: a slide with a shorter side is refused: there is no tissue architecture to see.
        tissue_mpp: micrometres per pixel of the thumbnail on which tissue is found.
        min_tissue: a patch with less tissue than this fraction is background.
        kept_patches: patches of a region that get tokens of their own in a prompt.
        cell_halo_um: rim read around a region, so that cells on its border are whole.
        patch_spread: at most so many patches of a region are seen by the language model's patch encoder: those that
            differ most by the vectors that the region's encoder reads, and so all that its filter can keep. None: all.
            Only where these are two encoders, the region's the cheaper (CONCH beside HIPT).
        patch_batch, region_batch: how many are encoded at once. They change features in the last digits, so
            they belong to the preset and not to the call. A ``patch_batch`` of ``measured`` is what is fastest on the
            device that begins a job folder, and all of that folder is made with it (``hwsi.encoding.tuning``).
        precision: of the patch encoders; ``int8`` on CPUs and ``bfloat16`` on GPUs are faster and not quite the same.
        language_model: what answers: ``nano`` (the embedded model), a name that :mod:`hwsi.model.zoo` knows, or the
            folder of a trained model.
        as_released: regions and patches are chosen as the release's scripts choose them, to compare with it
            (``hwsi.encoding.released``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    encoders: EncoderIds
    region_px: PositiveInt
    patch_px: PositiveInt
    read_mpp: PositiveFloat
    max_mpp: PositiveFloat
    min_side_um: PositiveFloat
    tissue_mpp: PositiveFloat
    min_tissue: float = Field(ge=0, le=1)
    kept_patches: PositiveInt
    patch_spread: PositiveInt | None = None
    cell_halo_um: float = Field(ge=0)
    patch_batch: PositiveInt | Literal["measured"]
    region_batch: PositiveInt
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    language_model: str = Field(default="nano", min_length=1)
    as_released: bool = False

    @model_validator(mode="after")
    def _patches_fill_a_region(self) -> Self:
        if self.region_px % self.patch_px:
            raise ValueError(f"region_px {self.region_px} is not a multiple of patch_px {self.patch_px}")
        return self

    @model_validator(mode="after")
    def _what_is_kept_is_encoded(self) -> Self:
        if self.patch_spread is not None and (self.as_released or self.patch_spread < self.kept_patches):
            what = "the release encodes all" if self.as_released else f"{self.kept_patches} are kept"
            raise ValueError(f"patch_spread {self.patch_spread}: {what} patches of a region")
        return self


def available() -> tuple[str, ...]:
    """Names of the presets in the package."""
    return tuple(sorted(p.stem for p in _HERE.glob("*.yaml")))


def load_preset(name: str | Path) -> Preset:
    """A preset of the package by its name, or one's own by the path of a YAML file.

    Raises:
        HwsiError: PRESET_UNKNOWN if there is none, OPTION_INVALID if its content is wrong.
    """
    path = _HERE / f"{name}.yaml" if str(name) in available() else Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise HwsiError(
            Reason.PRESET_UNKNOWN,
            f"there is no preset {str(name)!r}",
            f"take one of {', '.join(available())}, or the path of a YAML file",
        )
    try:
        return Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise HwsiError(
            Reason.OPTION_INVALID, f"the preset {path.name} is wrong: {error}", "correct the file"
        ) from error
