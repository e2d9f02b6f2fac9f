"""One scored answer, and the table that all of them are written to."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion import metrics
from bevfusion.geometry.se2 import SE2

COLUMNS = (
    *("drive", "frame", "stamp_ns", "draw"),
    *("prior_x_m", "prior_y_m", "prior_yaw_rad"),
    *("truth_x_m", "truth_y_m", "truth_yaw_rad"),
    *("estimate_x_m", "estimate_y_m", "estimate_yaw_rad"),
    *("covariance_xx", "covariance_xy", "covariance_xyaw", "covariance_yy", "covariance_yyaw", "covariance_yawyaw"),
    *("lateral_m", "longitudinal_m", "heading_deg", "confidence", "runtime_ms", "map"),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was asked and answered for one frame and draw; poses are those of the LiDAR in the frame of `map_index`."""

    drive_index: int
    position: int  # in the drive
    drive: str
    frame: int  # number that the log gives the frame
    stamp_ns: int
    draw: int
    map_index: int
    map_name: str
    prior: SE2
    truth: SE2
    estimate: SE2
    covariance: Float[np.ndarray, "3 3"]  # x, y in m, yaw in rad, map axes
    confidence: float
    runtime_ms: float
    credible_mass: float | None = None  # of `metrics.credibility`, where the locator shows its belief
    nll: float | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """Signed errors of n answers, in the frame of the true heading."""

    longitudinal_m: Float[np.ndarray, " n"]
    lateral_m: Float[np.ndarray, " n"]
    heading_deg: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, estimate: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> "Errors":
        """Errors of poses (x, y, yaw)."""
        longitudinal_m, lateral_m = metrics.position_errors_m(estimate, truth).T
        return cls(longitudinal_m, lateral_m, metrics.heading_error_deg(estimate, truth))

    @property
    def position_m(self) -> Float[np.ndarray, " n"]:
        """Distance of the answer from the truth."""
        distance_m: np.ndarray = np.hypot(self.longitudinal_m, self.lateral_m)
        return distance_m


def pose_rows(poses: Sequence[SE2]) -> Float[np.ndarray, "n 3"]:
    """Poses as rows (x, y, yaw), for `metrics`."""
    return np.array([(pose.x_m, pose.y_m, pose.yaw_rad) for pose in poses], dtype=np.float64).reshape(-1, 3)


def errors_of(predictions: Sequence[Prediction]) -> Errors:
    """Errors of the estimates, in the order of the predictions."""
    return Errors.of(pose_rows([p.estimate for p in predictions]), pose_rows([p.truth for p in predictions]))


def write_csv(path: Path, predictions: Sequence[Prediction]) -> None:
    """One row a frame and draw; columns as in `COLUMNS`."""
    errors = errors_of(predictions)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for i, p in enumerate(predictions):
            poses = [f"{v:.6f}" for pose in (p.prior, p.truth, p.estimate) for v in (pose.x_m, pose.y_m, pose.yaw_rad)]
            covariance = [f"{p.covariance[row, col]:.6g}" for row in range(3) for col in range(row, 3)]
            scored = (errors.lateral_m[i], errors.longitudinal_m[i], errors.heading_deg[i], p.confidence)
            scores = [*(f"{v:.6f}" for v in scored), f"{p.runtime_ms:.3f}"]
            writer.writerow([p.drive, p.frame, p.stamp_ns, p.draw, *poses, *covariance, *scores, p.map_name])


def finite_or_none(value: object) -> object:
    """The value with every NaN and infinity in it as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
