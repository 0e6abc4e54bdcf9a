"""Configurations and presets: what is wrong is told in one line, and every preset is sound."""

import pytest
import yaml
from stage_fakes import losses, tiny_model, write_former

from hwsi.errors import HwsiError, Reason
from hwsi.training.stages.checkpoint import read_record
from hwsi.training.stages.config import PRESETS, InstructConfig, PreferConfig, ProjectConfig, read_config
from hwsi.training.stages.instruct import gather_conversations, run_instruct
from hwsi.training.stages.placement import ZERO3
from hwsi.training.stages.plan import plan_stage
from hwsi.training.stages.prefer import PreferTrainer, gather_preferences, run_prefer
from hwsi.training.stages.project import gather_reports, run_project

KINDS = {"project": ProjectConfig, "instruct": InstructConfig, "prefer": PreferConfig}
TEXTS = {"project": "reports", "instruct": "conversations", "prefer": "preferences"}
FORMER = {"project": "align", "instruct": "project", "prefer": "instruct"}
GATHER = {"project": gather_reports, "instruct": gather_conversations, "prefer": gather_preferences}
RUN = {"project": run_project, "instruct": run_instruct, "prefer": run_prefer}
MINE = sorted(p.stem for p in PRESETS.glob("*.yaml") if p.stem.rpartition("-")[2] in KINDS)


def test_there_is_a_preset_of_each_stage():
    assert {f"{kind}-{stage}" for kind in ("nano", "paper") for stage in KINDS} <= set(MINE)


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts")
    return {stage: write_former(folder / stage, stage, *tiny_model()) for stage in FORMER.values()}


def told(name, world, starts, **more):
    stage = name.rpartition("-")[2]
    settings = {"start": str(starts[FORMER[stage]]), "data.features": str(world["job"])}
    settings[f"data.{TEXTS[stage]}"] = str(world[TEXTS[stage]])
    return stage, read_config(name, KINDS[stage], settings | more)


@pytest.mark.parametrize("name", MINE)
def test_a_preset_plans_its_run(name, world, starts):
    stage, config = told(name, world, starts, steps=4, epochs=None)
    extra = {"beta": 0.1, "reference": None} if stage == "prefer" else None
    trainer = {"trainer_of": PreferTrainer, "extra": extra} if stage == "prefer" else {}
    plan = plan_stage(config, GATHER[stage], **trainer)
    assert plan.steps == 4
    assert plan.rows > 0
    assert 0 < plan.trainable <= plan.parameters
    assert plan.tokens > 100
    assert plan.seconds > 0
    assert plan.memory_gb > 0
    assert "measured on this machine" in plan.timed_by
    assert len(plan.lines()) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", MINE)
def test_a_preset_trains(name, world, starts, tmp_path):
    small = {"steps": 2, "epochs": None, "batch.accumulate": 1, "batch.workers": 0, "watch.log_every": 1}
    stage, config = told(name, world, starts, **small)
    RUN[stage](config, tmp_path / "out")
    assert read_record(tmp_path / "out").steps == 2
    assert len(losses(tmp_path / "out")) == 2


@pytest.mark.parametrize("name", MINE)
def test_a_preset_says_how_it_is_run(name):
    head = [line for line in (PRESETS / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert any(f"train {name.rpartition('-')[2]} --config {name}" in line for line in head)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"optimiser": {"lr": 1e-3, "momentum": 0.9}}, "optimiser.momentum"),
        ({"rows": 2}, "rows"),
        ({"steps": None}, "steps or epochs"),
        ({"epochs": 1}, "steps or epochs"),
        ({"learn": {"visual": "frozen", "language": "frozen"}}, "nothing would be learned"),
        ({"placement": {"strategy": "fsdp2", "device_map": "auto"}}, "exclude one another"),
        ({"watch": {"patience": 3}}, "patience needs eval_every"),
        ({"watch": {"log_every": 10, "save_every": 15}}, "multiple of log_every"),
        ({"watch": {"patience": 1, "eval_every": 10, "save_every": 10}, "placement": {"strategy": "fsdp2"}}, "best"),
        ({"former": "align"}, "former"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(wrong, words, tmp_path):
    good = {"stage": "instruct", "steps": 3, "optimiser": {"lr": 1e-3}}
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(good | wrong))
    with pytest.raises(HwsiError) as error:
        read_config(path, InstructConfig)
    assert error.value.reason is Reason.OPTION_INVALID
    assert words in error.value.what
    assert "\n" not in str(error.value)


def test_paths_are_relative_to_their_file_and_settings_replace_its(tmp_path):
    path = tmp_path / "stage.yaml"
    good = {"stage": "instruct", "steps": 3, "optimiser": {"lr": 1e-3}, "start": "former"}
    path.write_text(
        yaml.safe_dump(good | {"data": {"features": ["job"], "conversations": "a.jsonl", "patients": "tcga"}})
    )
    config = read_config(path, InstructConfig, {"optimiser.lr": 2e-3, "data.features": "elsewhere"})
    assert config.start == tmp_path / "former"
    assert config.data.conversations == (tmp_path / "a.jsonl",)
    assert [str(p) for p in config.data.features] == ["elsewhere"]
    assert config.data.patients == "tcga"
    assert config.optimiser.lr == 2e-3


@pytest.mark.parametrize(("content", "reason"), [(None, Reason.PRESET_UNKNOWN), ("a: [", Reason.OPTION_INVALID),
                                                 ("- 1", Reason.OPTION_INVALID)])  # fmt: skip
def test_a_file_that_is_none(content, reason, tmp_path):
    path = tmp_path / "stage.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(HwsiError) as error:
        read_config(path, InstructConfig)
    assert error.value.reason is reason


def test_the_deepspeed_file_asks_for_stage_three_and_whole_weights():
    import json

    zero = json.loads(ZERO3.read_text())["zero_optimization"]
    assert zero["stage"] == 3
    assert zero["stage3_gather_16bit_weights_on_model_save"]


def test_patients_on_both_sides_are_refused(world, starts, tmp_path):
    import json

    rows = [json.loads(line) for line in world["reports"].read_text().splitlines()]
    rows[3]["patient"] = rows[0]["patient"]  # one is for validation, the other for training
    path = tmp_path / "reports.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, config = told("nano-project", world, starts, **{"data.reports": str(path)})
    with pytest.raises(HwsiError) as error:
        run_project(config, tmp_path / "out")
    assert error.value.reason is Reason.SPLITS_OVERLAP


@pytest.mark.parametrize("name", ["nano-align", "paper-align"])
def test_a_preset_of_align_is_sound(name):
    from hwsi.encoders import get
    from hwsi.training.stages.align_config import AlignConfig

    config = read_config(name, AlignConfig, {"start": "model", "data.features": "job", "data.reports": "a.jsonl"})
    for scale in ("region", "slide", "text"):
        assert get(getattr(config, scale).id).scale == scale


def test_the_preset_of_align_plans_its_run(world, starts):
    from hwsi.training.stages.align_config import AlignConfig
    from hwsi.training.stages.plan_contrast import plan_align

    settings = {
        "start": str(starts["align"]),
        "data.features": str(world["job"]),
        "data.reports": str(world["reports"]),
    }
    # from the package's own weights where there are none of a training
    plan = plan_align(read_config("nano-align", AlignConfig, {**settings, "contrast.slides": 4, "contrast.chunk": 2}))
    assert plan.steps > 1
    assert plan.rows == 6
    assert 0 < plan.trainable <= plan.parameters
    assert plan.seconds > 0


@pytest.mark.parametrize("name", ["nano-pretrain", "paper-pretrain"])
def test_a_preset_of_pretrain_is_sound_once_it_has_pairs(name):
    from hwsi.encoders import get
    from hwsi.training.stages.pretrain_config import PretrainConfig

    with pytest.raises(HwsiError, match="pairs"):
        read_config(name, PretrainConfig)
    stages = len(yaml.safe_load((PRESETS / f"{name}.yaml").read_text())["data"])
    config = read_config(name, PretrainConfig, {f"data.{i}.pairs": ["pairs.tar"] for i in range(stages)})
    assert get(config.patch.id).scale == "patch"
    assert get(config.text.id).scale == "text"


def test_the_preset_of_pretrain_plans_its_run(tmp_path):
    import csv

    import numpy as np
    from PIL import Image

    from hwsi.training.stages.plan_contrast import plan_pretrain
    from hwsi.training.stages.pretrain_config import PretrainConfig

    rng = np.random.default_rng(0)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "group"])
        for i in range(12):
            Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
            rows.writerow([f"{i}.png", f"a patch of kind {i}", f"patient{i}"])
    settings = {"data.0.pairs": [str(tmp_path / "pairs.csv")], "batch": 4, "chunk": 2}
    plan = plan_pretrain(read_config("nano-pretrain", PretrainConfig, settings))
    assert plan.steps == 4000
    assert plan.tokens == 16_000
    assert plan.seconds > 0
