import threading
import time

import numpy as np

from bevfusion.ros.mailbox import Mailbox


def test_the_newest_item_is_taken_and_the_others_are_counted():
    taken, gate = [], threading.Event()

    def work(item: int) -> None:
        gate.wait(5.0)
        taken.append(item)

    mailbox = Mailbox(work)
    mailbox.put(0)
    time.sleep(0.05)  # the worker holds 0
    for item in range(1, 5):
        mailbox.put(item)
    gate.set()
    time.sleep(0.1)
    assert taken == [0, 4]
    assert mailbox.dropped == 3
    assert mailbox.stop(1.0)


def test_under_load_an_item_waits_for_one_step_at_most():
    step_s, waited_s = 0.06, []

    def work(put_s: float) -> None:
        waited_s.append(time.monotonic() - put_s)
        time.sleep(step_s)

    mailbox = Mailbox(work)
    for _ in range(60):
        mailbox.put(time.monotonic())
        time.sleep(0.01)
    assert mailbox.stop(1.0)
    # the machine may stall; most items must not
    assert np.percentile(waited_s, 80) < step_s + 0.03
    assert mailbox.dropped > 30


def test_a_bug_does_not_end_the_worker(caplog):
    taken = []

    def work(item: int) -> None:
        if item == 0:
            raise RuntimeError("a bug")
        taken.append(item)

    mailbox = Mailbox(work)
    for item in range(2):
        mailbox.put(item)
        time.sleep(0.05)
    assert mailbox.stop(1.0)
    assert (taken, mailbox.crashes) == ([1], 1)
    assert "a bug" in caplog.text


def test_a_step_under_way_is_waited_for_only_so_long():
    gate = threading.Event()
    mailbox = Mailbox(lambda item: gate.wait(5.0))
    mailbox.put(0)
    time.sleep(0.05)
    assert not mailbox.stop(0.05)
    gate.set()
    assert mailbox.stop(1.0)
