"""Scans that lie in other axes than the vehicle's are told by how they fit each other."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bevfusion.datasets.axes import AS_TOLD, check_axes, fit, scan_pairs, upright_m
from bevfusion.datasets.open import open_drive
from bevfusion.geometry.se2 import SE2
from bevfusion.summary import InputSummary
from tests.datasets.bag_writing import FIX, IMU, LIDAR, ODOMETRY, ORIGIN_NS, STEP_NS, Messages, write_ros1

RNG = np.random.default_rng(11)
POSTS = np.column_stack([RNG.uniform(-40, 90, (500, 2)), np.full(500, 0.5)])  # a wood, and the ground it grows on
GROUND = np.column_stack([RNG.uniform(-40, 90, (4000, 2)), np.full(4000, -1.7)])
WORLD = np.concatenate([POSTS, GROUND])
FRAMES, STEP_M, TURN_RAD = 16, 1.0, math.radians(4.0)


def poses() -> list[SE2]:
    """A bend to the left."""
    found = [SE2()]
    for _ in range(FRAMES - 1):
        found.append(found[-1] @ SE2(STEP_M, 0.0, TURN_RAD))
    return found


def seen(pose: SE2) -> np.ndarray:
    """The world about a pose, in the vehicle's axes."""
    here = pose.inverse()
    cos, sin = math.cos(here.yaw_rad), math.sin(here.yaw_rad)
    xy = WORLD[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + [here.x_m, here.y_m]
    near = np.hypot(*xy.T) < 35.0
    return np.column_stack([xy[near], WORLD[near, 2]]).astype(np.float32)


def turned(xyz: np.ndarray, turn_deg: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(-turn_deg)), math.sin(math.radians(-turn_deg))
    return np.column_stack([xyz[:, :2] @ np.array([[cos, sin], [-sin, cos]]), xyz[:, 2]]).astype(np.float32)


def told(change: Callable[[np.ndarray, SE2], np.ndarray]) -> list[str]:
    summary = InputSummary("a")
    way = poses()
    scans = [upright_m(change(seen(pose), pose)) for pose in way]
    check_axes([(scans[a], scans[b], way[a].inverse() @ way[b]) for a, b in scan_pairs(list(way))], summary)
    return [note.text for note in summary.notes]


def in_the_world(xyz: np.ndarray, pose: SE2) -> np.ndarray:
    cos, sin = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    xy = xyz[:, :2] @ np.array([[cos, sin], [-sin, cos]]) + [pose.x_m, pose.y_m]
    return np.column_stack([xy, xyz[:, 2]]).astype(np.float32)


def test_scans_in_the_axes_of_the_vehicle_are_told_of_by_nothing() -> None:
    assert told(lambda xyz, _: xyz) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda xyz, _: turned(xyz, 90.0), "their x axis pointed 90 degrees left of the way ahead"),
        (lambda xyz, _: turned(xyz, 180.0), "their x axis pointed 180 degrees"),
        (lambda xyz, _: turned(xyz, -90.0), "their x axis pointed -90 degrees"),
        (lambda xyz, _: xyz * np.float32([1, -1, 1]), "left and right were exchanged"),
        (in_the_world, "frame of a world"),
    ],
    ids=["90", "180", "-90", "mirrored", "world"],
)
def test_other_axes_are_told(change: Callable[[np.ndarray, SE2], np.ndarray], words: str) -> None:
    (text,) = told(change)
    assert words in text


def test_the_ground_does_not_count() -> None:
    standing = upright_m(seen(SE2()))
    near = np.hypot(*POSTS[:, :2].T) < 35.0
    assert 0.6 * near.sum() < len(standing) <= near.sum()
    assert fit(standing, standing, SE2(), AS_TOLD) == 1.0


def test_a_vehicle_that_stands_still_tells_nothing() -> None:
    assert scan_pairs([SE2()] * 30) == []
    assert scan_pairs([None] * 30) == []


@pytest.mark.parametrize(("yaw_deg", "count"), [(90.0, 0), (-90.0, 1)], ids=["right", "wrong sign"])
def test_a_transform_with_the_wrong_sign_is_told(tmp_path: Path, yaw_deg: float, count: int) -> None:
    messages = Messages(ros1=True)
    mount = messages.static(ORIGIN_NS, ("base_link", "lidar", (0.0, 0.0, 1.8), math.radians(yaw_deg)))
    written = [("/tf_static", ORIGIN_NS, mount)]
    for number, pose in enumerate(poses()):
        stamp_ns = ORIGIN_NS + number * STEP_NS
        xyz = turned(seen(pose), 90.0)
        written += [
            (ODOMETRY, stamp_ns, messages.odometry(stamp_ns, pose.x_m, pose.y_m, pose.yaw_rad)),
            (LIDAR, stamp_ns, messages.cloud(stamp_ns, np.column_stack([xyz, np.full(len(xyz), 0.3)]))),
        ]
    notes = open_drive(write_ros1(tmp_path / "a.bag", written)).summary.of_kind("warning")
    assert sum(note.subject == "axes" for note in notes) == count


def test_a_right_imu_passes_in_a_bend_of_rare_fixes(tmp_path: Path) -> None:
    """Headings are compared with the way between two fixes at its middle, not at its beginning."""
    messages = Messages(ros1=True)
    written = []
    pose = SE2()
    for number in range(120):
        stamp_ns = ORIGIN_NS + number * STEP_NS
        lat, lon = 49.0 + pose.y_m / 111_200.0, 8.4 + pose.x_m / (111_200.0 * math.cos(math.radians(49.0)))
        if number % 10 == 0:
            written.append((FIX, stamp_ns, messages.fix(stamp_ns, lat, lon)))
        written += [
            (IMU, stamp_ns, messages.imu(stamp_ns, pose.yaw_rad)),
            (LIDAR, stamp_ns, messages.cloud(stamp_ns, np.full((300, 4), 3.0, np.float32))),
        ]
        pose = pose @ SE2(0.8, 0.0, math.radians(1.2))
    drive = open_drive(write_ros1(tmp_path / "a.bag", written))
    assert [note.text for note in drive.summary.of_kind("lost")] == []
    assert drive[40].truth is not None
