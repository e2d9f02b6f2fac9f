"""Many drives: one task each, in this process, in several, or on a cluster; a drive that fails ends no other.

A finished drive is kept beside the report until the report of all is written, and not evaluated again.
"""

import hashlib
import json
import logging
import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from bevfusion import __version__
from bevfusion.datasets.accumulated import Accumulated
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.odometry import with_kiss_icp
from bevfusion.datasets.open import open_drive
from bevfusion.datasets.truth_odometry import TruthOdometry
from bevfusion.evaluation import kept
from bevfusion.evaluation.asides import score_drive
from bevfusion.evaluation.protocol import NO_ASIDES, Asides, Protocol
from bevfusion.evaluation.scoring import Answers, OnFrame
from bevfusion.evaluation.viewer import SUFFIX, Recorder
from bevfusion.localizer import open_locator
from bevfusion.maps.source import MapSource, open_map
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

INTERNAL = "internal error"  # begins the reason of a failure that is no fault of the input


@dataclass(frozen=True, slots=True)
class DriveTask:
    """One drive to be evaluated, in words: it travels to other processes and machines, which must see the files."""

    checkpoint: str
    checkpoint_hash: str
    drive: Path
    name: str  # in the report
    index: int  # among all drives
    maps: tuple[Path, ...]
    map_names: tuple[str, ...]  # in the report
    protocol: Protocol
    options: LogOptions
    odometry: str  # log, kiss-icp or truth
    odometry_folder: Path  # where KISS-ICP keeps its poses
    recording: Path | None = None  # for the viewer
    asides: Asides = NO_ASIDES
    threads: int | None = None  # None: as many as torch takes

    def digest(self) -> str:
        """Of all that the answers depend on, but for the content of files that are replaced under the same name."""
        words = asdict(replace(self, index=0, odometry_folder=Path(), threads=None))
        stamps = [path.stat().st_mtime_ns for path in (*self.maps, self.drive) if path.exists()]
        text = json.dumps([__version__, words, stamps], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_asked(self, drive: Drive, on_frame: OnFrame | None = None) -> Drive:
        """The drive with the odometry that was asked for, and with so many scans in one.

        Raises:
            DataError: if KISS-ICP is needed and not installed, or can read no scan.
        """
        drive = self._with_odometry(drive, on_frame)
        return drive if self.protocol.scans == 1 else Accumulated(drive, self.protocol.scans)

    def _with_odometry(self, drive: Drive, on_frame: OnFrame | None) -> Drive:
        if self.odometry == "truth":
            return TruthOdometry(drive, self.protocol.seed)
        needed = self.protocol.mode != "single" or self.protocol.scans > 1
        if self.odometry == "log" and (drive.odometry != "none" or not needed):
            return drive
        return with_kiss_icp(drive, self.odometry_folder, on_frame)


def perform(task: DriveTask, *, quiet: bool = False, maps: Sequence[MapSource] | None = None) -> bytes:
    """Evaluate one drive; what came of it as `kept.to_bytes` has it. A failure is an answer, too.

    Args:
        task: what to do.
        quiet: show no progress.
        maps: those of the task, where they are open already.
    """
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    recorder = None
    try:
        drive = open_drive(task.drive, task.options)
        with nullcontext() if quiet else frame_progress(f"odometry of {task.name}", len(drive)) as show:
            drive = task.as_asked(drive, show)
        maps = maps or [open_map(path) for path in task.maps]
        if task.recording is not None:
            recorder = Recorder(task.recording, task.name)
        answers = score_drive(
            lambda source: open_locator(task.checkpoint, source),
            drive,
            maps,
            task.protocol,
            task.asides,
            name=task.name,
            drive_index=task.index,
            map_names=task.map_names,
            recorder=recorder,
            quiet=quiet,
        )
    except DataError as error:
        answers = Answers(task.name, "none", failed=" ".join(str(error).split()))
    except OSError as error:
        if not isinstance(error.filename, str) or task.drive.resolve() not in Path(error.filename).resolve().parents:
            raise
        answers = Answers(task.name, "none", failed=f"{error.filename}: {error.strerror}")
    finally:
        if recorder is not None:
            recorder.close()
    if answers.failed is not None and task.recording is not None:
        task.recording.unlink(missing_ok=True)
    return kept.to_bytes(answers)


def perform_all(
    tasks: Sequence[DriveTask],
    folder: Path,
    jobs: int = 1,
    ray: bool = False,
    maps: Sequence[MapSource] | None = None,
) -> list[Answers]:
    """What came of every drive, in the order of the tasks; finished ones are taken from the folder.

    Args:
        tasks: one a drive.
        folder: where finished drives are kept.
        jobs: processes on this machine.
        ray: on a Ray cluster instead, which must see the same files.
        maps: those of the tasks, where they are open already; other processes open their own.
    """
    files = {task.index: folder / f"{task.index}-{task.digest()}.npz" for task in tasks}
    found = {task.index: _kept(files[task.index], task) for task in tasks}
    left = [task for task in tasks if found[task.index] is None]
    if len(left) < len(tasks):
        log.info(
            "%d of %d drives were finished before, and are taken from %s", len(tasks) - len(left), len(tasks), folder
        )
    for task, data in _performed(left, jobs, ray, maps):
        answers = kept.from_bytes(data, task.index)
        if len(tasks) > 1:
            if answers.failed is None:
                kept.save(files[task.index], data)
            else:
                log.error("%s: %s", task.name, answers.failed)
        found[task.index] = answers
    return [answers for answers in found.values() if answers is not None]


def forget(folder: Path) -> None:
    """Remove the finished drives that `perform_all` has kept, and their recordings."""
    for file in (*folder.glob("*.npz"), *folder.glob(f"*{SUFFIX}")):
        file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _performed(
    tasks: Sequence[DriveTask], jobs: int, ray: bool, maps: Sequence[MapSource] | None
) -> Iterator[tuple[DriveTask, bytes]]:
    """The tasks with their answers, as they come."""
    if ray:
        from bevfusion.evaluation.cluster import perform_on_cluster

        yield from perform_on_cluster(tasks)
    elif jobs == 1 or len(tasks) < 2:
        yield from ((task, perform(task, maps=maps) if len(tasks) == 1 else _safely(task, maps)) for task in tasks)
    else:
        yield from _in_processes(tasks, min(jobs, len(tasks)))


def _in_processes(tasks: Sequence[DriveTask], jobs: int) -> Iterator[tuple[DriveTask, bytes]]:
    threads = max(1, torch.get_num_threads() // jobs)
    spawned = multiprocessing.get_context("spawn")  # a fork would inherit locks of torch's threads
    with (
        frame_progress("drives", len(tasks)) as show,
        ProcessPoolExecutor(jobs, mp_context=spawned) as pool,
    ):
        waiting = {pool.submit(perform, replace(task, threads=threads), quiet=True): task for task in tasks}
        for done, future in enumerate(as_completed(waiting), start=1):
            task = waiting[future]
            try:
                data = future.result()
            except BrokenProcessPool:  # killed, for want of memory most likely: those that were under way are lost
                data = kept.to_bytes(Answers(task.name, "none", failed="its process was killed (out of memory?)"))
            except Exception as error:  # noqa: BLE001 (a bug in one drive must not cost the others)
                data = _internal(task, error)
            yield task, data
            show(done, len(tasks))


def _safely(task: DriveTask, maps: Sequence[MapSource] | None) -> bytes:
    try:
        return perform(task, maps=maps)
    except Exception as error:  # noqa: BLE001 (a bug in one drive must not cost the others)
        return _internal(task, error)


def _internal(task: DriveTask, error: Exception) -> bytes:
    log.error("%s: %s", task.name, "".join(traceback.format_exception(error)))
    return kept.to_bytes(Answers(task.name, "none", failed=f"{INTERNAL}: {type(error).__name__}: {error}"))


def _kept(file: Path, task: DriveTask) -> Answers | None:
    if not file.is_file():
        return None
    try:
        return kept.from_bytes(file.read_bytes(), task.index)
    except ValueError as error:
        log.warning("%s: %s: evaluated anew", file, error)
        return None
