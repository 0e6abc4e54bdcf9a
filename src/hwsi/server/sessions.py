"""Slides that the language model has read, shared by all who ask; used in the model's thread alone.

- The slide's part of the prompt is read once and kept, whoever asks; the slides that were asked about last are kept.
- A hook before every pass of the model lets a question end early (``worker.py``).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwsi.errors import HwsiError
from hwsi.features import SlideFeatures
from hwsi.inference.loading import load_model
from hwsi.inference.space import Space, load_space
from hwsi.inference.studied import StudiedSlide
from hwsi.inference.vllm import Vllm
from hwsi.server.area import Area, restricted
from hwsi.server.encoded import EncodedSlides
from hwsi.server.library import Library
from hwsi.server.settings import Settings
from hwsi.server.worker import ModelWorker

if TYPE_CHECKING:
    from hwsi.inference.seen import Seen

Key = tuple[str, Area | None, tuple[int, int]]


class Sessions:
    """Sessions by slide and drawn area.

    Attributes:
        state: ``loading``, ``ready`` or ``failed``; ``error`` says why.
    """

    def __init__(
        self,
        settings: Settings,
        library: Library,
        encoded: EncodedSlides,
        worker: ModelWorker,
        speaker: Vllm | None = None,
    ) -> None:
        self._settings, self._library, self._encoded, self._worker = settings, library, encoded, worker
        self._speaker = speaker
        self._kept: OrderedDict[Key, StudiedSlide] = OrderedDict()
        self._stack: Any = None
        self._space: Space | None = None
        self._hooked: Any = None
        self._patches: dict[str, tuple[tuple[int, int], frozenset[int]]] = {}
        self._lock = threading.Lock()
        self.state, self.error = "loading", ""

    def load(self) -> None:
        """Load the model; what is missing is kept in ``error`` and told to who asks."""
        try:
            self._model()
        except HwsiError as error:
            self.state, self.error = "failed", f"{error.what}. {error.todo}"
        else:
            self.state = "ready"

    def get(self, slide: str, area: Area | None = None, seen: "Seen | None" = None) -> StudiedSlide:
        """The session of an encoded slide, of what lies in an area of it, or of what was seen of one so far.

        Raises Problem (404, 409), HwsiError (of opening, reading and loading; no_tissue in the area).
        """
        if seen is not None:
            return self._kept_or((slide, None, (-1, seen.done)), lambda: self._studied(seen.features))
        path = self._library.features(slide)
        stat = path.stat() if path is not None else None
        key = slide, area, (stat.st_mtime_ns, stat.st_size) if stat is not None else (0, 0)
        session = self._kept_or(key, lambda: self._made(slide, area, str(path)))
        if area is None:
            with self._lock:
                self._patches[slide] = key[2], frozenset(session.kept_patches)
        return session

    def kept_patches(self, slide: str) -> frozenset[int] | None:
        """Rows of the patches that the model reads one by one, if the slide was read; may be called from any thread."""
        path = self._library.features(slide)
        with self._lock:
            state, kept = self._patches.get(slide, ((0, 0), frozenset()))
        if path is None or state != ((stat := path.stat()).st_mtime_ns, stat.st_size):
            return None
        return kept

    def space(self) -> Space:
        """The space of words of the preset, loaded when first needed. Raises HwsiError (of ``load_space``)."""
        if self._space is None:
            self._space = load_space(self._settings.preset, device=self._settings.device)
        return self._space

    def _kept_or(self, key: Key, make: Callable[[], StudiedSlide]) -> StudiedSlide:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        session = self._kept[key] = make()
        session.speaker = self._speaker
        while len(self._kept) > self._settings.sessions:
            self._kept.popitem(last=False)
        return session

    def _model(self) -> tuple[Any, Any, str]:
        loaded = load_model(self._settings.preset, self._settings.device)
        if loaded[0] is not self._hooked:
            loaded[0].register_forward_pre_hook(lambda *_: self._worker.check())
            self._hooked = loaded[0]
        return loaded

    def _made(self, slide: str, area: Area | None, path: str) -> StudiedSlide:
        from hwsi.encoding import load_stack
        from hwsi.inference.session import study
        from hwsi.presets import load_preset

        features = self._encoded.get(slide)
        self._model()
        settings = self._settings
        if area is None:
            opened = self._library.open(slide)
            return study(opened, preset=settings.preset, features=path, device=settings.device)
        preset = load_preset(settings.preset)
        if self._stack is None:
            self._stack = load_stack(preset, settings.device)
        return self._studied(restricted(features.read, area, preset, self._stack))

    def _studied(self, features: SlideFeatures) -> StudiedSlide:
        from hwsi.inference.session import study

        self._model()
        return study(features, preset=self._settings.preset, device=self._settings.device)
