"""What a stage is told: one YAML file, checked whole before anything is loaded.

- An unknown key is an error, and all that is wrong is told in one line.
- Every setting has a place where a reader looks for it: ``data``, ``learn``, ``optimiser``, ``batch``, ``placement``,
  ``watch``. A preset of the package leaves out what only the user knows: ``start`` and the files of ``data``.
- Relative paths in a file are relative to that file, paths given on the command line to the current folder.
- ``pretrain`` and ``align`` have configs of their own (``pretrain_config.py``, ``align_config.py``), made of the same
  parts and read by the same function.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from hwsi.errors import HwsiError, Reason
from hwsi.training.data.augment import Augmentation

PRESETS = Path(__file__).parent.parent / "presets"


class Part(BaseModel):
    """A piece of a configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Paths = Annotated[tuple[Path, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str | Path) else v)]
"""Files; one alone needs no list."""


class Data(Part):
    """What a stage learns from; schemas in ``docs/training-data.md``.

    Attributes:
        features: job folders of ``hwsi encode``.
        slides: CSV with the columns ``slide``, ``file``, where names in the data are not those of the feature files.
        patients: CSV with the columns ``slide``, ``patient``, where the records do not say whose tissue it is; ``tcga``
            reads it off the barcodes.
        reports, conversations, preferences: files of records; each stage reads its own kind.
        feedback: a feedback store of the viewer (SQLite), for ``prefer``.
        val: share of the patients that is kept out of training to evaluate, where the records have no splits.
        skip_bad: leave out records that are wrong, and say which, instead of refusing all.
        augment: how views of a slide differ between visits.
    """

    features: Paths = ()
    slides: Path | None = None
    patients: Literal["tcga"] | Path | None = None
    reports: Paths = ()
    conversations: Paths = ()
    preferences: Paths = ()
    feedback: Path | None = None
    val: float = Field(default=0.1, ge=0, lt=1)
    skip_bad: bool = False
    augment: Augmentation = Augmentation()


class Lora(Part):
    """Low-rank adapters on the language model (Hu et al. 2021, arXiv:2106.09685)."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    dropout: float = Field(default=0.05, ge=0, lt=1)
    layers: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Learn(Part):
    """Which weights change.

    Attributes:
        visual: ``projectors`` (all that turns features into tokens; of ``fusion: interleave`` without CCAF, which
            stage 1 has trained), ``all`` or ``frozen``.
        language: ``lora``, ``full`` or ``frozen``.
        lora: of ``language: lora``.
    """

    visual: Literal["projectors", "all", "frozen"]
    language: Literal["lora", "full", "frozen"]
    lora: Lora = Lora()

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.visual == self.language == "frozen":
            raise ValueError("nothing would be learned: visual and language are both frozen")
        return self


class Optimiser(Part):
    """AdamW, warm-up, decay, clipping.

    Attributes:
        lr: the highest learning rate. schedule: how it falls after the warm-up.
        warmup: share of the steps that lead up to it.
        weight_decay: on matrices; biases and norms are free. beta2: AdamW's second.
        clip: largest norm of the gradient.
    """

    lr: PositiveFloat
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, le=1)
    weight_decay: NonNegativeFloat = 0.0
    beta2: float = Field(default=0.98, gt=0, lt=1)
    clip: PositiveFloat = 1.0


class Batch(Part):
    """How many rows a step has: ``rows`` x ``accumulate`` x processes.

    Attributes:
        rows: slides (or pairs of answers) of one pass, on each process. accumulate: passes of one step.
        questions: dialogues about one slide that stand in its row (``fusion: interleave``; else 1).
        max_tokens: of one pass; longer batches get fewer rows. None: no limit.
        workers: processes that read features beside the training.
    """

    rows: PositiveInt = 1
    accumulate: PositiveInt = 1
    questions: PositiveInt = 8
    max_tokens: PositiveInt | None = None
    workers: int = Field(default=0, ge=0)


class Placement(Part):
    """Where weights lie and how exactly they are computed with.

    Attributes:
        strategy: ``data`` (every process holds all weights), ``fsdp2`` or ``zero3`` (each holds a share; started by
            ``torchrun`` or ``accelerate launch``).
        precision: of the arithmetic; weights are kept in ``weights``.
        weights: of the language model; ``bf16`` halves the memory of a frozen one, what learns fully is best kept in
            ``fp32``. The visual part is float32, but for ``fsdp2``.
        device_map: lay the layers of the language model over the GPUs of one process, as Accelerate's ``auto`` or
            ``balanced`` do; None for one device.
        tensor_parallel: over how many processes every layer is cut.
        recompute: trade time for memory: activations inside the language model are computed twice.
    """

    strategy: Literal["data", "fsdp2", "zero3"] = "data"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    weights: Literal["fp32", "bf16"] = "fp32"
    device_map: Literal["auto", "balanced"] | None = None
    tensor_parallel: PositiveInt = 1
    recompute: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [self.strategy != "data", self.device_map is not None, self.tensor_parallel > 1]
        if sum(ways) > 1:
            raise ValueError("strategy fsdp2 or zero3, device_map and tensor_parallel exclude one another")
        return self


class Watch(Part):
    """What is said and kept on the way, in steps.

    Attributes:
        log_every: a line of ``log.jsonl``. eval_every: held-out loss; None: at the end only.
        save_every: a checkpoint to go on from, a multiple of ``log_every`` (so that the log of a run that went on is
            that of an unbroken one); None: none. keep: so many of them.
        patience: stop after so many evaluations without a better one, and give the best; None: never.
        report_to: also write TensorBoard's or Weights & Biases' log.
    """

    log_every: PositiveInt = 10
    eval_every: PositiveInt | None = None
    save_every: PositiveInt | None = 200
    keep: PositiveInt = 2
    patience: PositiveInt | None = None
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.patience is not None and (self.eval_every is None or self.save_every != self.eval_every):
            raise ValueError("patience needs eval_every, and save_every equal to it, so that the best is kept")
        if self.save_every is not None and self.save_every % self.log_every:
            raise ValueError("save_every must be a multiple of log_every")
        return self


class StageConfig(Part):
    """What project, instruct and prefer share.

    Attributes:
        stage: its name.
        start: output folder of the former stage (with ``stage.json``).
        former: which stage that has to be. ``external`` takes any model's folder, of which nobody can say what it
            was trained on (the release, or a stage skipped on purpose); it is told in ``stage.json``.
        seed: of all that is drawn.
        steps, epochs: how long; one of the two.
    """

    stage: str
    start: Path | None = None
    former: Literal["align", "project", "instruct", "prefer", "external"]
    seed: int = Field(default=0, ge=0)
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    data: Data = Data()
    learn: Learn
    optimiser: Optimiser
    batch: Batch = Batch()
    placement: Placement = Placement()
    watch: Watch = Watch()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.watch.patience is not None and self.placement.strategy == "fsdp2":
            raise ValueError("fsdp2 cannot go back to the best checkpoint: leave watch.patience out")
        return self

    @property
    def texts(self) -> tuple[Path, ...]:
        """The files of the records that this stage reads."""
        raise NotImplementedError


class ProjectConfig(StageConfig):
    """Stage 2: projectors learn to speak to the language model, from reports and captions."""

    stage: Literal["project"]
    former: Literal["align", "project", "external"] = "align"
    learn: Learn = Learn(visual="projectors", language="frozen")

    @property
    def texts(self) -> tuple[Path, ...]:
        """Reports."""
        return self.data.reports


class InstructConfig(StageConfig):
    """Stage 3: questions and answers.

    Attributes:
        task: name of what is learned, such as a tissue type; forgetting is told by these names.
        replay: share of the rows that come from the tasks that the model has learned before.
    """

    stage: Literal["instruct"]
    former: Literal["project", "instruct", "prefer", "external"] = "project"
    learn: Learn = Learn(visual="projectors", language="lora")
    task: str = Field(default="first", min_length=1)
    replay: float = Field(default=0.0, ge=0, lt=1)

    @property
    def texts(self) -> tuple[Path, ...]:
        """Conversations, and reports: a task of their own kind that is not to be forgotten."""
        return (*self.data.conversations, *self.data.reports)


class PreferConfig(StageConfig):
    """Stage 4: pairs of answers, by direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290).

    Attributes:
        beta: how strongly the reference holds.
        precompute: work out the reference's log-probabilities once, before the first step, instead of at every visit;
            needs a view of each slide that does not change. A full training (``language: full`` or a trained visual
            part) has no other reference, so it must say so.
    """

    stage: Literal["prefer"]
    former: Literal["instruct", "prefer", "external"] = "instruct"
    learn: Learn = Learn(visual="frozen", language="lora")
    beta: PositiveFloat = 0.1
    precompute: bool = False

    @model_validator(mode="after")
    def _has_a_reference(self) -> Self:
        if self.learn.language != "lora" and not self.precompute:
            raise ValueError("without LoRA there is no reference to switch back to: set precompute")
        if self.precompute and self.data.augment != Augmentation():
            raise ValueError("precompute needs views that do not change: leave data.augment out")
        return self

    @property
    def texts(self) -> tuple[Path, ...]:
        """Preferences, and the feedback store."""
        return (*self.data.preferences, *((self.data.feedback,) if self.data.feedback else ()))


Config = TypeVar("Config", bound=BaseModel)


def presets(stage: str) -> tuple[str, ...]:
    """Names of the package's presets of a stage, such as ``nano-instruct``."""
    return tuple(sorted(p.stem for p in PRESETS.glob(f"*-{stage}.yaml")))


def read_config(source: str | Path, kind: type[Config], settings: dict[str, Any] | None = None) -> Config:
    """A configuration from a YAML file.

    Args:
        source: path of the file, or the name of a preset of the package.
        kind: of configuration.
        settings: dotted key -> value, which replace the file's: ``{"optimiser.lr": 1e-4}``.

    Raises:
        HwsiError: PRESET_UNKNOWN (no such file), OPTION_INVALID (all that is wrong in it).
    """
    preset = PRESETS / f"{source}.yaml"
    path = preset if preset.is_file() else Path(source)
    if not path.is_file():
        named = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        raise HwsiError(Reason.PRESET_UNKNOWN, f"there is no configuration {source}", f"give a YAML file, or {named}")
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise HwsiError(Reason.OPTION_INVALID, f"{path} is no YAML: {error}", "correct the file") from error
    if not isinstance(told, dict):
        raise HwsiError(Reason.OPTION_INVALID, f"{path} holds no settings", "write keys and values")
    told = _anchored(told, path.parent)
    for key, value in (settings or {}).items():
        _set(told, key, value)
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        raise HwsiError(Reason.OPTION_INVALID, f"{path.name}: {faults(error)}", "correct the file") from error


def faults(error: ValidationError) -> str:
    """All that pydantic found, in one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())


_PATHS = {
    "start", "features", "slides", "patients", "weights",
    "reports", "conversations", "preferences", "feedback", "pairs",
}  # fmt: skip
_WORDS = {"tcga", "found", "none", "fp32", "bf16"}
"""What may stand where else a path does."""


def _anchored(told: Any, folder: Path, key: str = "") -> Any:
    """Settings whose relative paths are made relative to the file's folder."""
    if isinstance(told, dict):
        return {name: _anchored(value, folder, str(name)) for name, value in told.items()}
    if isinstance(told, list):
        return [_anchored(value, folder, key) for value in told]
    return str(folder / told) if key in _PATHS and isinstance(told, str) and told not in _WORDS else told


def _set(told: dict[str, Any], key: str, value: Any) -> None:
    *parts, last = key.split(".")
    inner: Any = told
    for part in parts:
        if isinstance(inner, list) and part.isdecimal() and int(part) < len(inner):
            inner = inner[int(part)]
        else:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        what = f"{key}: {'.'.join(parts)} has no parts"
        raise HwsiError(Reason.OPTION_INVALID, what, "see the keys in docs/training.md")
    inner[last] = value
