"""Simulated drives for training: made once and kept, many at once, a process for each core."""

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout

from bevfusion import __version__
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.machine import available_cores, available_memory
from bevfusion.maps.osm import read_osm
from bevfusion.progress import frame_progress
from bevfusion.simulate.drive import GENERATOR, DriveOptions, simulate_drive
from bevfusion.simulate.sensor import sensor_name, sensor_of
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError

log = logging.getLogger(__name__)
_TOWN = "town:"
_PATIENCE_S = 1.0  # waiting longer than this is worth a line
_PROCESS_BYTES = 750_000_000  # half a gigabyte was seen, in city centres
_IS_WORKER = "BEVFUSION_SIMULATION_WORKER"  # set in the processes that make drives
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


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


def make_drives(requests: Sequence[DriveRequest], cache: Path, processes: int | None = None) -> None:
    """See to it that the cache holds the drives, and show how it goes.

    The first process of a machine that asks makes them, from all cores; others (the ranks of torchrun) wait for it.

    Args:
        requests: which drives.
        cache: folder of finished drives.
        processes: at most so many; None: one a core, as far as memory goes. A single drive is made in this one.

    Raises:
        DataError: what went wrong first. The other processes are stopped, and leave nothing half-made behind.
        RuntimeError: in a process that was started to make drives: it imports the script that asked for them.
    """
    if _IS_WORKER in os.environ:  # waiting for the asking process, which waits for this one, would last for ever
        raise RuntimeError(
            "drives are made by processes that import the script that asks for them: put what it does under "
            "if __name__ == '__main__':"
        )
    missing = [request for request in dict.fromkeys(requests) if not is_made(request, cache)]
    if not missing:
        return
    with alone(cache, "drives"):
        missing = [request for request in missing if not is_made(request, cache)]  # whoever was first may have made it
        count = min(processes or _most_processes(), len(missing))
        if count > 1:
            _make_in_processes(missing, cache, count)
            return
        for request in missing:
            options = request.options
            with frame_progress(f"simulating {request.spec} ({sensor_name(options.sensor)})", options.frames) as show:
                simulated_drive(request.spec, options, cache, show)


def _most_processes() -> int:
    """One a core, or fewer where memory is short."""
    cores, memory = available_cores(), available_memory()
    return cores if memory is None else max(1, min(cores, memory // _PROCESS_BYTES))


def _make_in_processes(requests: Sequence[DriveRequest], cache: Path, count: int) -> None:
    frames = sum(request.options.frames for request in requests)
    with frame_progress(f"simulating {len(requests)} drives in {count} processes", frames) as show:
        workers = _start_workers(count, cache)
        try:
            _distribute(requests, list(workers), lambda done: show(done, frames))
        finally:
            for link, process in workers.items():
                link.close()
                process.terminate()  # idle, or its work is not wanted any more
            for process in workers.values():
                process.join()
            for request in requests:
                remove_drafts(request, cache)


def _start_workers(count: int, cache: Path) -> dict[Connection, BaseProcess]:
    """Processes that wait for requests, by the link to each."""
    spawned = multiprocessing.get_context("spawn")  # a fork would inherit locks of torch's threads
    workers: dict[Connection, BaseProcess] = {}
    with _worker_environment(max(1, available_cores() // count)):
        for _ in range(count):
            ours, theirs = spawned.Pipe()
            process = spawned.Process(target=_serve, args=(theirs, cache), daemon=True)
            process.start()
            theirs.close()  # so that either end learns of the other's death
            workers[ours] = process
    return workers


def _distribute(requests: Sequence[DriveRequest], idle: list[Connection], on_progress: Callable[[int], None]) -> None:
    """Give each worker one request after another, and listen to what it answers."""
    left = sorted(requests, key=_effort)  # the longest goes first, lest all wait for it at the end
    done = dict.fromkeys(requests, 0)
    at_work: dict[Connection, DriveRequest] = {}
    while left or at_work:
        while idle and left:
            link, request = idle.pop(), left.pop()
            at_work[link] = request
            with suppress(ConnectionError):  # it died: the link will say so
                link.send(request)
        for link in cast(list[Connection], wait(list(at_work))):
            request = at_work[link]
            try:
                word = link.recv()
            except (EOFError, ConnectionError) as error:
                raise DataError(
                    f"{request.spec}: the process that simulated it was killed (out of memory, with "
                    f"{len(idle) + len(at_work)} at work?), or ended with the error above"
                ) from error
            if isinstance(word, Exception):
                raise word
            if word is None:
                idle.append(link)
                del at_work[link]
            before = done[request]
            done[request] = request.options.frames if word is None else word
            if done[request] != before:
                on_progress(sum(done.values()))


def _effort(request: DriveRequest) -> int:
    """Rays to cast, which the time goes with."""
    options = request.options
    sensor = sensor_of(options.sensor)
    return options.frames * len(sensor.elevations_rad) * (options.columns or sensor.columns)


def _serve(link: Connection, cache: Path) -> None:
    """Make one drive after another; the answers are the number of frames done, and at last None or an exception.

    If the asking process dies, sending fails, and with it the simulation.
    """
    try:
        while True:
            request = link.recv()
            link.send(_simulated(request, cache, link))
    except (EOFError, ConnectionError):
        return


def _simulated(request: DriveRequest, cache: Path, link: Connection) -> Exception | None:
    try:
        simulated_drive(request.spec, request.options, cache, lambda done, _: link.send(done))
    except (DataError, OSError) as error:
        return error
    except Exception:  # noqa: BLE001 (a bug: the asking process raises it)
        return RuntimeError(f"{request.spec} was not simulated:\n{traceback.format_exc()}")
    return None


@contextmanager
def _worker_environment(threads: int) -> Iterator[None]:
    """What processes started meanwhile inherit: what they are, a number of threads, and deafness to Ctrl-C.

    A terminal sends that to all of them, and it is for the asking one to answer.
    """
    told = {_IS_WORKER: "1", **dict.fromkeys(_THREADS, str(threads))}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # else the first process would start it, which opens the mask again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
