"""Files that are there whole or not at all: written beside their place, then moved into it; and where caches lie."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what lies there is moved to `path` when the block ends.

    If the block fails or is interrupted, the draft is removed and an earlier file at `path` stays as it was. The draft
    lies in the same folder, since only a move within one file system is atomic, and ends like `path`, since many
    writers choose the format by that. Two processes that write the same file do not disturb each other: the last wins.

    Args:
        path: of the finished file; its folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def user_cache(name: str) -> Path:
    """A folder of the user's for what can be made again, e.g. ~/.cache/bevfusion/NAME."""
    return Path(platformdirs.user_cache_dir("bevfusion", appauthor=False)) / name


def write_text(path: Path, text: str) -> None:
    """Write a whole text file as UTF-8 through `atomic_file`."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
