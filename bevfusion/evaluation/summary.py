"""From answers to metrics.json."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bevfusion import metrics
from bevfusion.evaluation.predictions import Errors, Prediction, errors_of, pose_rows
from bevfusion.maps.source import MapSource

Section = dict[str, object]
QUANTITIES = ("lateral_m", "longitudinal_m", "position_m", "heading_deg")


def summarise(predictions: Sequence[Prediction]) -> Section:
    """All figures of the report that follow from the answers alone (NaN where there is nothing to count)."""
    by_drive: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        by_drive.setdefault(prediction.drive, []).append(prediction)
    runtimes_ms = np.array([p.runtime_ms for p in predictions])
    return {
        "frames": _frame_count(predictions),
        **error_sections(errors_of(predictions)),
        "chance": error_sections(_errors_of_priors(predictions)),
        "calibration": _calibration(predictions),
        "per_drive": {name: _drive_section(group) for name, group in by_drive.items()},
        "runtime_ms": {"p50": float(np.percentile(runtimes_ms, 50)), "p95": float(np.percentile(runtimes_ms, 95))},
    }


def error_sections(errors: Errors) -> Section:
    """Recalls, median and 95th percentile of the four quantities."""
    heading = metrics.summary(errors.heading_deg) | {"flips_180": metrics.flips_180(errors.heading_deg)}
    return {
        "lateral_m": metrics.summary(errors.lateral_m),
        "longitudinal_m": metrics.summary(errors.longitudinal_m),
        "position_m": metrics.summary(errors.position_m),
        "heading_deg": heading,
    }


def count_maps(predictions: Sequence[Prediction]) -> Mapping[str, int]:
    """Frames that each map served, by the map's name."""
    frames = {(p.drive_index, p.position): p.map_name for p in predictions}
    return Counter(frames.values())


def describe_map(source: MapSource) -> Section:
    """Where a map lies."""
    return {"origin_lat_deg": source.frame.origin_lat_deg, "origin_lon_deg": source.frame.origin_lon_deg}


def _drive_section(predictions: Sequence[Prediction]) -> Section:
    estimate = pose_rows([p.estimate for p in predictions])
    truth = pose_rows([p.truth for p in predictions])
    east_m, north_m = metrics.constant_offset_m(estimate, truth)
    aligned = estimate - np.array([east_m, north_m, 0.0])
    return {
        "frames": _frame_count(predictions),
        **error_sections(Errors.of(estimate, truth)),
        "chance": error_sections(_errors_of_priors(predictions)),
        "calibration": _calibration(predictions),
        # what remains when the map's and the truth's own shift, the same in every frame, is taken out
        "offset_removed": {"east_m": east_m, "north_m": north_m, **error_sections(Errors.of(aligned, truth))},
    }


def _calibration(predictions: Sequence[Prediction]) -> Section:
    masses = np.array([p.credible_mass for p in predictions if p.credible_mass is not None])
    nlls = np.array([p.nll for p in predictions if p.nll is not None])
    return {
        "coverage_68": metrics.coverage(masses, 0.68),
        "coverage_95": metrics.coverage(masses, 0.95),
        "nll": float(nlls.mean()) if len(nlls) else float("nan"),  # nats, of a density per m^2 and radian
    }


def _errors_of_priors(predictions: Sequence[Prediction]) -> Errors:
    return Errors.of(pose_rows([p.prior for p in predictions]), pose_rows([p.truth for p in predictions]))


def _frame_count(predictions: Sequence[Prediction]) -> int:
    return len({(p.drive_index, p.position) for p in predictions})
