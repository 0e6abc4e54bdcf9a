"""A question on its way: words as they come, then the answer with its evidence, then nothing.

- Two tasks of the model's thread: the words, and what they rest on, which may wait for others' words.
- Words that another server says are waited for aside; the model's thread then says how likely they are.
- Who stops listening cancels what is under way.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from hwsi.server.events import KEEP_ALIVE_S, Channel
from hwsi.server.problems import Problem, tell
from hwsi.server.state import Server
from hwsi.server.worker import Task

_DONE = object()


@dataclass(frozen=True)
class Spoken:
    """Words that were said.

    Attributes:
        result: an answer or a report without evidence.
        weigh: the same with evidence; called in the model's thread.
    """

    result: Any
    weigh: Callable[[], Any]


@dataclass(frozen=True)
class Elsewhere:
    """Words that another server says.

    Attributes:
        say: waits for them, in a thread of its own; given what raises once they are no longer wanted.
        then: makes of them a :class:`Spoken`; called in the model's thread.
    """

    say: Callable[[Callable[[], None]], Any]
    then: Callable[[Any], Spoken]


class Exchange:
    """One question; made when it is let in, so that a full queue is told before a stream begins.

    Attributes:
        position: how many waited before it. failed: what went wrong, once ``error`` was given.

    Args:
        speak: given where pieces of words go, the work that makes a :class:`Spoken`, or an :class:`Elsewhere` that does
            (see ``ModelWorker.submit``).
        evidence: whether it is wanted.
    """

    def __init__(
        self,
        server: Server,
        user: str,
        speak: Callable[[Callable[[str], None]], Callable[[], Spoken | Elsewhere]],
        *,
        evidence: bool,
        limit_s: float,
    ) -> None:
        self._server, self._user, self._evidence = server, user, evidence
        self._limit_s = limit_s
        self._channel = Channel()
        server.asides.check()
        self.failed: Exception | None = None
        self.position = server.worker.waiting()
        self._task = self._submit(speak(self._channel.put), later=False)

    async def events(self) -> AsyncGenerator[tuple[str, Any]]:
        """``token`` (str), ``weighing`` (None; the words are whole), ``wait`` (None; nothing happened for a while), at
        last ``result`` or ``error`` (Told)."""
        try:
            async for said in self._until_done():
                yield said
            spoken: Spoken | Elsewhere = self._task.future.result()
            if isinstance(spoken, Elsewhere):
                self._task = self._told(self._server.asides.submit(spoken.say, limit_s=self._limit_s))
                async for said in self._until_done():
                    yield said
                made = partial(spoken.then, self._task.future.result())
                self._task = self._submit(made, later=False, let_in=True)
                async for said in self._until_done():
                    yield said
                spoken = cast(Spoken, self._task.future.result())
            result = spoken.result
            if self._evidence:
                self._task = self._submit(spoken.weigh, later=True)
                yield "weighing", None
                async for said in self._until_done():
                    yield said
                try:
                    result = self._task.future.result()
                except Problem as late:  # the words are there; that nothing says what they rest on is told
                    warning = f"What the words rest on was not measured: {late}."
                    result = replace(result, warnings=(*result.warnings, warning))
            yield "result", result
        except Exception as error:  # the stream has begun: the error is its last event
            self.failed = error
            self._server.log(error)
            yield "error", tell(error, self._server.hidden)
        finally:
            self._task.cancel()

    async def _until_done(self) -> AsyncIterator[tuple[str, Any]]:
        while True:
            try:
                said = await self._channel.get(KEEP_ALIVE_S)
            except TimeoutError:
                yield "wait", None
                continue
            if said is _DONE:
                return
            yield "token", said

    def _submit(self, work: Callable[[], Any], *, later: bool, let_in: bool = False) -> Task:
        return self._told(
            self._server.worker.submit(work, self._user, later=later, let_in=let_in, limit_s=self._limit_s)
        )

    def _told(self, task: Task) -> Task:
        """The task, whose end the channel tells."""
        task.future.add_done_callback(lambda _: self._channel.put(_DONE))
        return task
