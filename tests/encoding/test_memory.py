"""Freed memory goes back: a process that encodes many slides does not grow with them."""

import sys
import threading

import numpy as np
import pytest

from hwsi.encoding.memory import give_back


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_what_threads_freed_is_given_back() -> None:
    def work() -> None:
        # blocks below the size that the C library maps on its own, so that they come from a thread's arena
        kept = [np.ones(12_000) for _ in range(1000)]
        del kept[::2]
        pins.append(kept[-1])

    pins: list[np.ndarray] = []
    before = resident_mb()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    give_back()
    assert resident_mb() - before < 60
