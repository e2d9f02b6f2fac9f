"""The command line: `bevfusion SUBCOMMAND`, and the same behind `tools/*.py`.

Everything heavy is imported inside the commands, so that help appears at once. `main` turns what users can mend into
one line on standard error and exit status 2; every other exception is a bug and keeps its traceback.
"""

import errno
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from bevfusion.cli.evaluation import compare, evaluate
from bevfusion.cli.fetching import fetch_map
from bevfusion.cli.gap import gap
from bevfusion.cli.info import info
from bevfusion.cli.location import locate
from bevfusion.cli.options import fail
from bevfusion.cli.simulation import simulate
from bevfusion.cli.stress import stress
from bevfusion.cli.tools import benchmark, export, tile, view
from bevfusion.cli.tracking import track
from bevfusion.cli.training import ablate, train
from bevfusion.cli.verbosity import PACKAGE, with_verbosity
from bevfusion.tables import printable

# typer carries its own copy of click from 0.26 on: the base of its usage errors, whichever module it comes from
UsageProblem: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

# for one who does not know it yet, by how a message begins
_HINTS = {
    "Missing option '--map'": " Give a file, or auto, which fetches one for where the log is.",
    "Missing argument 'DRIVE": " A CHECKPOINT stands before it: evaluate default DRIVE --map MAP.",
    "Missing argument 'SCAN": " A CHECKPOINT stands before it: locate default SCAN --map MAP --near LAT,LON.",
}

INTERRUPTED, TERMINATED = 130, 143  # as shells have it: 128 and the number of the signal

# what a disk says: the user's to mend, whatever file it is about
DISK_ERRORS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
)

app = typer.Typer(
    name="bevfusion",
    help="Where on the map am I, and which way do I face? LiDAR localization against OpenStreetMap.",
    pretty_exceptions_enable=False,
)
for command in (
    train, evaluate, stress, locate, track, info, simulate, tile, compare, view, ablate, benchmark, gap, export,
):  # fmt: skip
    app.command()(with_verbosity(command))
# a latitude may be negative, which is no option
app.command("map", context_settings={"ignore_unknown_options": True})(with_verbosity(fetch_map))


def main(subcommand: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status.

    Args:
        subcommand: run this one only (for `tools/*.py`).
        arguments: instead of `sys.argv[1:]`.

    Returns:
        0 done, 2 bad usage, bad input or a disk that cannot be written to, 130 interrupted, 143 ended by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if subcommand is None and not words:
        words = ["--help"]
    command = typer.main.get_command(app)
    program = "bevfusion"
    if subcommand is not None:
        command, program = command.commands[subcommand], f"tools/{subcommand}.py"  # type: ignore[attr-defined]
    _log_to_stderr()
    with _sigterm_interrupts() as terminated:
        status = _run(command, words, program)
    if status == INTERRUPTED:
        return fail("ended by SIGTERM", TERMINATED) if terminated else fail("interrupted", INTERRUPTED)
    return status


def _run(command: Any, words: list[str], program: str) -> int:
    """Run a command; the result is the exit status."""
    try:
        status = command.main(words, prog_name=program, standalone_mode=False)
    except UsageProblem as error:
        message = error.format_message()
        return fail(message + "".join(hint for begin, hint in _HINTS.items() if message.startswith(begin)))
    except (typer.Abort, KeyboardInterrupt):  # newer versions of typer make a status of it
        return INTERRUPTED
    except ValueError as error:
        if not _is_users(error):
            raise
        PACKAGE.debug("refused here:", exc_info=error)
        return fail(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS and not _names_input(error.filename, words):
            raise
        return fail(f"{error.filename or 'output'}: {error.strerror}")
    finally:
        PACKAGE.setLevel(logging.NOTSET)  # what --quiet or --verbose said
    return status if isinstance(status, int) else 0


@contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM do what Ctrl-C does: what is done is kept. Gives a list that is filled when it comes.

    It does so once: a second one must not disturb the keeping.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield came  # the program around has a way of its own
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _is_users(error: ValueError) -> bool:
    """Whether an error tells of the user's input (imported here: both modules are heavier than help should be)."""
    from bevfusion.config import ConfigError
    from bevfusion.structures import DataError

    return isinstance(error, ConfigError | DataError)


def _names_input(filename: object, words: Sequence[str]) -> bool:
    """Whether a file is one that the command line names, or lies inside a folder that it names."""
    if not isinstance(filename, str | Path):
        return False
    named = {Path(word.rpartition("=")[2]).resolve() for word in words if word}
    path = Path(filename).resolve()
    return any(candidate in named for candidate in (path, *path.parents) if candidate != Path("/"))


class _PrintableFormatter(logging.Formatter):
    """Messages hold names from logs: a terminal must not obey them."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, without control characters."""
        return printable(super().format(record))


def _log_to_stderr() -> None:
    """Messages of the package through rich, unless the program around has its own handlers."""
    if logging.getLogger().handlers:
        return
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False)
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
