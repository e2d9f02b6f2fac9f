"""Optional packages: the one way in which a missing one is told, by the extra that installs it."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from bevfusion.structures import DataError


class MissingExtraError(DataError, ImportError):
    """A package that only some uses need is not installed."""


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Around the import of optional packages.

    Args:
        extra: of pyproject.toml, that installs them.
        purpose: what cannot be done without, as the subject of a sentence.

    Raises:
        MissingExtraError: if a package other than bevfusion itself is not installed.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if isinstance(error, MissingExtraError) or name in ("", "bevfusion"):
            raise
        raise MissingExtraError(f"{purpose} needs the package {name}: pip install 'bevfusion[{extra}]'") from error


def is_installed(package: str) -> bool:
    """Whether a package could be imported, without doing so."""
    return importlib.util.find_spec(package) is not None
