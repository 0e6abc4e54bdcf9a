"""A pool of open files: any number of slides may be open, few hold handles of the operating system.

- The least recently used idle backend is closed when there are more than ``max_open``, or when what they keep
  in memory is more than ``max_bytes``; it is opened again when it is next read.
- A backend that failed is thrown away: OpenSlide latches an error, so a handle that failed once would fail
  for ever.
- A forked child starts with an empty pool: file offsets are shared between parent and child.
"""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hwsi.slide.backend import Backend


class _Entry:
    def __init__(self, opener: Callable[[], Backend]) -> None:
        self.opener = opener
        self.opening = threading.Lock()
        self.backend: Backend | None = None
        self.users = 0
        self.stale = False


class HandlePool:
    """Backends by key, opened on demand, closed when idle for long."""

    def __init__(self, max_open: int = 32, max_bytes: int = 1 << 30) -> None:
        self._max_open = max_open
        self._max_bytes = max_bytes
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.RLock()  # reentrant: a slide may be collected, and so dropped, while it is held
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._keys = itertools.count()

    def new_key(self) -> int:
        """A key that no other slide of this process has."""
        with self._lock:
            return next(self._keys)

    @contextmanager
    def use(self, key: int, opener: Callable[[], Backend]) -> Iterator[Backend]:
        """The backend of ``key``, kept open for as long as the block lasts."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry(opener))
            self._entries.move_to_end(key)
            entry.users += 1
        try:
            with entry.opening:
                if entry.backend is None:
                    entry.backend = entry.opener()
            yield entry.backend
        except BaseException:
            with self._lock:
                entry.stale = True
                if self._entries.get(key) is entry:
                    del self._entries[key]
            raise
        finally:
            with self._lock:
                entry.users -= 1
                if entry.stale:
                    self._close(entry)
                self._evict()

    def drop(self, key: int) -> None:
        """Close the backend of ``key``, at once or when its last user is done."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                entry.stale = True
                self._close(entry)

    def __len__(self) -> int:
        return sum(e.backend is not None for e in self._entries.values())

    @staticmethod
    def _close(entry: _Entry) -> None:
        if entry.users == 0 and entry.backend is not None:
            entry.backend.close()
            entry.backend = None

    def _evict(self) -> None:
        held = sum(e.backend.nbytes for e in self._entries.values() if e.backend is not None)
        for key, entry in list(self._entries.items()):
            if len(self._entries) <= self._max_open and held <= self._max_bytes:
                break
            if entry.users == 0:
                held -= entry.backend.nbytes if entry.backend is not None else 0
                del self._entries[key]
                self._close(entry)


POOL = HandlePool()
