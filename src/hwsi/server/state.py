"""All that lives as long as a server, in one place."""

import sys
import threading
import traceback
from collections import OrderedDict
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastapi import Request

from hwsi.errors import HwsiError
from hwsi.features.atomic import told
from hwsi.inference.loading import load_model
from hwsi.inference.report import Report
from hwsi.inference.vllm import Vllm, connect
from hwsi.presets import load_preset
from hwsi.server.asides import Asides
from hwsi.server.encoded import EncodedSlides
from hwsi.server.jobs import Jobs
from hwsi.server.library import Library
from hwsi.server.partials import Partials
from hwsi.server.problems import Problem
from hwsi.server.scores import Scores
from hwsi.server.sessions import Sessions
from hwsi.server.settings import Settings
from hwsi.server.tiles import Pixels
from hwsi.server.worker import ModelWorker

if TYPE_CHECKING:
    from hwsi.inference.seen import Seen

T = TypeVar("T")
MAX_ANSWERS, MAX_REPORTS, MAX_QUIZZES = 1000, 64, 2000


class Recent(Generic[T]):
    """The things that were kept last, by a key; may be used from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str) -> T | None:
        """What was kept under a key, if it still is."""
        with self._lock:
            return self._kept.get(key)

    def put(self, key: str, thing: T) -> None:
        """Keep something; the oldest goes."""
        with self._lock:
            self._kept[key] = thing
            self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)


class Server:
    """The parts of a server.

    Attributes:
        answers: by id, as plain data. asked: the questions to them. reports: of slides, the last of each.
        quizzes: by id.
        hidden: folders whose names are left out of what clients are told.
        speaker: who says the words of open questions, where it is not the model itself.
    """

    def __init__(self, settings: Settings) -> None:
        with told(settings.job):
            settings.job.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.preset = load_preset(settings.preset)
        self.library = Library(settings)
        self.hidden: tuple[Path, ...] = (self.library.root, settings.slides, settings.job)
        self.pixels = Pixels(settings)
        self.encoded = EncodedSlides(self.library, self.preset)
        self.speaker = _speaker(settings)
        self.worker = ModelWorker(queue=settings.queue, limit_s=settings.question_s)
        self.asides = Asides(settings.queue)
        self.sessions = Sessions(settings, self.library, self.encoded, self.worker, self.speaker)
        self.partials = Partials(settings, self.library, self.preset)
        self.jobs = Jobs(settings, self.library)
        self.scores = Scores(settings.job / "scores.sqlite")
        self.answers: Recent[dict[str, Any]] = Recent(MAX_ANSWERS)
        self.asked: Recent[Any] = Recent(MAX_ANSWERS)
        self.reports: Recent[Report] = Recent(MAX_REPORTS)
        self.quizzes: Recent[Any] = Recent(MAX_QUIZZES)

    def begin(self) -> None:
        """Load the model while nobody asks yet."""
        self.worker.submit(self.sessions.load, "server", later=True)

    def readable(self, slide: str) -> "Seen | None":
        """See that a slide can be asked about: None if it is whole, else what was seen of it so far.

        Raises Problem (404; 409 if none of it was encoded), HwsiError (features_corrupt).
        """
        seen = self.partials.get(slide) if self.library.features(slide) is None else None
        if seen is None:
            self.encoded.get(slide)
        return seen

    def close(self) -> None:
        """End all threads."""
        self.worker.close()
        self.asides.close()
        self.jobs.close()
        self.pixels.close()

    def log(self, error: BaseException) -> None:
        """A bug goes to stderr with its traceback; what a user can cause does not."""
        if not isinstance(error, HwsiError | Problem | CancelledError):
            traceback.print_exception(error, file=sys.stderr)


def _speaker(settings: Settings) -> Vllm | None:
    """Seen to hold the same model before anything listens. Raises HwsiError (of loading, and of ``vllm.connect``)."""
    if settings.vllm is None:
        return None
    model, processor, _ = load_model(settings.preset, settings.device)
    return connect(settings.vllm, model, processor)


def server_of(request: Request) -> Server:
    """The server that answers a request."""
    server = request.app.state.server
    assert isinstance(server, Server)
    return server


def user_of(request: Request) -> str:
    """Who asks; known since the doors (``access.py``) let the request in."""
    return str(request.state.user)
