"""Threads that wait for words of another server, while the model's thread goes on.

- As many wait as may queue for the model; beyond that a client is told when to come again.
- A wait ends like a task of the model: when its client has gone, and when its time is up (``Task.check``).
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hwsi.server.problems import busy
from hwsi.server.worker import Task

_SECONDS = 2.0
"""What a client is told to wait for each of those before it: about an answer, spoken among others."""


class Asides:
    """The threads."""

    def __init__(self, most: int) -> None:
        self._most, self._under_way, self._lock = most, 0, threading.Lock()
        self._pool = ThreadPoolExecutor(max(1, most), "aside")

    def check(self) -> None:
        """Raises Problem (429) if no more may wait."""
        if self._under_way and self._under_way >= self._most:
            raise busy("too many questions wait", _SECONDS)

    def submit(self, work: Callable[[Callable[[], None]], Any], *, limit_s: float) -> Task:
        """Do something that is given what raises once it must end; its time runs from here."""
        task = Task(lambda: work(task.check), limit_s=limit_s)
        task.resume()
        with self._lock:
            self._under_way += 1
        self._pool.submit(self._do, task)
        return task

    def close(self) -> None:
        """Take nothing more; what waits ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _do(self, task: Task) -> None:
        try:
            task.check()
            made = task.work()
        except BaseException as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(made)
        finally:
            with self._lock:
                self._under_way -= 1
