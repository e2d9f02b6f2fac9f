"""Score a locator on drives, and write the report: from open drives, or from the paths on a command line."""

import json
import logging
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bevfusion.datasets.drive import ALL_FRAMES, Drive, FrameSelection
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.evaluation.direction import direction_section
from bevfusion.evaluation.jobs import DriveTask, cached_results, forget, perform_all
from bevfusion.evaluation.plots import write_plots
from bevfusion.evaluation.protocol import NO_CHECKS, AuxiliaryChecks, Protocol
from bevfusion.evaluation.report import write_report
from bevfusion.evaluation.results import (
    DriveResult,
    all_estimates,
    write_csv,
    write_runtimes,
    write_trajectories,
)
from bevfusion.evaluation.scoring import DriveScorer, MakeLocator, score_drive
from bevfusion.evaluation.summary import Section, report_of
from bevfusion.evaluation.viewer import SUFFIX
from bevfusion.evaluation.way_plots import write_way_plots
from bevfusion.files import atomic_folder, check_writable, file_name
from bevfusion.maps.provenance import map_provenance
from bevfusion.maps.source import MapSource, open_map
from bevfusion.precision import Precision
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

VIEWER = "viewer"  # the folder of recordings
WRITTEN = ("metrics.json", "predictions.csv", "runtimes.csv", "plots", "report.html", VIEWER)  # beside trajectories


def evaluate(
    make_locator: MakeLocator,
    drives: Sequence[Drive],
    maps: Sequence[MapSource],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
    checks: AuxiliaryChecks = NO_CHECKS,
    *,
    own_maps: bool = False,
) -> Section:
    """Score every frame that a map covers, in this process, and write the report into `output`.

    It is report.html, metrics.json, predictions.csv, runtimes.csv, plots/ and trajectories for `evo` (*.tum).

    Args:
        make_locator: what is scored, opened once for each drive and map that is used.
        drives: drives with truth.
        maps: each frame takes the first that covers its true place.
        protocol: how to ask.
        output: folder; what an earlier run wrote there is replaced, and only once all is done.
        provenance: what is known of the checkpoint, for metrics.json.
        checks: what is asked beside.
        own_maps: there are as many maps as drives, and each drive takes its own, whatever others cover.

    Returns:
        The content of metrics.json.

    Raises:
        DataError: if a scan is broken, or no frame can be scored.
    """
    _make_room_for(output)
    named = dict(zip(distinct(drive.name for drive in drives), drives, strict=True))
    results = score_drives(make_locator, named, maps, protocol, checks, own_maps=own_maps)
    return _finish(results, drives, maps, protocol, output, provenance)


def score_drives(
    make_locator: MakeLocator,
    drives: Mapping[str, Drive],
    maps: Sequence[MapSource],
    protocol: Protocol,
    checks: AuxiliaryChecks = NO_CHECKS,
    *,
    own_maps: bool = False,
) -> list[DriveResult]:
    """What a locator makes of each drive, in this process; arguments as of `evaluate`, drives by name in the report.

    Raises:
        DataError: if a scan is broken.
    """
    map_names = distinct(source.name for source in maps)
    return [
        score_drive(
            DriveScorer(
                make_locator,
                drive,
                maps,
                protocol,
                name=name,
                drive_index=index,
                map_names=map_names,
                own_map=index if own_maps else None,
            ),
            checks,
        )
        for index, (name, drive) in enumerate(drives.items())
    ]


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
    selection: FrameSelection = ALL_FRAMES,
    jobs: int = 1,
    ray: bool = False,
    viewer: bool = False,
    checks: AuxiliaryChecks = NO_CHECKS,
    plots: bool = True,
    overwrite: bool = False,
    precision: Precision = "float32",
) -> Section:
    """Score a checkpoint on logged drives; a drive that fails is reported and ends no other.

    Args:
        checkpoint: as of `open_locator`.
        paths: of drives.
        map_paths: each frame takes the first map that covers its true place.
        protocol: how to ask.
        output: folder of the report; beside it lie KISS-ICP's poses and, until all is done, results of drives.
        provenance: what is known of the checkpoint, for metrics.json.
        options: of bags.
        odometry: log, kiss-icp or truth.
        selection: frames of each drive.
        jobs: processes on this machine.
        ray: tasks on a Ray cluster instead.
        viewer: also write recordings into `output`/viewer.
        checks: what is asked beside.
        plots: also draw.
        overwrite: replace a report that lies in `output`; one that is being completed is replaced anyway.
        precision: in which a network computes.

    Returns:
        The content of metrics.json; `failed` names the drives that failed, and why.

    Raises:
        DataError: if a map cannot be read, nothing was scored, or a report is in the way.
        KeyboardInterrupt: once what was answered is written beside `output`, and told.
    """
    cache = output.with_name(output.name + "-finished")
    if not overwrite and not cache.is_dir() and output.is_dir() and any(output.iterdir()):
        raise DataError(f"{output}: is not empty; name another --output, or replace what is there with --overwrite")
    _make_room_for(output)
    maps = [open_map(path) for path in map_paths]
    opened = {path: _opened(path, options) for path in paths}
    drives = [opened[path][0] for path in paths]
    names = distinct(path.name if drive is None else drive.name for path, drive in zip(paths, drives, strict=True))
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
            cache / f"{file_name(name)}{SUFFIX}" if viewer else None,
            checks=checks,
            selection=selection,
            precision=precision,
        )
        for index, (path, name, drive) in enumerate(zip(paths, names, drives, strict=True))
        if drive is not None
    }
    try:
        performed = perform_all(list(tasks.values()), cache, jobs, ray, maps)
    except KeyboardInterrupt:
        _tell_what_is_kept(list(tasks.values()), cache, output)
        raise
    found = dict(zip(tasks, performed, strict=True))
    results = [
        found[index] if index in found else DriveResult(name, "none", failed=opened[path][1])
        for index, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    asked = [
        None if drive is None or result.failed is not None else tasks[index].as_asked(drive)
        for index, (drive, result) in enumerate(zip(drives, results, strict=True))
    ]
    about = [map_provenance(path) for path in map_paths]
    recordings = [task.recording for task in tasks.values() if task.recording is not None]
    try:
        report = _finish(results, asked, maps, protocol, output, provenance, about, recordings, plots=plots)
    except DataError:  # nothing was scored: no use in keeping it
        forget(cache)
        raise
    except KeyboardInterrupt:
        _tell_what_is_kept(list(tasks.values()), cache, output)
        raise
    if not report["failed"]:
        forget(cache)
    return report


def distinct(names: Iterable[str]) -> list[str]:
    """The names; of equal ones the second becomes NAME-2 and so on."""
    used: Counter[str] = Counter()
    told_apart = []
    for name in names:
        used[name] += 1
        told_apart.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return told_apart


def _opened(path: Path, options: LogOptions) -> tuple[Drive | None, str]:
    """The drive, or None and why there is none."""
    try:
        return open_drive(path, options), ""
    except DataError as error:
        return None, str(error)


def _make_room_for(output: Path) -> None:
    """Make the folder's parent, and see that it can be written to.

    Raises:
        DataError: if a file is in the way.
        OSError: if the disk is full or may not be written to.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: expected a folder to write the report into, this is a file")
    check_writable(output)


def _tell_what_is_kept(tasks: Sequence[DriveTask], cache: Path, output: Path) -> None:
    """After an interruption: all that was answered as a table, and how to go on."""
    estimates = all_estimates(cached_results(tasks, cache))
    if not estimates:
        log.warning("interrupted before the first answer; nothing is kept")
        return
    write_csv(cache / "predictions.csv", estimates)
    ahead = (
        "goes on from there" if tasks[0].protocol.mode == "single" else "begins sequences that are not finished anew"
    )
    log.warning(
        "interrupted: %d answers are kept in %s; the same command with --output %s %s",
        len(estimates),
        cache / "predictions.csv",
        output,
        ahead,
    )


def _finish(
    results: Sequence[DriveResult],
    drives: Sequence[Drive | None],
    maps: Sequence[MapSource],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
    map_files: Sequence[Mapping[str, object]] = (),
    recordings: Sequence[Path] = (),
    *,
    plots: bool = True,
) -> Section:
    """Put together what came of all drives, and write the report; None among the drives: it could not be opened."""
    map_names = distinct(source.name for source in maps)
    inputs = [None if drive is None else drive.summary for drive in drives]
    for about in inputs:
        if about is not None:
            about.log(log)
    report = report_of(results, maps, map_names, protocol, map_files, inputs) | {"checkpoint": provenance}
    report["direction"] = direction_section(results, drives, maps)
    for result in results:
        if result.unreadable:
            log.warning("%s: %d frames cannot be read and are left out", result.drive, result.unreadable)
        if result.not_covered:
            log.warning("%s: %d frames lie on none of the maps and are not scored", result.drive, result.not_covered)
    _write(output, report, results, drives if plots else None, maps, protocol.mode, recordings)
    return report


def _write(
    output: Path,
    report: Section,
    results: Sequence[DriveResult],
    drives: Sequence[Drive | None] | None,
    maps: Sequence[MapSource],
    mode: str,
    recordings: Sequence[Path],
) -> None:
    """All files at once: they are made beside `output`, which they replace when the last is complete.

    What else somebody has put into `output` is kept.
    """
    estimates = all_estimates(results)
    with atomic_folder(output) as staged:
        text = json.dumps(_finite_or_none(report), indent=2, allow_nan=False)
        (staged / "metrics.json").write_text(text + "\n", encoding="utf-8")
        write_csv(staged / "predictions.csv", estimates)
        write_runtimes(staged / "runtimes.csv", estimates)
        if drives is not None:
            write_plots(staged / "plots", results, drives, maps, mode)
            write_way_plots(staged / "plots", results, drives, maps)
        write_trajectories(staged, estimates)
        write_report(staged / "report.html", report, estimates, staged / "plots")
        for recording in recordings:
            if recording.is_file():
                (staged / VIEWER).mkdir(exist_ok=True)
                shutil.copy2(recording, staged / VIEWER / recording.name)
        others = list(output.iterdir()) if output.is_dir() else []
        for other in others:
            if other.name in WRITTEN or re.fullmatch(r"(truth|estimate)_.*\.tum", other.name):
                continue
            if other.is_dir():
                shutil.copytree(other, staged / other.name, symlinks=True)
            else:
                shutil.copy2(other, staged / other.name, follow_symlinks=False)


def _finite_or_none(value: object) -> object:
    """The value with every NaN and infinity in it as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
