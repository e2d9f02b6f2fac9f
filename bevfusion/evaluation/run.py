"""Score a locator on drives: ask for every frame from a displaced prior, compare with the truth, write the report."""

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.asides import score_drive
from bevfusion.evaluation.marginals import WorstMarginals
from bevfusion.evaluation.opened import MakeLocator
from bevfusion.evaluation.plots import write_plots
from bevfusion.evaluation.predictions import finite_or_none, write_csv
from bevfusion.evaluation.protocol import NO_ASIDES, Asides, Protocol, displaced
from bevfusion.evaluation.report import write_report
from bevfusion.evaluation.scoring import WORST_FRAMES, Answers
from bevfusion.evaluation.summary import Section, count_maps, describe_map, summarise
from bevfusion.evaluation.traffic import Shift, summarise_shifts
from bevfusion.evaluation.trajectories import write_trajectories
from bevfusion.machine import hardware
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError

__all__ = ["Protocol", "displaced", "distinct", "evaluate", "finish", "ready_for", "score_drives"]

log = logging.getLogger(__name__)


def evaluate(
    make_locator: MakeLocator,
    drives: Sequence[Drive],
    maps: Sequence[MapSource],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
    asides: Asides = NO_ASIDES,
) -> Section:
    """Score every frame that a map covers, in this process, and write the report into `output`.

    It is report.html, metrics.json, predictions.csv, plots/ and trajectories for `evo` (*.tum).

    Args:
        make_locator: what is scored, opened once for each drive and map that is used.
        drives: drives with truth.
        maps: each frame takes the first that covers its true place.
        protocol: how to ask.
        output: folder; what an earlier run wrote there is replaced, and only once all is done.
        provenance: what is known of the checkpoint, for metrics.json.
        asides: what is asked beside.

    Returns:
        The content of metrics.json.

    Raises:
        DataError: if a scan is broken, or no frame can be scored.
    """
    ready_for(output)
    named = dict(zip(distinct(drive.name for drive in drives), drives, strict=True))
    answers = score_drives(make_locator, named, maps, protocol, asides)
    return finish(answers, drives, maps, protocol, output, provenance)


def score_drives(
    make_locator: MakeLocator,
    drives: Mapping[str, Drive],
    maps: Sequence[MapSource],
    protocol: Protocol,
    asides: Asides = NO_ASIDES,
) -> list[Answers]:
    """What a locator makes of each drive, in this process.

    Args:
        make_locator: as of `evaluate`.
        drives: by their names in the report.
        maps: as of `evaluate`.
        protocol: as of `evaluate`.
        asides: as of `evaluate`.

    Raises:
        DataError: if a scan is broken.
    """
    map_names = distinct(source.name for source in maps)
    return [
        score_drive(
            make_locator,
            drive,
            maps,
            protocol,
            asides,
            name=name,
            drive_index=index,
            map_names=map_names,
        )
        for index, (name, drive) in enumerate(drives.items())
    ]


def ready_for(output: Path) -> None:
    """Make the folder's parent.

    Raises:
        DataError: if a file is in the way.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: expected a folder to write the report into, this is a file")
    output.parent.mkdir(parents=True, exist_ok=True)


def finish(
    answers: Sequence[Answers],
    drives: Sequence[Drive | None],
    maps: Sequence[MapSource],
    protocol: Protocol,
    output: Path,
    provenance: dict[str, object],
    map_files: Sequence[Mapping[str, object]] = (),
) -> Section:
    """Put together what came of all drives, and write the report; arguments and result as of `evaluate`.

    Args:
        answers: one for each drive.
        drives: None for one that could not be opened.
        maps: as of `evaluate`.
        protocol: as of `evaluate`.
        output: as of `evaluate`.
        provenance: as of `evaluate`.
        map_files: what is known of the file of each map.

    Raises:
        DataError: if nothing was scored.
    """
    report = _report(answers, maps, protocol, map_files) | {"checkpoint": provenance}
    worst = WorstMarginals(WORST_FRAMES)
    for found in answers:
        worst.add(found.worst)
    _write(output, report, answers, worst, drives, maps)
    return report


def _report(
    answers: Sequence[Answers],
    maps: Sequence[MapSource],
    protocol: Protocol,
    map_files: Sequence[Mapping[str, object]],
) -> Section:
    """The content of metrics.json, without the checkpoint.

    Raises:
        DataError: if nothing was scored.
    """
    predictions = [prediction for found in answers for prediction in found.predictions]
    if not predictions:
        raise DataError(_why_nothing(answers, maps))
    for found in answers:
        if found.not_covered:
            log.warning("%s: %d frames lie on none of the maps and are not scored", found.drive, found.not_covered)
    served = count_maps(predictions)
    map_names = distinct(source.name for source in maps)
    classical = [prediction for found in answers for prediction in found.classical]
    shifts = _shifts(answers)
    return summarise(predictions) | {
        "classical": summarise(classical) if classical else None,
        "traffic": summarise_shifts(shifts) if shifts else None,
        "not_covered": {found.drive: found.not_covered for found in answers},
        "lost": {found.drive: found.lost for found in answers},
        "without_truth": {found.drive: found.without_truth for found in answers},
        "failed": {found.drive: found.failed for found in answers if found.failed is not None},
        "protocol": protocol.described()
        | {"threshold": "<", "odometry": "+".join(sorted({f.odometry for f in answers if f.failed is None}))},
        "hardware": hardware(),
        "map": {
            name: {"frames": served.get(name, 0), **describe_map(source), **about}
            for name, source, about in zip(map_names, maps, map_files or [{}] * len(maps), strict=True)
        },
    }


def _shifts(answers: Sequence[Answers]) -> list[Shift]:
    return [shift for found in answers for shift in found.traffic]


def _why_nothing(answers: Sequence[Answers], maps: Sequence[MapSource]) -> str:
    names = ", ".join(found.drive for found in answers)
    failed = [found.failed for found in answers if found.failed is not None]
    if len(failed) == len(answers):
        return "; ".join(failed)
    boxes = [found.box_deg for found in answers if found.box_deg is not None]
    if not boxes:
        return f"none of the frames of {names} has a true pose to compare with"
    lost = sum(found.lost for found in answers)
    if lost:
        return f"nothing to score: lost in all {lost} frames of {names}"
    south, west = (min(box[i] for box in boxes) for i in (0, 1))
    north, east = (max(box[i] for box in boxes) for i in (2, 3))
    shown = (f"{source.name} {_box_deg(source)}" for source in maps)
    return (
        f"no map covers any frame: {names} within lat {south:.5f} to {north:.5f}, "
        f"lon {west:.5f} to {east:.5f}; maps: {', '.join(shown)}"
    )


def _box_deg(source: MapSource) -> str:
    """A map's box in words."""
    x_min_m, y_min_m, x_max_m, y_max_m = source.bounds_m
    south, west = source.frame.degrees_from_metres(x_min_m, y_min_m)
    north, east = source.frame.degrees_from_metres(x_max_m, y_max_m)
    return f"within lat {south:.5f} to {north:.5f}, lon {west:.5f} to {east:.5f}"


def distinct(names: Iterable[str]) -> list[str]:
    """The names; of equal ones the second becomes NAME-2 and so on."""
    used: Counter[str] = Counter()
    distinct = []
    for name in names:
        used[name] += 1
        distinct.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return distinct


def _write(
    output: Path,
    report: Section,
    answers: Sequence[Answers],
    worst: WorstMarginals,
    drives: Sequence[Drive | None],
    maps: Sequence[MapSource],
) -> None:
    """All files at once: they are made beside `output` and moved into place when the last is complete."""
    predictions = [prediction for found in answers for prediction in found.predictions]
    mode = str(report["protocol"]["mode"])  # type: ignore[index]
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        text = json.dumps(finite_or_none(report), indent=2, allow_nan=False)
        (staged / "metrics.json").write_text(text + "\n", encoding="utf-8")
        write_csv(staged / "predictions.csv", predictions)
        write_plots(staged / "plots", predictions, drives, maps, mode, worst, _shifts(answers))
        trajectories = write_trajectories(staged, predictions)
        write_report(staged / "report.html", report, predictions, staged / "plots")
        output.mkdir(exist_ok=True)
        if (output / "plots").exists():
            os.replace(output / "plots", Path(scratch) / "old-plots")
        for old in (*output.glob("truth_*.tum"), *output.glob("estimate_*.tum")):
            old.unlink()
        for name in ("plots", "predictions.csv", *trajectories, "metrics.json", "report.html"):
            os.replace(staged / name, output / name)
