"""Rigid motions of space as 4 x 4 matrices, and trees of fixed ones: what mounts a LiDAR on a vehicle."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.structures import DataError


def rotations(quaternions_xyzw: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotation matrices of quaternions of any length; those of length zero or not finite give NaN."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y, z, w = (quaternions_xyzw / np.linalg.norm(quaternions_xyzw, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices: np.ndarray = np.moveaxis(np.array(rows), -1, 0)
    return matrices


def transform(shift_m: Sequence[float], quaternion_xyzw: Sequence[float]) -> Float[np.ndarray, "4 4"]:
    """`dst_from_src` of a shift and a quaternion.

    Raises:
        DataError: if a number is not finite or the quaternion is zero.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = rotations(np.array([quaternion_xyzw], dtype=np.float64))[0]
    matrix[:3, 3] = shift_m
    if not np.isfinite(matrix).all():
        raise DataError(f"no rigid motion: shift {list(shift_m)}, quaternion {list(quaternion_xyzw)}")
    return matrix


def extrinsics_matrix(numbers: Sequence[float]) -> Float[np.ndarray, "4 4"]:
    """`base_from_lidar` as people write it: x y z (m) roll pitch yaw (rad), or x y z qx qy qz qw.

    Raises:
        DataError: if it is neither.
    """
    if len(numbers) not in (6, 7):
        raise DataError(f"extrinsics are x y z roll pitch yaw or x y z qx qy qz qw, got {len(numbers)} numbers")
    turn = tuple(numbers[3:])
    if len(turn) == 3 and max(abs(angle_rad) for angle_rad in turn) > 2.0 * math.pi:
        raise DataError(f"extrinsics: roll pitch yaw are radians, got {turn}: degrees?")
    if len(turn) == 4 and abs(math.hypot(*turn) - 1.0) > 1e-3:
        raise DataError("extrinsics: the quaternion qx, qy, qz, qw has not the length 1")
    return transform(numbers[:3], quaternion_of_rpy(*turn) if len(turn) == 3 else turn)


def quaternion_of_rpy(roll_rad: float, pitch_rad: float, yaw_rad: float) -> tuple[float, float, float, float]:
    """Quaternion x, y, z, w of turns about the fixed axes x, y and z in this order, as URDF and REP-103 have them."""
    cr, sr = math.cos(0.5 * roll_rad), math.sin(0.5 * roll_rad)
    cp, sp = math.cos(0.5 * pitch_rad), math.sin(0.5 * pitch_rad)
    cy, sy = math.cos(0.5 * yaw_rad), math.sin(0.5 * yaw_rad)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def inverse(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """`src_from_dst` of `dst_from_src`."""
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


def yaws_rad(matrices: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, " n"]:
    """Heading of the x axis in the plane, counter-clockwise from the destination's x axis."""
    angles: np.ndarray = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    return angles


def interpolated_rotations(
    at_ns: Float[np.ndarray, " n"], stamps_ns: Float[np.ndarray, " k"], matrices: Float[np.ndarray, "k 3 3"]
) -> Float[np.ndarray, "n 3 3"]:
    """Rotations between samples: roll, pitch and yaw interpolated each (vehicles do not stand on their nose)."""
    roll = np.arctan2(matrices[:, 2, 1], matrices[:, 2, 2])
    pitch = -np.arcsin(np.clip(matrices[:, 2, 0], -1.0, 1.0))
    angles = [np.interp(at_ns, stamps_ns, np.unwrap(values)) for values in (roll, pitch, yaws_rad(matrices))]
    half = 0.5 * np.stack(angles)
    (cr, cp, cy), (sr, sp, sy) = np.cos(half), np.sin(half)
    quaternions = [sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy]
    return rotations(np.stack([*quaternions, cr * cp * cy + sr * sp * sy], axis=1))


class FrameTree:
    """Fixed transforms between named frames, as /tf_static says them."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Float[np.ndarray, "4 4"]]] = {}

    def add(self, parent: str, child: str, parent_from_child: Float[np.ndarray, "4 4"]) -> None:
        """One transform more; of a child named twice the last counts."""
        self._parents[bare(child)] = (bare(parent), parent_from_child)

    def __contains__(self, frame: str) -> bool:
        return bare(frame) in self.frames

    @property
    def frames(self) -> set[str]:
        """Names of all frames."""
        return set(self._parents) | {parent for parent, _ in self._parents.values()}

    def above(self, frame: str) -> list[str]:
        """Names of the frame itself, its parent, and so on up to the root."""
        return list(self._ancestors(frame))

    def lookup(self, target: str, source: str) -> Float[np.ndarray, "4 4"] | None:
        """`target_from_source`, or None where no path of transforms leads from one to the other."""
        up_from_target, up_from_source = self._ancestors(target), self._ancestors(source)
        for frame, ancestor_from_source in up_from_source.items():
            if frame in up_from_target:
                target_from_source: np.ndarray = inverse(up_from_target[frame]) @ ancestor_from_source
                return target_from_source
        return None

    def _ancestors(self, frame: str) -> dict[str, Float[np.ndarray, "4 4"]]:
        """`ancestor_from_frame` of the frame itself and all above it."""
        frame = bare(frame)
        found = {frame: np.eye(4)}
        current = np.eye(4)
        while frame in self._parents:
            frame, step = self._parents[frame]
            if frame in found:  # a circle
                break
            current = step @ current
            found[frame] = current
        return found


def bare(frame: str) -> str:
    """The name of a frame: ROS 1 wrote some with a slash before them."""
    return str(frame).lstrip("/")


def transforms_of(
    message: Any, on_refused: Callable[[str], None]
) -> Iterator[tuple[Any, str, str, Float[np.ndarray, "4 4"]]]:
    """(item, parent, child, parent_from_child) of each transform of a tf2_msgs/TFMessage, of either ROS.

    Args:
        message: with a list `transforms`.
        on_refused: called with one line for each that is no rigid motion, which is left out.
    """
    for item in message.transforms:
        shift, turn = item.transform.translation, item.transform.rotation
        parent, child = bare(item.header.frame_id), bare(item.child_frame_id)
        try:
            matrix = transform((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))
        except DataError as error:
            on_refused(f"{parent} to {child}: {error}")
            continue
        yield item, parent, child, matrix


def angle_between_rad(first: float, second: float) -> float:
    """Absolute difference of two angles, at most pi."""
    return abs(math.remainder(first - second, 2.0 * math.pi))
