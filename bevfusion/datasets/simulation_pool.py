"""The simulation pool: many simulated drives at once, a process for each core, and the same bytes as one by one."""

import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from bevfusion.datasets.simulated import DriveRequest, alone, is_made, remove_drafts, simulated_drive
from bevfusion.machine import available_cores, available_memory
from bevfusion.progress import frame_progress
from bevfusion.simulate.sensor import sensor_name, sensor_of
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

_PROCESS_BYTES = 750_000_000  # half a gigabyte was seen, in city centres
_IS_WORKER = "BEVFUSION_SIMULATION_WORKER"  # set in the processes that make drives
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


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
