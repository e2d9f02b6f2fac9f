"""`--quiet` and `--verbose` of every subcommand."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Results, warnings and errors alone: no progress, no remarks.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Details as well, and for an error where it was raised.")
]
PACKAGE = logging.getLogger("bevfusion")


def with_verbosity(command: Callable[..., Any]) -> Callable[..., Any]:
    """The subcommand with both options, which it need not know of."""

    @functools.wraps(command)
    def told(*args: Any, quiet: bool, verbose: bool, **options: Any) -> Any:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other")
        if quiet or verbose:
            PACKAGE.setLevel(logging.WARNING if quiet else logging.DEBUG)
        return command(*args, **options)

    own = {"quiet": Quiet, "verbose": Verbose}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in own.items()
    ]
    signature = inspect.signature(command)
    told.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *parameters]
    )
    told.__annotations__ = {**command.__annotations__, **own}
    return told
