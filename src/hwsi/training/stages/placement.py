"""Where weights lie, and which of them learn.

- ``fsdp2`` and ``tensor_parallel`` are Transformers' own: every process reads its share of the files alone, and the
  same code runs on GPUs and, over gloo, on CPUs. (Asked of the Trainer instead, FSDP on a CPU silently becomes plain
  data parallelism.) ``zero3`` is DeepSpeed's, by the JSON beside the presets.
- With LoRA the whole model is wrapped, and the visual part, where it learns, is copied into the adapter: switching the
  adapter off gives the former stage's model exactly, projectors included.
- A model that is spread over processes cannot be copied so: there the visual part learns in place.
"""

# mypy: disable-error-code="no-untyped-call"
# (much of transformers is not annotated)

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForImageTextToText, AutoProcessor

from hwsi.errors import HwsiError, Reason
from hwsi.model.checkpoint import load
from hwsi.model.released import is_released
from hwsi.model.strict import check_loading, quiet
from hwsi.training.stages.checkpoint import Given
from hwsi.training.stages.config import PRESETS, Learn, Placement

ZERO3 = PRESETS / "accelerate" / "zero3.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ALIGNED = "ccaf"  # trained by stage 1


def require_machine(placement: Placement) -> None:
    """See that this machine can do what is asked.

    Raises:
        HwsiError: EXTRA_MISSING (packages that only training needs), OPTION_INVALID (what needs a GPU).
    """
    lacking = [name for name in ("accelerate", "peft") if find_spec(name) is None]
    if lacking:
        what = f"training needs {' and '.join(lacking)}"
        raise HwsiError(Reason.EXTRA_MISSING, what, "pip install 'hwsi[train]'")
    if placement.strategy == "zero3" and find_spec("deepspeed") is None:
        todo = "pip install deepspeed, or use placement.strategy fsdp2"
        raise HwsiError(Reason.EXTRA_MISSING, "strategy zero3 needs deepspeed", todo)
    asked = {
        "precision fp16": placement.precision == "fp16",
        "strategy zero3": placement.strategy == "zero3",
        "tensor_parallel": placement.tensor_parallel > 1,  # Accelerate has no such mesh of CPUs
    }
    wanting = [name for name, is_asked in asked.items() if is_asked]
    if wanting and not torch.cuda.is_available():
        what = f"{' and '.join(wanting)} of placement need a GPU, and there is none"
        raise HwsiError(Reason.OPTION_INVALID, what, "leave it out, or run it where there is one")


def load_given(given: Given, placement: Placement, processes: int) -> tuple[Any, Any]:
    """The model to start from and its processor, every weight found or refused.

    Args:
        given: what to load. placement: where to. processes: of this run.

    Raises:
        HwsiError: as :func:`hwsi.model.load`; OPTION_INVALID (a placement that this folder or run cannot have).
    """
    dtype = DTYPES[placement.weights]
    if placement.strategy == "fsdp2" or placement.tensor_parallel > 1:
        return _load_spread(given.model, _spread(placement, processes), dtype)
    if placement.device_map is None:
        model, processor = load(given.model, dtype=dtype)
    else:
        model, processor = _load_spread(given.model, {"device_map": placement.device_map}, dtype)
    if dtype != torch.float32 and not is_released(given.model):  # the release's is float32 as loaded
        _exact_visual(model, given.model)
    return model, processor


def _exact_visual(model: Any, folder: Path) -> None:
    """The visual part in float32, as its file has it: it is small, and AdamW's steps would drown in half precision."""
    prefix = "model.visual."
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (it is no mapping)
            found |= {name.removeprefix(prefix): file.get_tensor(name).float() for name in names}
    model.model.visual.float().load_state_dict(found, strict=True)


def _spread(placement: Placement, processes: int) -> dict[str, Any]:
    from transformers.distributed.configuration_utils import DistributedConfig

    cut = placement.tensor_parallel
    if processes < 2 or processes % cut:
        what = f"{processes} processes cannot hold a model in shares ({placement.strategy}, tensor_parallel {cut})"
        raise HwsiError(Reason.OPTION_INVALID, what, "start with torchrun --nproc_per_node N, N a multiple of it")
    if cut > 1:
        return {"distributed_config": DistributedConfig(tp_size=cut, fsdp_size=1)}
    # layers are gathered one by one; the rest (embeddings, head) is the root's
    plan = dict.fromkeys(("model.language_model.layers.*", "model.visual"), "free_full_weight")
    return {"distributed_config": DistributedConfig(fsdp_size=processes, fsdp_plan=plan)}


def _load_spread(folder: Path, how: Mapping[str, Any], dtype: torch.dtype) -> tuple[Any, Any]:
    if is_released(folder):
        what = f"{folder} is in the release's layout, which is read on one device"
        raise HwsiError(Reason.OPTION_INVALID, what, "convert it first: hwsi convert")
    try:
        with quiet():
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, local_files_only=True, **how
            )
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except OSError as error:
        raise HwsiError(Reason.WEIGHTS_MISSING, f"no model in {folder}: {error}", "name a stage's output") from error
    model, info = loaded
    check_loading(info, folder)
    return model, processor


def is_spread(model: Any) -> bool:
    """Whether every process holds only its share."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(base, "is_distributed_loading_by_transformers", False))


def prepare(model: Any, learn: Learn, *, seed: int) -> Any:
    """Let the right weights learn; with LoRA, wrap the model.

    Args:
        model: as loaded. learn: what changes. seed: of the adapters' first weights.

    Returns:
        The model, or a ``PeftModel`` around it.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(learn.language == "full")
    if learn.language == "lora":
        from peft import LoraConfig, get_peft_model

        copied = learn.visual != "frozen" and not is_spread(model)
        layers = "|".join(learn.lora.layers)
        config = LoraConfig(
            r=learn.lora.rank,
            lora_alpha=learn.lora.alpha,  # type: ignore[arg-type]
            lora_dropout=learn.lora.dropout,
            target_modules=rf".*language_model.*\.({layers})",
            modules_to_save=["visual"] if copied else None,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = get_peft_model(model, config)
    for name, parameter in visual_parameters(model).items():
        aligned = learn.visual == "projectors" and _ALIGNED in name.split(".")
        parameter.requires_grad_(learn.visual != "frozen" and not aligned)
    return model


def visual_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of the visual part that the model computes with: of a copy, the copy's."""
    found = {name: p for name, p in model.named_parameters() if "visual" in name.split(".")}
    return {name: p for name, p in found.items() if "original_module" not in name.split(".")}


def gather_no_longer(model: Any) -> None:
    """Give back what a pass without gradient left gathered of a spread model.

    FSDP2 keeps some weights (embeddings, last norm, head) gathered after a forward pass, until a backward pass
    has gone through them. An optimizer that is made in between would hold the gathered copies, and train them in vain.
    """
    if is_spread(model):
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def whole_state(model: Any) -> dict[str, Tensor]:
    """All weights, gathered; on the first process alone where the model is spread (all have to ask)."""
    if is_spread(model):
        from transformers.distributed.utils import gather_full_state_dict

        return gather_full_state_dict(model)
    return dict(model.state_dict())


def plain_model(model: Any, given: Given, learn: Learn, state: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """What is saved: one process's model without adapters, which are added to the weights that they adapt.

    Args:
        model: as trained. state: its weights, whole. Others as they were at the start.
    """
    if is_spread(model):
        bare, _ = load(given.model, dtype=dtype)
        model = prepare(bare, learn, seed=0)
        # of a copy that only this process made, the names differ
        model.load_state_dict({_copied(name, model): value for name, value in state.items()}, strict=False)
        _same(model, state)
    return model.merge_and_unload() if learn.language == "lora" else model


def _copied(name: str, model: nn.Module) -> str:
    copy = name.replace(".visual.", ".visual.modules_to_save.default.")
    return copy if copy in model.state_dict() else name


def _same(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    here = model.state_dict()
    lost = [name for name, value in state.items() if not torch.equal(here[_copied(name, model)], value)]
    if lost:
        raise RuntimeError(f"{len(lost)} weights of the trained model were not taken over: {lost[:3]}")
