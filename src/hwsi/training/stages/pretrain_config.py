"""What ``pretrain`` is told: a patch encoder, a text tower, and image-text pairs in one or several stages of data."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hwsi.training.stages.align_config import Tower, only_log
from hwsi.training.stages.config import Optimiser, Part, Watch


class PairStage(Part):
    """One stage of data; the next goes on with the weights of this one.

    Attributes:
        name: such as ``general`` or ``pathology``.
        pairs: CSV, JSONL, Parquet or WebDataset files, see ``docs/training-data.md``.
        steps: of it.
        lr: its highest learning rate, instead of the optimiser's.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    pairs: tuple[Path, ...] = Field(min_length=1)
    steps: PositiveInt
    lr: PositiveFloat | None = None


class PretrainConfig(Part):
    """Contrastive image-text training, before any slide.

    Attributes:
        patch, text: encoders of the registry; where their widths differ a linear head leads from one to the other.
        data: stages of data, in order.
        batch: pairs of a contrastive batch, over all processes together. chunk: pairs that are in memory with their
            graph at once, on each process; None for all.
        temperature: at the beginning. learn_temperature: or for good; it stays between 0.01 and 1.
        turn: turn, mirror and brighten images at random: tissue has no up (general images may have).
        val: share of the groups that is held out, where the pairs have no splits.
        skip_bad: leave out pairs that are wrong, and say which, instead of refusing all.
        precision, device, workers, seed: as of ``align``.
    """

    stage: Literal["pretrain"] = "pretrain"
    patch: Tower = Tower(id="patch-nano", weights="none")
    text: Tower = Tower(id="text-nano", weights="none")
    data: tuple[PairStage, ...] = Field(min_length=1)
    batch: int = Field(default=256, ge=2)
    chunk: PositiveInt | None = None
    temperature: float = Field(default=0.07, ge=0.01, le=1)
    learn_temperature: bool = True
    turn: bool = True
    val: float = Field(default=0.1, ge=0, lt=1)
    skip_bad: bool = False
    optimiser: Optimiser = Optimiser(lr=1e-3, weight_decay=0.05)
    watch: Watch = Watch()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        names = [stage.name for stage in self.data]
        if len(set(names)) < len(names):
            raise ValueError("stages of data need different names")
        only_log(self.watch)
        return self
