"""The courses of an evaluation: which answers belong on one map, and the same as trajectory files."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bevfusion.evaluation.predictions import Prediction
from bevfusion.geometry.se2 import SE2


@dataclass(frozen=True, slots=True)
class Course:
    """The answers of one drive on one map, in the order of time; of equal stamps in the order of draws."""

    file_name: str  # what files about it are called; no two courses have the same
    predictions: Sequence[Prediction]


def courses(predictions: Sequence[Prediction]) -> list[Course]:
    """Every drive on every map that served it, in the order of first appearance."""
    groups: dict[tuple[str, int], list[Prediction]] = {}
    for prediction in predictions:
        groups.setdefault((prediction.drive, prediction.map_index), []).append(prediction)
    found: dict[str, Course] = {}
    for (drive, map_index), group in groups.items():
        several = sum(name == drive for name, _ in groups) > 1
        name = base = f"{file_name(drive)}_map{map_index}" if several else file_name(drive)
        number = 1
        while name in found:  # names that differ only in what file names cannot hold
            number += 1
            name = f"{base}_{number}"
        found[name] = Course(name, sorted(group, key=lambda p: (p.stamp_ns, p.draw)))
    return list(found.values())


def file_name(name: str) -> str:
    """A name with nothing in it that a file system could object to."""
    return re.sub(r"[^\w.-]+", "_", name)


def write_trajectories(folder: Path, predictions: Sequence[Prediction]) -> list[str]:
    """Write truth_COURSE.tum and estimate_COURSE.tum, and estimate_COURSE_drawN.tum of further draws.

    The format is that of TUM's RGB-D benchmark, which `evo` reads: stamp in s, x y z in m, quaternion x y z w. Poses
    are those of the LiDAR in the frame of the course's map, with z = 0; frames without an answer are left out.

    Args:
        folder: where to; it exists.
        predictions: what was answered.

    Returns:
        Names of the files.
    """
    names = []
    for course in courses(predictions):
        truth = {p.stamp_ns: p.truth for p in course.predictions}
        names.append(_write_tum(folder / f"truth_{course.file_name}.tum", truth))
        for draw in sorted({p.draw for p in course.predictions}):
            suffix = f"_draw{draw}" if draw else ""
            estimate = {p.stamp_ns: p.estimate for p in course.predictions if p.draw == draw}
            names.append(_write_tum(folder / f"estimate_{course.file_name}{suffix}.tum", estimate))
    return names


def _write_tum(path: Path, poses: dict[int, SE2]) -> str:
    """Stamp in ns -> pose, ascending; returns the file's name."""
    lines = []
    for stamp_ns, pose in poses.items():
        seconds, rest_ns = divmod(stamp_ns, 1_000_000_000)
        half_rad = 0.5 * pose.yaw_rad
        turn = f"0 0 {math.sin(half_rad):.9f} {math.cos(half_rad):.9f}"
        lines.append(f"{seconds}.{rest_ns:09d} {pose.x_m:.6f} {pose.y_m:.6f} 0 {turn}\n")
    path.write_text("".join(lines), encoding="ascii")
    return path.name
