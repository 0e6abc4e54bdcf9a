"""Language models and whole checkpoints that presets name: under which licence, where from, and whether they are here.

- A *language model* knows words only and is what training starts from; a *checkpoint* has read slides and answers.
- Data only: listing imports neither torch nor transformers, and nothing is asked of the network.
- Revisions are pinned where others have pinned them, too; the release publishes without versions.
"""

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from hwsi.encoders.locate import Located

Task = Literal["answer", "language"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What there is to know about a model before it is loaded.

    Attributes:
        id: short name.
        task: answer (reads slides and answers) or language (knows words only).
        width: of its hidden states.
        licence: SPDX identifier of the weights' licence; NOASSERTION where none was given.
        commercial: the licence allows commercial use.
        gated: the weights need a permission that each user asks for.
        hub: repository on the Hugging Face Hub; empty for what is in the package.
        revision: commit there; empty for the newest.
        size_gb: of its weights on disk, in units of 10^9 bytes.
        needs: files beside the weights without which it is not whole.
    """

    id: str
    task: Task
    width: int
    licence: str
    commercial: bool
    gated: bool
    hub: str
    revision: str
    size_gb: float
    needs: tuple[str, ...] = ("config.json", "tokenizer_config.json")


_CARDS = (
    ModelCard(
        id="nano", task="answer", width=256, licence="Apache-2.0", commercial=True, gated=False, hub="",
        revision="", size_gb=0.007,
    ),
    ModelCard(
        id="qwen2.5-7b-instruct", task="language", width=3584, licence="Apache-2.0", commercial=True, gated=False,
        hub="Qwen/Qwen2.5-7B-Instruct", revision="a09a35458c702b33eeacc393d103063234e8bc28", size_gb=15.2,
    ),
    ModelCard(
        id="qwen2.5-1.5b-instruct", task="language", width=1536, licence="Apache-2.0", commercial=True, gated=False,
        hub="Qwen/Qwen2.5-1.5B-Instruct", revision="989aa7980e4cf806f80c7fef2b1adb7bc71aa306", size_gb=3.1,
    ),
    # published without a licence: nobody may use it commercially
    ModelCard(
        id="mllm-hwsi", task="answer", width=3584, licence="NOASSERTION", commercial=False, gated=False,
        hub="Bastech/MLLM-HWSI", revision="", size_gb=16.4,
        needs=("config.json", "tokenizer_config.json", "projector_config.json", "vl_projector.pt"),
    ),
)  # fmt: skip


def available() -> tuple[ModelCard, ...]:
    """All cards, checkpoints first."""
    return tuple(sorted(_CARDS, key=lambda card: (card.task, card.id)))


def get(name: str) -> ModelCard | None:
    """The card of an id or of a Hub repository; None for what is not known, such as a folder."""
    return next((card for card in _CARDS if name.lower() in (card.id, card.hub.lower())), None)


def find(card: ModelCard) -> Located | None:
    """The folder of a model that is whole on this machine, or None."""
    if not card.hub:
        with as_file(files("hwsi") / "weights" / "nano" / "model") as folder:
            return Located(folder, "package") if _is_whole(folder, card) else None
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(card.hub, "config.json", revision=card.revision or None)
    if isinstance(config, str) and _is_whole(Path(config).parent, card):
        return Located(Path(config).parent, "Hub cache")
    return None


def how_to_get(card: ModelCard) -> str:
    """One line: what to fetch, from where, how large, under which licence, and where to put it."""
    if not card.hub:
        return "install a release of hwsi that holds it, or train it (recipes/nano.sh)"
    from huggingface_hub import constants

    revision = f" --revision {card.revision}" if card.revision else ""
    ask = "ask for access there first, then " if card.gated else ""
    return (
        f"{ask}fetch https://huggingface.co/{card.hub} ({card.size_gb:g} GB, licence {card.licence}) where there is a "
        f"network (hf download {card.hub}{revision}) and put it into the Hub cache {constants.HF_HUB_CACHE}"
    )


def _is_whole(folder: Path, card: ModelCard) -> bool:
    """Whether all files are there: a download that broke off leaves some out."""
    index = folder / "model.safetensors.index.json"
    weights = ["model.safetensors"]
    try:
        if index.is_file():
            weights = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it may hold anything
        return False
    return all((folder / name).is_file() for name in (*card.needs, *weights))
