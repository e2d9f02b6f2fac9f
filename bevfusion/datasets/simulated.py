"""Simulated drives for training, made once and kept."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bevfusion import __version__
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.maps.osm import read_osm
from bevfusion.simulate.drive import GENERATOR, DriveOptions, simulate_drive
from bevfusion.simulate.sensor import sensor_name
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

_TOWN = "town:"
_PATIENCE_S = 1.0  # waiting longer than this is worth a line


@dataclass(frozen=True, slots=True)
class DriveRequest:
    """A drive that somebody wants."""

    spec: str  # town:SEED or a map file
    options: DriveOptions


def map_file(spec: str, cache: Path) -> Path:
    """The map that `town:SEED` or a file name stands for; towns are written into the cache when first asked for.

    Raises:
        DataError: if the seed is no number or the file is missing.
    """
    path = _map_path(spec, cache)
    if not path.is_file():
        with alone(cache, path.name):
            if not path.is_file():
                _remove_drafts(path)  # of a process that was killed
                write_town(path, int(spec.removeprefix(_TOWN)))
    return path


def simulated_drive(
    spec: str, options: DriveOptions, cache: Path, on_frame: Callable[[int, int], None] | None = None
) -> KittiRawDrive:
    """The drive through a map with these options: simulated when first asked for, read from the cache ever after.

    Whoever else wants the same drive at that time waits for it.

    Args:
        spec: town:SEED or a map file.
        options: of the simulation.
        cache: folder of finished drives; their names carry a digest of map, options and version.
        on_frame: called with (frames done, frames in all) while simulating.

    Raises:
        DataError: if there is no such map, or no such drive in it.
    """
    path = map_file(spec, cache)
    folder = _folder(path, options, cache)
    if not folder.is_dir():
        with alone(cache, folder.name):
            if not folder.is_dir():
                _remove_drafts(folder)  # of a process that was killed
                simulate_drive(read_osm(path), folder, options, on_frame, packed=True)
    return KittiRawDrive(folder)


def is_made(request: DriveRequest, cache: Path) -> bool:
    """Whether the cache holds the drive.

    Raises:
        DataError: as of `map_file`.
    """
    path = _map_path(request.spec, cache)
    return path.is_file() and _folder(path, request.options, cache).is_dir()


def remove_drafts(request: DriveRequest, cache: Path) -> None:
    """Clear away what a killed process has left of a drive and of its town, unless somebody else is making it."""
    path = _map_path(request.spec, cache)
    unfinished = [path] if request.spec.startswith(_TOWN) else []
    if path.is_file():
        unfinished.append(_folder(path, request.options, cache))
    for target in unfinished:
        with suppress(Timeout), _lock(cache, target.name).acquire(timeout=0):
            _remove_drafts(target)


@contextmanager
def alone(cache: Path, name: str) -> Iterator[None]:
    """Be the only process at work on something in the cache; the lock of a process that dies is free."""
    lock = _lock(cache, name)
    try:
        lock.acquire(timeout=_PATIENCE_S)
    except Timeout:
        log.info("another process is making %s in %s: waiting for it", name, cache)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(cache: Path, name: str) -> FileLock:
    folder = cache / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def _map_path(spec: str, cache: Path) -> Path:
    """Where the map lies, or will."""
    if not spec.startswith(_TOWN):
        if not Path(spec).is_file():
            raise DataError(f"{spec}: no such map file (towns are written town:SEED)")
        return Path(spec)
    seed = spec.removeprefix(_TOWN)
    if not seed.isdigit():
        raise DataError(f"{spec}: expected town:SEED with a whole number, as in town:1")
    return cache / f"town_{seed}.osm.gz"


def _folder(path: Path, options: DriveOptions, cache: Path) -> Path:
    identity = f"{__version__} {GENERATOR} {json.dumps(asdict(options), sort_keys=True)}".encode() + path.read_bytes()
    digest = hashlib.sha256(identity).hexdigest()[:12]
    return cache / f"{path.name.split('.')[0]}_{sensor_name(options.sensor)}_{digest}"


def _remove_drafts(target: Path) -> None:
    for draft in target.parent.iterdir():
        if draft.name.startswith(f".{target.name}-") and draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        elif draft.name.startswith(f".{target.name}-"):
            draft.unlink(missing_ok=True)
