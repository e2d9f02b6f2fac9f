"""From the paths on a command line to a report: every drive opened, evaluated, and put together."""

from collections.abc import Sequence
from pathlib import Path

from bevfusion.datasets.drive import Drive
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.evaluation.jobs import DriveTask, forget, perform_all
from bevfusion.evaluation.protocol import NO_ASIDES, Asides, Protocol
from bevfusion.evaluation.run import distinct, finish, ready_for
from bevfusion.evaluation.scoring import Answers
from bevfusion.evaluation.summary import Section
from bevfusion.evaluation.trajectories import file_name
from bevfusion.evaluation.viewer import SUFFIX
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.source import open_map
from bevfusion.structures import DataError


def evaluate_files(
    checkpoint: str,
    paths: Sequence[Path],
    map_paths: Sequence[Path],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
    *,
    options: LogOptions,
    odometry: str = "log",
    jobs: int = 1,
    ray: bool = False,
    viewer: bool = False,
    asides: Asides = NO_ASIDES,
) -> Section:
    """Score a checkpoint on logged drives; a drive that fails is reported and ends no other.

    Args:
        checkpoint: as of `open_locator`.
        paths: of drives.
        map_paths: each frame takes the first map that covers its true place.
        protocol: how to ask.
        output: folder of the report; beside it lie KISS-ICP's poses and, until all is done, finished drives.
        provenance: what is known of the checkpoint, for metrics.json.
        options: of bags.
        odometry: log, kiss-icp or truth.
        jobs: processes on this machine.
        ray: tasks on a Ray cluster instead.
        viewer: also write recordings into `output`/viewer.
        asides: what is asked beside.

    Returns:
        The content of metrics.json; `failed` names the drives that failed, and why.

    Raises:
        DataError: if a map cannot be read, or nothing was scored.
    """
    ready_for(output)
    maps = [open_map(path) for path in map_paths]
    opened = [_opened(path, options) for path in paths]
    names = distinct(
        path.name if isinstance(drive, DataError) else drive.name for path, drive in zip(paths, opened, strict=True)
    )
    finished = output.with_name(output.name + "-finished")
    tasks = {
        index: DriveTask(
            checkpoint,
            str(provenance.get("sha256")),
            path,
            name,
            index,
            tuple(map_paths),
            tuple(distinct(source.name for source in maps)),
            protocol,
            options,
            odometry,
            output.with_name(output.name + "-odometry"),
            finished / f"{file_name(name)}{SUFFIX}" if viewer else None,
            asides=asides,
        )
        for index, (path, name, drive) in enumerate(zip(paths, names, opened, strict=True))
        if not isinstance(drive, DataError)
    }
    found = dict(zip(tasks, perform_all(list(tasks.values()), finished, jobs, ray, maps), strict=True))
    answers, drives = [], list[Drive | None]()
    for index, (name, drive) in enumerate(zip(names, opened, strict=True)):
        if isinstance(drive, DataError):
            answers.append(Answers(name, "none", failed=str(drive)))
            drives.append(None)
            continue
        answers.append(found[index])
        drives.append(None if found[index].failed is not None else tasks[index].as_asked(drive))
    about = [map_provenance(path) for path in map_paths]
    try:
        report = finish(answers, drives, maps, protocol, output, provenance, about)
    except DataError:  # nothing was scored: no use in keeping it
        forget(finished)
        raise
    for task in tasks.values():
        if task.recording is not None and task.recording.is_file():
            (output / "viewer").mkdir(exist_ok=True)
            task.recording.replace(output / "viewer" / task.recording.name)
    if not report["failed"]:
        forget(finished)
    return report


def _opened(path: Path, options: LogOptions) -> Drive | DataError:
    try:
        return open_drive(path, options)
    except DataError as error:
        return error
