"""A queue that keeps the latest item, and a thread that works on it: older items that wait are dropped and counted."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
log = logging.getLogger(__name__)


class LatestItemQueue(Generic[Item]):
    """One slot and one worker thread.

    An item that arrives while another waits replaces it: the worker always takes the newest, so that it lags behind
    by no more than the item in hand.
    """

    def __init__(self, work: Callable[[Item], None], name: str = "latest item queue") -> None:
        """Start the worker.

        Args:
            work: called in the worker thread with one item after the other; an exception is logged and counted, and
                the next item is taken.
            name: of the thread.
        """
        self.dropped = 0  # items that were replaced before the worker took them
        self.crashes = 0
        self._work = work
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item; never waits for the worker."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._item = None

    def stop(self, timeout_s: float) -> bool:
        """Let the worker finish what it has in hand; False: it did not within the time."""
        with self._changed:
            self._stopping, self._item = True, None
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._item is not None)
                if self._stopping:
                    return
                item, self._item = self._item, None
            try:
                self._work(item)  # type: ignore[arg-type]
            except Exception:  # a bug must not silence the robot for good
                self.crashes += 1
                log.exception("the worker failed on an item")
