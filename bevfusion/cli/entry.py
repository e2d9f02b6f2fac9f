"""The command line: `bevfusion SUBCOMMAND`, and the same behind `tools/*.py`.

Everything heavy is imported inside the commands, so that help appears at once. `main` turns what users can mend into
one line on standard error and exit status 2; every other exception is a bug and keeps its traceback.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from bevfusion.cli.evaluation import compare, evaluate
from bevfusion.cli.fetching import fetch_map
from bevfusion.cli.gap import gap
from bevfusion.cli.info import info
from bevfusion.cli.location import locate
from bevfusion.cli.options import fail
from bevfusion.cli.simulation import simulate
from bevfusion.cli.tools import benchmark, export, tile, view
from bevfusion.cli.tracking import track
from bevfusion.cli.training import ablate, train
from bevfusion.cli.verbosity import PACKAGE, with_verbosity

# typer carries its own copy of click from 0.26 on: the base of its usage errors, whichever module it comes from
UsageProblem: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

INTERRUPTED = 130  # as shells have it: 128 and the number of the signal

app = typer.Typer(
    name="bevfusion",
    help="Where on the map am I, and which way do I face? LiDAR localization against OpenStreetMap.",
    pretty_exceptions_enable=False,
)
for command in (train, evaluate, locate, track, info, simulate, tile, compare, view, ablate, benchmark, gap, export):
    app.command()(with_verbosity(command))
# a latitude may be negative, which is no option
app.command("map", context_settings={"ignore_unknown_options": True})(with_verbosity(fetch_map))


def main(subcommand: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit status.

    Args:
        subcommand: run this one only (for `tools/*.py`).
        arguments: instead of `sys.argv[1:]`.

    Returns:
        0 done, 2 bad usage or bad input, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if subcommand is None and not words:
        words = ["--help"]
    command = typer.main.get_command(app)
    program = "bevfusion"
    if subcommand is not None:
        command, program = command.commands[subcommand], f"tools/{subcommand}.py"  # type: ignore[attr-defined]
    _log_to_stderr()
    try:
        status = command.main(words, prog_name=program, standalone_mode=False)
    except UsageProblem as error:
        return fail(error.format_message())
    except typer.Abort:
        return fail("interrupted", status=INTERRUPTED)
    except ValueError as error:
        if not _is_users(error):
            raise
        PACKAGE.debug("refused here:", exc_info=error)
        return fail(str(error))
    except OSError as error:
        if not _names_input(error.filename, words):
            raise
        return fail(f"{error.filename}: {error.strerror}")
    finally:
        PACKAGE.setLevel(logging.NOTSET)  # what --quiet or --verbose said
    return status if isinstance(status, int) else 0


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


def _log_to_stderr() -> None:
    """Messages of the package through rich, unless the program around has its own handlers."""
    if logging.getLogger().handlers:
        return
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
