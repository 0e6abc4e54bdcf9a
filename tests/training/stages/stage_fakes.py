"""A world in a folder: eight slides of eight patients with what is said of them, and the stage before, made up."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1] / "data"))

from data_fakes import made_features, write_job

COLOURS = ("red", "green", "blue", "grey")
QUESTION = "Which colour is it?"
TEXTS = [
    "Write the report of this slide.", "Describe this slide in one sentence.", QUESTION, "It is", *COLOURS,
    "Is it large? yes no", "The tissue of slide is R1 0 1 2 3 4 5 6 7",
] * 3  # fmt: skip
NAMES = tuple(f"slide{i}" for i in range(8))


def tiny_model(seed: int = 0, *, dropout: float = 0.0):
    """(model, processor) of ``fusion: interleave``, two narrow layers; louder than at birth."""
    from transformers import Qwen2Config

    from hwsi.model import HwsiConfig, HwsiForConditionalGeneration, HwsiProcessor, HwsiVisualConfig
    from hwsi.model.config import placeholder_ids
    from hwsi.model.tokenizer import train_nano_tokenizer

    tokenizer = train_nano_tokenizer(TEXTS)
    text = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True, attention_dropout=dropout,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = HwsiConfig(
        text_config=text, visual_config=HwsiVisualConfig(ccaf_width=16, max_cells=8), kept_patches=2,
        placeholder_ids=placeholder_ids(tokenizer),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = HwsiForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2).add_(torch.randn_like(parameter) * 0.02)
    return model.eval(), HwsiProcessor.for_model(config, tokenizer)


def write_lines(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_world(folder: Path) -> dict[str, Path]:
    """Feature files, reports, conversations and preferences; one patient in four is for validation."""
    job = write_job(folder / "job", {n: made_features(i, name=n, rows=1, cols=1 + i % 2) for i, n in enumerate(NAMES)})

    def about(i: int) -> dict[str, str]:
        return {"slide": NAMES[i], "patient": f"patient{i}", "split": "val" if i % 4 == 3 else "train"}

    def colour(i: int) -> str:
        return COLOURS[i % 4]

    reports = [{**about(i), "report": f"The tissue of slide {i} is {colour(i)}.", "caption": f"It is {colour(i)}."}
               for i in range(8)]  # fmt: skip
    talks = [
        {**about(i), "id": f"{i}/{n}", "turns": [{"role": "user", "content": asked},
                                                {"role": "assistant", "content": said}]}
        for i in range(8)
        for n, (asked, said) in enumerate([(QUESTION, colour(i)), ("Is it large?", ("yes", "no")[i % 2])])
    ]  # fmt: skip
    pairs = [{**about(i), "question": QUESTION, "chosen": colour(i), "rejected": COLOURS[(i + 1) % 4]}
             for i in range(8)]  # fmt: skip
    return {
        "job": job,
        "reports": write_lines(folder / "reports.jsonl", reports),
        "conversations": write_lines(folder / "conversations.jsonl", talks),
        "preferences": write_lines(folder / "preferences.jsonl", pairs),
    }


def write_former(folder: Path, stage: str, model, processor, **fields) -> Path:
    """An output folder as a stage leaves it."""
    from hwsi.training.stages.checkpoint import Ancestor, StageRecord, write_model, write_record

    folder.mkdir(parents=True)
    gave = write_model(model, processor, folder)
    record = StageRecord(
        stage=stage, config={}, started_from="nowhere", given=Ancestor(stage="external", sha256="0" * 64), gave=gave,
        parents=(), seed=0, steps=1, **fields,
    )  # fmt: skip
    write_record(record, folder)
    return folder


def config_of(stage: str, world: dict[str, Path], start: Path, **changes):
    """A quick configuration; ``changes`` with dots as double underscores: ``watch__save_every=2``."""
    from hwsi.training.stages.config import InstructConfig, PreferConfig, ProjectConfig

    kind = {"project": ProjectConfig, "instruct": InstructConfig, "prefer": PreferConfig}[stage]
    texts = {"project": "reports", "instruct": "conversations", "prefer": "preferences"}[stage]
    told = {
        "stage": stage, "start": start, "steps": 4, "optimiser": {"lr": 5e-3, "schedule": "constant", "warmup": 0.0},
        "data": {"features": [world["job"]], texts: [world[texts]]},
        "batch": {"rows": 2, "questions": 2},
        "watch": {"log_every": 1, "save_every": None},
    }  # fmt: skip
    for name, value in changes.items():
        *parts, last = name.split("__")
        inner = told
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return kind.model_validate(told)


def losses(out: Path) -> dict[int, float]:
    """Step -> loss, of the log; each step once."""
    from hwsi.training.stages.watch import LOG, read_log

    lines = [line for line in read_log(out / LOG) if "loss" in line]
    assert len({line["step"] for line in lines}) == len(lines)
    return {line["step"]: line["loss"] for line in lines}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from hwsi.model import load

    model, _ = load(folder)
    return dict(model.state_dict())


def dropouts(model: nn.Module) -> set[float]:
    return {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
