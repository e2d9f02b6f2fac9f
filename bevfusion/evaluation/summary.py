"""From results to metrics.json."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bevfusion import metrics
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.results import (
    DriveResult,
    Errors,
    ScoredEstimate,
    all_estimates,
    errors_of,
    errors_of_priors,
    pose_rows,
)
from bevfusion.evaluation.traffic import summarise_shifts
from bevfusion.machine import hardware
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

Section = dict[str, object]


def report_of(
    results: Sequence[DriveResult],
    maps: Sequence[MapSource],
    map_names: Sequence[str],
    protocol: Protocol,
    map_files: Sequence[Mapping[str, object]] = (),
    inputs: Sequence[InputSummary | None] = (),
) -> Section:
    """The content of metrics.json, without the checkpoint.

    Args:
        results: one for each drive.
        maps: that the drives lie on.
        map_names: of these in the report.
        protocol: how it was asked.
        map_files: what is known of the file of each map.
        inputs: what each drive is made of; None: it could not be opened.

    Raises:
        DataError: if nothing was scored.
    """
    estimates = all_estimates(results)
    if not estimates:
        raise DataError(_why_nothing(results, maps, inputs))
    served = _count_maps(estimates)
    classical = [estimate for result in results for estimate in result.classical]
    shifts = [shift for result in results for shift in result.traffic]
    answers = len(estimates) + sum(result.lost for result in results)
    return summarise(estimates) | {
        "answered_percent": 100.0 * len(estimates) / answers,
        "classical": summarise(classical) if classical else None,
        "traffic": summarise_shifts(shifts) if shifts else None,
        "not_covered": {result.drive: result.not_covered for result in results},
        "lost": {result.drive: result.lost for result in results},
        "without_truth": {result.drive: result.without_truth for result in results},
        "unreadable": {result.drive: result.unreadable for result in results},
        "input": {
            result.drive: about.as_dict()
            for result, about in zip(results, inputs or [None] * len(results), strict=True)
            if about is not None
        },
        "failed": {result.drive: result.failed for result in results if result.failed is not None},
        "protocol": protocol.described()
        | {"threshold": "<", "odometry": "+".join(sorted({r.odometry for r in results if r.failed is None}))},
        "hardware": hardware(),
        "map": {
            name: {"frames": served.get(name, 0), **_origin(source), **about}
            for name, source, about in zip(map_names, maps, map_files or [{}] * len(maps), strict=True)
        },
    }


def summarise(estimates: Sequence[ScoredEstimate]) -> Section:
    """All figures of the report that follow from the estimates alone (NaN where there is nothing to count)."""
    by_drive: dict[str, list[ScoredEstimate]] = {}
    for estimate in estimates:
        by_drive.setdefault(estimate.drive, []).append(estimate)
    runtimes_ms = np.array([e.runtime_ms for e in estimates])
    return {
        "frames": _frame_count(estimates),
        **error_sections(errors_of(estimates)),
        "chance": error_sections(errors_of_priors(estimates)),
        "calibration": _calibration(estimates),
        "per_drive": {name: _drive_section(group) for name, group in by_drive.items()},
        "runtime_ms": {"p50": float(np.percentile(runtimes_ms, 50)), "p95": float(np.percentile(runtimes_ms, 95))},
    }


def error_sections(errors: Errors) -> Section:
    """Recalls, median and 95th percentile of every quantity; of headings also the share that is the other way round."""
    sections: Section = {key: metrics.summary(values) for key, values in errors.by_quantity().items()}
    sections["heading_deg"] = metrics.summary(errors.heading_deg) | {"flips_180": metrics.flips_180(errors.heading_deg)}
    return sections


def _drive_section(estimates: Sequence[ScoredEstimate]) -> Section:
    estimate = pose_rows([e.estimate for e in estimates])
    truth = pose_rows([e.truth for e in estimates])
    east_m, north_m = metrics.constant_offset_m(estimate, truth)
    aligned = estimate - np.array([east_m, north_m, 0.0])
    return {
        "frames": _frame_count(estimates),
        **error_sections(Errors.of(estimate, truth)),
        "chance": error_sections(errors_of_priors(estimates)),
        "calibration": _calibration(estimates),
        # what remains when the map's and the truth's own shift, the same in every frame, is taken out
        "offset_removed": {"east_m": east_m, "north_m": north_m, **error_sections(Errors.of(aligned, truth))},
    }


def _calibration(estimates: Sequence[ScoredEstimate]) -> Section:
    masses = np.array([e.credible_mass for e in estimates if e.credible_mass is not None])
    nlls = np.array([e.nll for e in estimates if e.nll is not None])
    return {
        "coverage_68": metrics.coverage(masses, 0.68),
        "coverage_95": metrics.coverage(masses, 0.95),
        "nll": float(nlls.mean()) if len(nlls) else float("nan"),  # nats, of a density per m^2 and radian
    }


def _frame_count(estimates: Sequence[ScoredEstimate]) -> int:
    return len({(e.drive_index, e.frame_index) for e in estimates})


def _count_maps(estimates: Sequence[ScoredEstimate]) -> Mapping[str, int]:
    """Frames that each map served, by the map's name."""
    frames = {(e.drive_index, e.frame_index): e.map_name for e in estimates}
    return Counter(frames.values())


def _origin(source: MapSource) -> Section:
    return {"origin_lat_deg": source.frame.origin_lat_deg, "origin_lon_deg": source.frame.origin_lon_deg}


def _why_nothing(
    results: Sequence[DriveResult], maps: Sequence[MapSource], inputs: Sequence[InputSummary | None]
) -> str:
    names = ", ".join(result.drive for result in results)
    failed = [result.failed for result in results if result.failed is not None]
    if len(failed) == len(results):
        return "; ".join(failed)
    boxes = [result.box_deg for result in results if result.box_deg is not None]
    if not boxes:
        notes = [note for about in inputs if about is not None for note in about.of_kind("lost")]
        causes = dict.fromkeys(note.text for note in notes if note.subject == "truth")
        why = f" ({'; '.join(causes)})" if causes else ""
        return f"none of the frames of {names} has a true pose to compare with{why}"
    lost = sum(result.lost for result in results)
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
