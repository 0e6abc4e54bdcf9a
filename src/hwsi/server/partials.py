"""Slides that are still being encoded, as far as they were read; made in the threads that read pixels.

- The tissue of a slide is found once; its regions are looked through again when there are more of them.
"""

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from hwsi.presets import Preset
from hwsi.server.library import Library
from hwsi.server.settings import Settings

if TYPE_CHECKING:
    from hwsi.inference.seen import Seen

MAX_HELD = 4


class Partials:
    """What was seen so far of slides by id; may be used from several threads."""

    def __init__(self, settings: Settings, library: Library, preset: Preset) -> None:
        self._settings, self._library, self._preset = settings, library, preset
        self._lock = threading.Lock()
        self._stack: Any = None
        self._trees: OrderedDict[str, Any] = OrderedDict()
        self._seen: dict[str, Seen] = {}

    def get(self, slide: str) -> "Seen | None":
        """What was seen; None if nothing was, or the slide is whole. Raises Problem (404), HwsiError (of opening)."""
        regions = self._library.partial_regions(slide)
        if not regions:
            self._seen.pop(slide, None)
            return None
        with self._lock:
            held = self._seen.get(slide)
            if held is not None and held.done == regions:
                return held
            seen = self._read(slide)
            if seen is not None:
                self._seen[slide] = seen
            return seen

    def _read(self, slide: str) -> "Seen | None":
        from hwsi.encoding import load_stack
        from hwsi.encoding.encode import find_tree
        from hwsi.inference.seen import read_seen

        opened = self._library.open(slide)
        if self._stack is None:
            self._stack = load_stack(self._preset, self._settings.device)
        key = f"{slide}/{opened.slide_id}/{opened.mpp}"
        if key not in self._trees:
            self._trees[key] = find_tree(opened, self._preset, None)
            while len(self._trees) > MAX_HELD:
                gone, _ = self._trees.popitem(last=False)
                self._seen.pop(gone.partition("/")[0], None)
        job = self._library.entry(slide).job
        return read_seen(opened, job, self._trees[key], preset=self._preset, stack=self._stack)
