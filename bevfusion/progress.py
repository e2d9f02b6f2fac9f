"""The progress of long work: a bar with rate and time left on a terminal, a line now and then in a log."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

log = logging.getLogger(__name__)
_LINE_EVERY_S = 10.0


class _Rate(ProgressColumn):
    """How many frames a second, as a column."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def frame_progress(description: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error; yields a function to call with (frames done, frames in all).

    Nothing is shown where the package is asked for warnings alone.
    """
    if logging.getLogger("bevfusion").level > logging.INFO:  # --quiet
        yield lambda done, count: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(description)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done, count: progress.update(task, completed=done, total=count)


def _lines(description: str) -> Callable[[int, int], None]:
    """Log a line every ten seconds, and one at the end."""
    began = said = time.monotonic()

    def show(done: int, count: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _LINE_EVERY_S or done == count:
            said = now
            log.info("%s: %d of %d, %.1f/s", description, done, count, done / max(now - began, 1e-9))

    return show
