"""The model's queue: words before evidence, users in turn, an end for what nobody waits for."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from hwsi.errors import HwsiError, Reason
from hwsi.server import worker as module
from hwsi.server.problems import Problem
from hwsi.server.worker import ModelWorker, Together


@pytest.fixture
def worker():
    made = ModelWorker(queue=8, limit_s=5)
    yield made
    made.close()


@pytest.fixture
def held(worker):
    """The worker is at work until the event is set."""
    go, begun = threading.Event(), threading.Event()

    def wait():
        begun.set()
        go.wait(10)

    worker.submit(wait, "first")
    assert begun.wait(5)
    yield go
    go.set()


def _record(worker, order, *wanted):
    tasks = []
    for name, user, later in wanted:
        tasks.append(worker.submit(lambda name=name: order.append(name), user, later=later))
    return tasks


def test_words_go_before_evidence_and_users_take_turns(worker, held):
    order: list[str] = []
    tasks = _record(
        worker, order, ("e1", "a", True), ("a1", "a", False), ("a2", "a", False), ("a3", "a", False), ("b1", "b", False)
    )
    held.set()
    for task in tasks:
        task.future.result(5)
    assert order == ["a1", "b1", "a2", "a3", "e1"]


def test_evidence_that_waited_long_goes_first(worker, held, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    order: list[str] = []
    tasks = _record(worker, order, ("e1", "a", True), ("a1", "a", False))
    held.set()
    for task in tasks:
        task.future.result(5)
    assert order == ["e1", "a1"]


def test_a_full_queue_is_told_with_a_time_and_never_refuses_evidence(worker, held):
    for _ in range(8):
        worker.submit(lambda: None, "a")
    with pytest.raises(Problem) as refused:
        worker.submit(lambda: None, "b")
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    worker.submit(lambda: None, "b", later=True)


def test_a_cancelled_task_never_begins_or_ends_at_its_next_check(worker, held):
    ran: list[int] = []
    waiting = worker.submit(lambda: ran.append(1), "a")
    waiting.cancel()
    held.set()
    begun = threading.Event()

    def work():
        begun.set()
        while True:
            worker.check()

    running = worker.submit(work, "a")
    assert begun.wait(5)
    running.cancel()
    with pytest.raises(CancelledError):
        running.future.result(5)
    assert waiting.future.cancelled()
    assert not ran


def test_a_task_has_its_time_and_an_error_does_not_end_the_thread():
    worker = ModelWorker(queue=2, limit_s=0.05)

    def forever():
        while True:
            worker.check()

    with pytest.raises(Problem) as late:
        worker.submit(forever, "a").future.result(5)
    assert late.value.told.reason == "timeout"
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0, "a").future.result(5)
    assert worker.submit(lambda: 7, "a").future.result(5) == 7
    worker.close()
    with pytest.raises(Problem):
        worker.submit(lambda: None, "a")


def test_a_check_in_another_thread_says_nothing(worker, held):
    worker.check()


def _together(worker, calls, *items, user="a"):
    def work(given):
        calls.append(list(given))
        if "bad" in given:
            raise HwsiError(Reason.QUESTION_TOO_LONG, "too long", "be brief")
        return [item.upper() for item in given]

    return [worker.submit(Together("key", item, work), f"{user}{n}") for n, item in enumerate(items)]


def test_what_fits_together_is_done_in_one_batch_and_other_work_is_not(worker, held):
    calls: list[list[str]] = []
    tasks = _together(worker, calls, "x", "y", "z")
    other = worker.submit(lambda: "alone", "b")
    held.set()
    assert [task.future.result(5) for task in tasks] == ["X", "Y", "Z"]
    assert other.future.result(5) == "alone"
    assert calls == [["x", "y", "z"]]


def test_a_batch_has_a_limit(worker, held, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOGETHER", 2)
    calls: list[list[str]] = []
    tasks = _together(worker, calls, "x", "y", "z")
    held.set()
    assert [task.future.result(5) for task in tasks] == ["X", "Y", "Z"]
    assert calls == [["x", "y"], ["z"]]


def test_one_that_is_wrong_does_not_spoil_the_batch(worker, held):
    calls: list[list[str]] = []
    good, bad, fine = _together(worker, calls, "x", "bad", "z")
    held.set()
    assert (good.future.result(5), fine.future.result(5)) == ("X", "Z")
    with pytest.raises(HwsiError):
        bad.future.result(5)


def test_who_has_left_is_not_in_the_batch(worker, held):
    calls: list[list[str]] = []
    gone, stays = _together(worker, calls, "x", "y")
    gone.cancel()
    held.set()
    assert stays.future.result(5) == "Y"
    assert calls == [["y"]]


def test_words_pass_evidence_that_is_at_work(worker):
    order, begun, go = [], threading.Event(), threading.Event()

    def evidence():
        begun.set()
        go.wait(5)
        time.sleep(0.01)  # it must have worked some time before it lends any
        worker.check()
        order.append("evidence")
        return "weighed"

    weighing = worker.submit(evidence, "a", later=True)
    assert begun.wait(5)
    words = worker.submit(lambda: order.append("words"), "b")
    failing = worker.submit(lambda: 1 / 0, "c")
    go.set()
    assert weighing.future.result(5) == "weighed"
    words.future.result(5)
    with pytest.raises(ZeroDivisionError):
        failing.future.result(5)
    assert order == ["words", "evidence"]


def test_evidence_gets_on_however_many_words_come(worker, monkeypatch):
    monkeypatch.setattr(module, "_MOST_OF_TIME", 0.0)
    order, begun, go = [], threading.Event(), threading.Event()

    def evidence():
        begun.set()
        go.wait(5)
        for _ in range(3):
            worker.check()
        order.append("evidence")

    weighing = worker.submit(evidence, "a", later=True)
    assert begun.wait(5)
    words = [worker.submit(lambda: (time.sleep(0.01), order.append("words")), "b") for _ in range(3)]
    go.set()
    for task in (weighing, *words):
        task.future.result(5)
    assert order == ["words", "evidence", "words", "words"]
