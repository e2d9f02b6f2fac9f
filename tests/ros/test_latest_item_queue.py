import threading
import time

import numpy as np

from bevfusion.ros.latest_item_queue import LatestItemQueue


def test_the_newest_item_is_taken_and_the_others_are_counted():
    taken, gate = [], threading.Event()

    def work(item: int) -> None:
        gate.wait(5.0)
        taken.append(item)

    queue = LatestItemQueue(work)
    queue.put(0)
    time.sleep(0.05)  # the worker holds 0
    for item in range(1, 5):
        queue.put(item)
    gate.set()
    time.sleep(0.1)
    assert taken == [0, 4]
    assert queue.dropped == 3
    assert queue.stop(1.0)


def test_under_load_an_item_waits_for_one_step_at_most():
    step_s, waited_s = 0.06, []

    def work(put_s: float) -> None:
        waited_s.append(time.monotonic() - put_s)
        time.sleep(step_s)

    queue = LatestItemQueue(work)
    for _ in range(60):
        queue.put(time.monotonic())
        time.sleep(0.01)
    assert queue.stop(1.0)
    # the machine may stall; most items must not
    assert np.percentile(waited_s, 80) < step_s + 0.03
    assert queue.dropped > 30


def test_a_bug_does_not_end_the_worker(caplog):
    taken = []

    def work(item: int) -> None:
        if item == 0:
            raise RuntimeError("a bug")
        taken.append(item)

    queue = LatestItemQueue(work)
    for item in range(2):
        queue.put(item)
        time.sleep(0.05)
    assert queue.stop(1.0)
    assert (taken, queue.crashes) == ([1], 1)
    assert "a bug" in caplog.text


def test_a_step_under_way_is_waited_for_only_so_long():
    gate = threading.Event()
    queue = LatestItemQueue(lambda item: gate.wait(5.0))
    queue.put(0)
    time.sleep(0.05)
    assert not queue.stop(0.05)
    gate.set()
    assert queue.stop(1.0)
