"""Turns at the models: one at a time, the slide begun first goes first, and nobody waits for one who has nothing."""

import threading
import time

from hwsi.encoding.turns import Place, Turns


def test_one_at_a_time_and_the_first_goes_first():
    turns, order, inside = Turns(), [], []
    held = threading.Event()

    def slide(number):
        place = Place(turns, number, lambda waits: None)
        with place():
            inside.append(number)
            assert len(inside) == 1
            order.append(number)
            time.sleep(0.01)
            inside.remove(number)

    with turns.take(0):
        threads = [threading.Thread(target=slide, args=(n,)) for n in (3, 1, 2)]
        for thread in threads:
            thread.start()
        while len(turns._waiting) < 3:
            held.wait(0.01)
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3]


def test_a_later_slide_goes_while_the_first_is_not_there_and_waiting_is_counted():
    turns, told = Turns(), []
    later = Place(turns, 2, told.append)
    with later():
        pass
    assert told == [True, False]
    assert later.waited < 0.05
    with turns.take(1):
        thread = threading.Thread(target=lambda: later().__enter__())
        thread.start()
        time.sleep(0.1)
    thread.join()
    assert later.waited > 0.08


def test_who_fails_gives_the_models_back():
    turns = Turns()
    try:
        with turns.take(0):
            raise ValueError
    except ValueError:
        pass
    with turns.take(1):
        pass
