"""Where encoders compute.

- ``auto`` takes a GPU where there is one, but not for the embedded encoders: they are quick enough anywhere, and then
  their features are the same bytes on every machine of a kind.
"""

from hwsi.errors import HwsiError, Reason


def choose_device(name: str, *, small: bool) -> str:
    """A device of torch that there is.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        small: all weights are in the package, so ``auto`` is the CPU.

    Raises:
        HwsiError: OPTION_INVALID for what is no device, or is not here.
    """
    import torch

    if name == "auto":
        return "cuda" if not small and torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = f"there is no device {name!r} to compute on: {str(error).splitlines()[0]}"
        raise HwsiError(Reason.OPTION_INVALID, what, "take cpu, or auto; hwsi doctor tells what it sees") from error
    return str(device)


def devices_of(name: str, *, small: bool) -> tuple[str, ...]:
    """The devices that a name stands for: those that it lists, or all GPUs; each worker has one, in turns.

    Args:
        name: as of :func:`choose_device`, or several with commas between: ``cuda:0,cuda:2``.
        small: all weights are in the package, so ``auto`` is the CPU.
    """
    if name not in ("auto", "cuda"):
        return tuple(part.strip() for part in name.split(","))
    if name == "auto" and small:
        return (name,)
    import torch

    count = torch.cuda.device_count()
    return tuple(f"cuda:{i}" for i in range(count)) if count > 1 else (name,)
