"""How fast an encoder is, and the batch size and memory layout that suit it on a device: measured, not looked up.

- Caches, threads and GPUs differ more than any table tells: a large batch fills a GPU and spills a CPU's cache.
- A clock that moves and neighbours on the machine make one measurement lie: each setting has several, in turns.
- Of settings that are as good as equal the smallest batch is taken, since it needs the least memory.
- The last bits of a vector depend on the batch size: a run that must give the same bytes keeps the one it began with.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

_AS_GOOD = 0.97  # of the fastest: less is noise
_HOPELESS = 0.8  # of the fastest in the first turn: larger batches are not tried
_TURNS = 3


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one setting gave: images a second, and on a GPU the most memory that it held, in bytes (else 0)."""

    batch: int
    channels_last: bool
    images_per_s: float
    memory_bytes: int


def measure(
    run: Callable[[], object], device: torch.device, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, int]:
    """Calls of ``run`` a second, after one that isn't counted, and the most memory in bytes that a GPU held.

    Args:
        run: what is called again and again, for at least ``seconds`` and at least once.
        clock: in seconds.
    """
    gpu = device.type == "cuda"

    def now() -> float:
        if gpu:
            torch.cuda.synchronize(device)
        return clock()

    run()
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    start, calls = now(), 0
    while True:
        run()
        calls += 1
        passed = now() - start
        if passed >= seconds:
            return calls / passed, torch.cuda.max_memory_allocated(device) if gpu else 0


def best_batch(
    encoder: nn.Module,
    device: torch.device,
    candidates: Sequence[int],
    seconds: float,
    *,
    batch: Callable[[int], Callable[[], object]],
    clock: Callable[[], float] = time.perf_counter,
) -> Rate:
    """The smallest batch that gives as good as the most images a second, and its layout.

    Batches are tried from the smallest up, as long as they get no slower and fit into a GPU's memory; with the one that
    is taken, convolutions' weights are tried channels-last, too. Each counts as its median of three turns. At the end
    the encoder's weights are as before.

    Args:
        encoder: on ``device``.
        candidates: batch sizes, at least one.
        seconds: for each setting, all turns together.
        batch: from a number of images to what encodes that many, such as ``lambda n: partial(encoder.encode, ...)``.

    Raises:
        torch.OutOfMemoryError: not even the smallest batch fits.
    """

    def rate(n: int, channels_last: bool = False) -> Rate:
        _lay_out(encoder, torch.channels_last if channels_last else torch.contiguous_format)
        calls, memory = measure(batch(n), device, seconds / _TURNS, clock)
        return Rate(batch=n, channels_last=channels_last, images_per_s=n * calls, memory_bytes=memory)

    try:
        first = _climb(sorted(candidates), rate)
        turns = [[r] for r in first]
        for _ in range(_TURNS - 1):
            for found in turns:
                found.append(rate(found[0].batch))
        rates = [_middle(found) for found in turns]
        most = max(r.images_per_s for r in rates)
        best = next(r for r in rates if r.images_per_s >= _AS_GOOD * most)
        if any(w.ndim == 4 for w in encoder.parameters()):
            pairs = [(rate(best.batch, True), rate(best.batch)) for _ in range(_TURNS)]
            other, same = (_middle(side) for side in zip(*pairs, strict=True))
            if _AS_GOOD * other.images_per_s > same.images_per_s:
                return other
        return best
    finally:
        _lay_out(encoder, torch.contiguous_format)


def _climb(candidates: Sequence[int], rate: Callable[[int], Rate]) -> list[Rate]:
    """The first turn: batches from the smallest up to the one that is much slower or doesn't fit."""
    rates: list[Rate] = []
    for n in candidates:
        try:
            rates.append(rate(n))
        except torch.OutOfMemoryError:
            if not rates:
                raise
            break
        if rates[-1].images_per_s < _HOPELESS * max(r.images_per_s for r in rates):
            break
    return rates


def _middle(rates: Sequence[Rate]) -> Rate:
    return sorted(rates, key=lambda r: r.images_per_s)[len(rates) // 2]


def _lay_out(encoder: nn.Module, layout: torch.memory_format) -> None:
    encoder.to(memory_format=layout)  # type: ignore[call-overload]
