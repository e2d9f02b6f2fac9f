"""Files and folders that are there whole or not at all: written beside their place, then moved into it.

Also whether they can be written, asked before the work for them begins; and where caches lie.
"""

import ctypes
import errno
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

_ROOM_BYTES = 1 << 20
_AT_WORKING_FOLDER, _EXCHANGE = -100, 2  # of Linux's renameat2


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what lies there is moved to `path` when the block ends.

    If the block fails or is interrupted, the draft is removed and an earlier file at `path` stays as it was. The draft
    lies in the same folder, since only a move within one file system is atomic, and ends like `path`, since many
    writers choose the format by that. Two processes that write the same file do not disturb each other: the last wins.

    Args:
        path: of the finished file; its folder is made if it is missing.

    Raises:
        OSError: if the disk is full or may not be written to; it names `path`, also where the system names no file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise _about(error, path, draft) from error
    finally:
        with suppress(OSError):  # a disk that may only be read any more: the first error is the one to tell
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to write into, which takes the place of `path` when the block ends, in one step.

    If the block fails, is interrupted or killed, an earlier folder at `path` is as it was, with all that it holds.

    Args:
        path: of the finished folder; what is there is replaced.

    Raises:
        OSError: as of `atomic_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    new = scratch / "new"
    try:
        new.mkdir(parents=True)
        yield new
        _put_in_place(new, path)
    except OSError as error:
        raise _about(error, path, scratch) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_writable(path: Path) -> None:
    """See to it that a file or folder can be written at a path, before work begins whose result it will hold.

    Raises:
        OSError: that names `path`, if its folder cannot be made or written to, or has no room for a megabyte.
    """
    probe = path.with_name(f".{secrets.token_hex(4)}-probe")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(_ROOM_BYTES))
    except FileExistsError as error:  # a file in the place of a folder
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block ends: for what takes a moment and must not be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    waiting = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda which, _: came.append(which)) for number in waiting}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


def file_name(name: str) -> str:
    """A name from anywhere as a part of a file's name: nothing in it leads elsewhere or offends a file system."""
    return re.sub(r"[^\w.-]+", "_", name)[:100]


def user_cache(name: str) -> Path:
    """A folder of the user's for what can be made again, e.g. ~/.cache/bevfusion/NAME."""
    return Path(platformdirs.user_cache_dir("bevfusion", appauthor=False)) / name


def write_text(path: Path, text: str) -> None:
    """Write a whole text file as UTF-8 through `atomic_file`."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _about(error: OSError, path: Path, draft: Path) -> OSError:
    """The same error, about the file that was to be written."""
    unnamed = error.filename is None or str(draft) in str(error.filename)
    if error.errno is None or not unnamed:
        return error
    return OSError(error.errno, error.strerror, str(path))


def _put_in_place(new: Path, path: Path) -> None:
    """Move a folder to its place; one that is there takes the place of the new one."""
    if not path.exists():
        new.rename(path)
        return
    if not path.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if _exchanged(new, path):
        return
    try:  # two steps: whoever is killed between them finds the earlier folder beside its place
        path.rename(new.with_name("old"))
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM):
            raise
        for part in sorted(new.iterdir()):  # the mount point of a disk, which stays where it is
            if (path / part.name).is_dir():
                shutil.rmtree(path / part.name)
            part.replace(path / part.name)
        return
    new.rename(path)


def _exchanged(a: Path, b: Path) -> bool:
    """Let two folders change places at once, where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    done: int = rename(_AT_WORKING_FOLDER, os.fsencode(a), _AT_WORKING_FOLDER, os.fsencode(b), _EXCHANGE)
    return done == 0
