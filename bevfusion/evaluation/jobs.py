"""Many drives: one task each, in this process, in several, or on a Ray cluster; a drive that fails ends no other.

Results are kept in a folder beside the report until the report of all is written. A finished drive is not evaluated
again, and one that was broken off in mode single goes on at the frame where it was.
"""

import hashlib
import json
import logging
import multiprocessing
import signal
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

import torch

from bevfusion import __version__
from bevfusion.datasets.drive import ALL_FRAMES, Accumulated, Drive, FrameSelection, SelectedFrames
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.odometry import TruthOdometry, with_kiss_icp
from bevfusion.datasets.open import open_drive
from bevfusion.evaluation import result_cache
from bevfusion.evaluation.protocol import NO_CHECKS, AuxiliaryChecks, Protocol
from bevfusion.evaluation.results import DriveResult
from bevfusion.evaluation.scoring import DriveScorer, OnFrame, score_drive
from bevfusion.evaluation.viewer import SUFFIX, Recorder
from bevfusion.localizer import open_locator
from bevfusion.maps.source import MapSource, open_map
from bevfusion.precision import Precision
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
    checks: AuxiliaryChecks = NO_CHECKS
    selection: FrameSelection = ALL_FRAMES
    precision: Precision = "float32"  # of a network
    threads: int | None = None  # None: as many as torch takes

    def digest(self) -> str:
        """Of all that the answers depend on, but for the content of files that are replaced under the same name."""
        words = asdict(replace(self, index=0, odometry_folder=Path(), threads=None))
        words["protocol"]["filter"] = self.protocol.filter.model_dump()
        truth = () if self.options.truth is None else (self.options.truth,)
        stamps = [path.stat().st_mtime_ns for path in (*self.maps, self.drive, *truth) if path.exists()]
        text = json.dumps([__version__, words, stamps], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_asked(self, drive: Drive, on_frame: OnFrame | None = None) -> Drive:
        """The drive with the odometry that was asked for, with so many scans in one, and of the frames asked for.

        Raises:
            DataError: if KISS-ICP is needed and not installed, or can read no scan, or no frame is selected.
        """
        drive = self._with_odometry(drive, on_frame)
        if self.protocol.scans > 1:
            drive = Accumulated(drive, self.protocol.scans)
        return drive if self.selection == ALL_FRAMES else SelectedFrames(drive, self.selection)

    def _with_odometry(self, drive: Drive, on_frame: OnFrame | None) -> Drive:
        if self.odometry == "truth":
            return TruthOdometry(drive, self.protocol.seed)
        needed = self.protocol.mode != "single" or self.protocol.scans > 1
        if self.odometry == "log" and (drive.odometry != "none" or not needed):
            return drive
        return with_kiss_icp(drive, self.odometry_folder, on_frame)


def perform(
    task: DriveTask, *, quiet: bool = False, maps: Sequence[MapSource] | None = None, unfinished: Path | None = None
) -> DriveResult:
    """Evaluate one drive; a failure is a result, too.

    Args:
        task: what to do.
        quiet: show no progress.
        maps: those of the task, where they are open already.
        unfinished: where the result so far is written when the run is broken off, and where it goes on from.

    Raises:
        KeyboardInterrupt: once the result so far is written.
    """
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    recorder, scorer = None, None
    resumable = unfinished is not None and task.protocol.mode == "single" and task.recording is None
    try:
        drive = open_drive(task.drive, task.options)
        with nullcontext() if quiet else frame_progress(f"odometry of {task.name}", len(drive)) as show:
            drive = task.as_asked(drive, show)
        maps = maps or [open_map(path) for path in task.maps]
        if task.recording is not None:
            recorder = Recorder(task.recording, task.name)
        scorer = DriveScorer(
            lambda source: open_locator(task.checkpoint, source, task.precision),
            drive,
            maps,
            task.protocol,
            name=task.name,
            drive_index=task.index,
            map_names=task.map_names,
            recorder=recorder,
            begun=result_cache.load(unfinished, task.index) if resumable and unfinished is not None else None,
        )
        if scorer.result.done:
            log.info("%s: %d frames were answered before, and are not asked again", task.name, scorer.result.done)
        result = score_drive(scorer, task.checks, quiet=quiet)
    except KeyboardInterrupt:
        if unfinished is not None and scorer is not None and scorer.result.estimates:
            result_cache.save(unfinished, scorer.result)
        raise
    except DataError as error:
        result = DriveResult(task.name, "none", failed=" ".join(str(error).split()))
    except OSError as error:
        if not isinstance(error.filename, str) or task.drive.resolve() not in Path(error.filename).resolve().parents:
            raise
        result = DriveResult(task.name, "none", failed=f"{error.filename}: {error.strerror}")
    finally:
        if recorder is not None:
            recorder.close()
    if result.failed is not None and task.recording is not None:
        task.recording.unlink(missing_ok=True)
    return result


def perform_all(
    tasks: Sequence[DriveTask],
    folder: Path,
    jobs: int = 1,
    ray: bool = False,
    maps: Sequence[MapSource] | None = None,
) -> list[DriveResult]:
    """The result of every drive, in the order of the tasks; finished ones are taken from the folder.

    Args:
        tasks: one a drive.
        folder: where results are kept.
        jobs: processes on this machine.
        ray: on a Ray cluster instead, which must see the same files.
        maps: those of the tasks, where they are open already; other processes open their own.
    """
    found = {task.index: result_cache.load(finished_file(folder, task), task.index) for task in tasks}
    left = [task for task in tasks if found[task.index] is None]
    if len(left) < len(tasks):
        log.info(
            "%d of %d drives were finished before, and are taken from %s", len(tasks) - len(left), len(tasks), folder
        )
    for task, result in _performed(left, folder, jobs, ray, maps):
        if result.failed is not None:
            if len(tasks) > 1:
                log.error("%s: %s", task.name, result.failed)
        else:
            result_cache.save(finished_file(folder, task), result)  # writing the report may be interrupted, too
            unfinished_file(folder, task).unlink(missing_ok=True)
        found[task.index] = result
    return [result for result in found.values() if result is not None]


def cached_results(tasks: Sequence[DriveTask], folder: Path) -> list[DriveResult]:
    """What the folder holds of these drives: finished, or as far as they came."""
    both = (
        result_cache.load(finished_file(folder, task), task.index)
        or result_cache.load(unfinished_file(folder, task), task.index)
        for task in tasks
    )
    return [result for result in both if result is not None]


def finished_file(folder: Path, task: DriveTask) -> Path:
    """Where the result of a finished drive is kept."""
    return folder / f"{task.index}-{task.digest()}.npz"


def unfinished_file(folder: Path, task: DriveTask) -> Path:
    """Where the result of a drive is kept that was broken off."""
    return folder / f"{task.index}-{task.digest()}.unfinished.npz"


def forget(folder: Path) -> None:
    """Remove the results that are kept, and recordings."""
    for file in (*folder.glob("*.npz"), *folder.glob(f"*{SUFFIX}"), *folder.glob("predictions.csv")):
        file.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _performed(
    tasks: Sequence[DriveTask], folder: Path, jobs: int, ray: bool, maps: Sequence[MapSource] | None
) -> Iterator[tuple[DriveTask, DriveResult]]:
    """The tasks with their results, as they come."""
    if ray:
        yield from _on_cluster(tasks, folder)
    elif jobs == 1 or len(tasks) < 2:
        for task in tasks:
            unfinished = unfinished_file(folder, task)
            if len(tasks) == 1:  # a bug shows its traceback
                yield task, perform(task, maps=maps, unfinished=unfinished)
                continue
            try:
                yield task, perform(task, maps=maps, unfinished=unfinished)
            except Exception as error:  # noqa: BLE001 (a bug in one drive must not cost the others)
                yield task, _internal(task, error)
    else:
        yield from _in_processes(tasks, folder, min(jobs, len(tasks)))


def _in_processes(tasks: Sequence[DriveTask], folder: Path, jobs: int) -> Iterator[tuple[DriveTask, DriveResult]]:
    threads = max(1, torch.get_num_threads() // jobs)
    spawned = multiprocessing.get_context("spawn")  # a fork would inherit locks of torch's threads
    with (
        frame_progress("drives", len(tasks)) as show,
        ProcessPoolExecutor(jobs, mp_context=spawned, initializer=_wait_to_be_told) as pool,
    ):
        waiting = {
            pool.submit(_perform_in_process, replace(task, threads=threads), unfinished_file(folder, task)): task
            for task in tasks
        }
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                task = waiting[future]
                try:
                    result = future.result()
                except BrokenProcessPool:  # killed, for want of memory most likely: those that were under way are lost
                    result = DriveResult(task.name, "none", failed="its process was killed (out of memory?)")
                except Exception as error:  # noqa: BLE001 (a bug in one drive must not cost the others)
                    result = _internal(task, error)
                yield task, result
                show(done, len(tasks))
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.terminate()  # those under way keep what they have, see `_interrupt_work`
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_at_work = False  # whether this process, of `_in_processes`, is at a drive


def _wait_to_be_told() -> None:
    """In a process for drives: Ctrl-C, which a terminal sends to all, is for the asking one, which says when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt_work)


def _interrupt_work(number: int, frame: FrameType | None) -> None:
    global _at_work
    if _at_work:
        _at_work = False  # once: a second signal must not disturb the keeping
        raise KeyboardInterrupt


def _perform_in_process(task: DriveTask, unfinished: Path) -> DriveResult:
    global _at_work
    _at_work = True
    try:
        return perform(task, quiet=True, unfinished=unfinished)
    finally:
        _at_work = False


def _on_cluster(tasks: Sequence[DriveTask], folder: Path) -> Iterator[tuple[DriveTask, DriveResult]]:
    """One task a drive on the Ray cluster of RAY_ADDRESS, else one on this machine. See https://docs.ray.io.

    Raises:
        DataError: if ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise DataError("evaluation on a cluster needs ray: pip install 'bevfusion[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1)(perform)
        waiting = {
            remote.remote(task, quiet=True, unfinished=unfinished_file(folder.absolute(), task)): task for task in tasks
        }
        with frame_progress("drives", len(tasks)) as show:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                task = waiting.pop(ready)
                try:
                    result = ray.get(ready)
                except ray.exceptions.RayError as error:  # the task's own bugs, and workers that died
                    reason = " ".join(str(error).strip().splitlines()[-1:])
                    result = DriveResult(task.name, "none", failed=f"{INTERNAL}: {reason}")
                yield task, result
                show(len(tasks) - len(waiting), len(tasks))
    finally:
        if ours:
            ray.shutdown()


def _internal(task: DriveTask, error: Exception) -> DriveResult:
    log.error("%s: %s", task.name, "".join(traceback.format_exception(error)))
    return DriveResult(task.name, "none", failed=f"{INTERNAL}: {type(error).__name__}: {error}")
