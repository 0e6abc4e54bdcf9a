"""One thread for the model: who is served next, with whom, and how a question ends early.

- Words before evidence: a question's words are a task of their own. Evidence waits while others have no words yet, but
  not for longer than :data:`PATIENCE_S`; and where it is at work, words that come are spoken between two of its passes.
- Together: words about the same slide are spoken in one batch.
- Users in turn: who asks ten questions waits behind who asks one.
- A task is stopped where the model next computes (:meth:`ModelWorker.check`, hooked before its forward pass): when its
  client has gone, and when its time is up.
- The queue is bounded; beyond that a client is told when to come again.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from hwsi.errors import HwsiError
from hwsi.server.problems import Problem, busy

PATIENCE_S = 10.0
MAX_TOGETHER = 8
_SECONDS_AT_FIRST = 2.0
_MOST_OF_TIME = 3.0
"""Words take at most so many times the time of the evidence that they interrupt: it must get on, too."""


@dataclass(frozen=True)
class Together:
    """Work that can be done with others' in one batch.

    Attributes:
        key: work of the same key fits together.
        item: what is particular to this one.
        work: items to their results, in order; called in the model's thread.
    """

    key: Hashable
    item: Any
    work: Callable[[Sequence[Any]], Sequence[Any]]

    def __call__(self) -> Any:
        """The result of this one alone."""
        return self.work([self.item])[0]


class Task:
    """Something for the model to do.

    Attributes:
        future: its result, or why there is none. submitted: when, on the monotonic clock.
        later: whether it may wait for others' words.
    """

    def __init__(self, work: Callable[[], Any], *, limit_s: float, later: bool = False) -> None:
        self.work, self.later = work, later
        self.future: Future[Any] = Future()
        self.submitted = time.monotonic()
        self._limit_s = limit_s
        self._spent, self._since = 0.0, 0.0
        self._gone = threading.Event()

    def cancel(self) -> None:
        """Its client has gone; it ends soon, or never begins."""
        self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it."""
        return self._gone.is_set()

    @property
    def spent(self) -> float:
        """Seconds that it was at work, pauses left out."""
        return self._spent + time.monotonic() - self._since

    def resume(self) -> None:
        """Its time runs from here."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """Its time stands still until it is resumed."""
        self._spent = self.spent

    def check(self) -> None:
        """Raises CancelledError if nobody waits for it, Problem (504) if its time is up."""
        if self.gone:
            raise CancelledError
        if self.spent > self._limit_s:
            raise Problem(504, "timeout", f"the answer took more than {self._limit_s:g} s", "ask for less")


class ModelWorker:
    """The thread and its queue."""

    def __init__(self, *, queue: int, limit_s: float) -> None:
        self._queue, self._limit_s = queue, limit_s
        self._changed = threading.Condition()
        self._waiting: tuple[OrderedDict[str, deque[Task]], OrderedDict[str, deque[Task]]]
        self._waiting = (OrderedDict(), OrderedDict())  # words, evidence; of each user
        self._current: list[Task] = []
        self._lent_s = 0.0  # to words, by the evidence that is at work
        self._closed = False
        self._mean_s = _SECONDS_AT_FIRST
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[], Any],
        user: str,
        *,
        later: bool = False,
        let_in: bool = False,
        limit_s: float | None = None,
    ) -> Task:
        """Queue something.

        Args:
            work: called in the model's thread; a :class:`Together` may be done with others.
            user: whose turn it takes.
            later: it may wait for others' words, and is always taken: evidence follows on words that were let in.
            let_in: it is taken however many wait: a question that was let in goes on.
            limit_s: the time it has once it has begun, where that is not as always.

        Raises:
            Problem: 429, the queue is full; 503, the server is closing.
        """
        task = Task(work, limit_s=self._limit_s if limit_s is None else limit_s, later=later)
        with self._changed:
            if self._closed:
                raise Problem(503, "closing", "the server is closing")
            waiting = self.waiting()
            if waiting >= self._queue and not (later or let_in):
                raise busy("too many questions wait", waiting * self._mean_s)
            self._waiting[later].setdefault(user, deque()).append(task)
            self._changed.notify()
        return task

    def waiting(self) -> int:
        """How many tasks wait."""
        return sum(len(tasks) for users in self._waiting for tasks in users.values())

    def check(self) -> None:
        """Raises if what runs now must end; lets words pass evidence. Does nothing in another thread."""
        if threading.current_thread() is not self._thread or not self._current:
            return
        if self._closed or all(task.gone for task in self._current):
            raise CancelledError
        for task in self._current:
            if not task.gone:
                task.check()
        self._let_words_pass()

    def close(self) -> None:
        """End: what waits is cancelled, what runs is stopped."""
        with self._changed:
            self._closed = True
            for users in self._waiting:
                for tasks in users.values():
                    for task in tasks:
                        task.cancel()
                        task.future.cancel()
                users.clear()
            for task in self._current:
                task.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self.waiting():
                    self._changed.wait()
                if self._closed:
                    return
                tasks = self._next(self._evidence_is_due())
            self._lent_s = 0.0
            self._do(tasks)

    def _let_words_pass(self) -> None:
        """Between two passes of evidence: speak the words that wait, then go on."""
        evidence = self._current[0]
        if not evidence.later or not self._waiting[0] or self._lent_s > _MOST_OF_TIME * evidence.spent:
            return
        with self._changed:
            words = self._next(evidence=False) if self._waiting[0] else []
        paused, began = self._current, time.monotonic()
        evidence.pause()
        try:
            self._do(words)
        finally:
            self._current = paused
            evidence.resume()
            self._lent_s += time.monotonic() - began

    def _do(self, tasks: Sequence[Task]) -> None:
        """Do what was taken from the queue, together if it is several."""
        self._current = [task for task in tasks if not task.gone and task.future.set_running_or_notify_cancel()]
        for task in tasks:
            if task.gone:
                task.future.cancel()
        if not self._current:
            return
        group, began = self._current, time.monotonic()
        for task in group:
            task.resume()
        try:
            self._work(group)
        finally:
            self._current = []
            self._mean_s += 0.2 * ((time.monotonic() - began) / len(group) - self._mean_s)

    def _work(self, group: Sequence[Task]) -> None:
        """Results into futures; whatever goes wrong is told to who waits, and the thread goes on."""
        try:
            first = group[0].work
            if len(group) > 1 and isinstance(first, Together):
                results = first.work([task.work.item for task in group if isinstance(task.work, Together)])
            else:
                results = [first()]
            for task, result in zip(group, results, strict=True):
                task.future.set_result(result)
        except HwsiError as error:
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for task in group:  # what is wrong with one of them is no fault of the others
                self._current = [task]
                self._work([task])
        except BaseException as error:
            for task in group:
                task.future.set_exception(error)

    def _evidence_is_due(self) -> bool:
        """Whether no words wait, or evidence has waited too long."""
        words, evidence = self._waiting
        late = any(time.monotonic() - tasks[0].submitted > PATIENCE_S for tasks in evidence.values())
        return bool(evidence) and (late or not words)

    def _next(self, evidence: bool) -> list[Task]:
        """The first task of the user who was served longest ago, and of words those that fit together with it."""
        users = self._waiting[evidence]
        user, tasks = next(iter(users.items()))
        task = tasks.popleft()
        if tasks:
            users.move_to_end(user)
        else:
            del users[user]
        return [task, *(self._fitting(task.work) if isinstance(task.work, Together) else [])]

    def _fitting(self, work: Together) -> list[Task]:
        """Takes waiting words of the same key out of the queue, of each user in turn those in front."""
        found: list[Task] = []
        users = self._waiting[0]
        for user in list(users):
            tasks = users[user]
            while tasks and len(found) + 1 < MAX_TOGETHER:
                if not isinstance(tasks[0].work, Together) or tasks[0].work.key != work.key:
                    break
                found.append(tasks.popleft())
            if not tasks:
                del users[user]
        return found
