"""Files that lie beside scans: text by whatever program it was written, found also where a folder is a link."""

import os
from pathlib import Path

from bevfusion.structures import DataError

MAX_TEXT_BYTES = 1 << 30
# what Windows programs put in front of their text
BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, or in UTF-16 where it begins with a byte order mark, which is left out.

    Raises:
        DataError: if it is missing, no text, or larger than 1 GiB.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes, at most {MAX_TEXT_BYTES} are read as text")
    raw = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error


def name_of(path: Path) -> str:
    """Name of a file or folder as the user wrote it: that of the link where it is one."""
    return Path(os.path.abspath(path)).name


def ways_to(path: Path) -> tuple[Path, ...]:
    """The absolute path as it is written, and, where links are part of it, where they lead."""
    return tuple(dict.fromkeys((Path(os.path.abspath(path)), path.resolve())))


def folders_above(path: Path, most: int) -> list[Path]:
    """The folders above a path, nearest first, at most so many by each way to it."""
    return list(dict.fromkeys(folder for way in ways_to(path) for folder in (*way.parents,)[:most]))


def is_hidden(path: Path) -> bool:
    """Whether a file is one that a system keeps for itself: macOS writes ._NAME beside NAME on foreign disks."""
    return path.name.startswith(".")
