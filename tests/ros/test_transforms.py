import math
import threading
import time

import numpy as np
import pytest

from bevfusion.datasets.rigid import transform
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.transforms import OdometryBuffer, TransformBuffer
from bevfusion.structures import DataError

S = 10**9


def turned(x_m: float, yaw_rad: float) -> np.ndarray:
    return transform((x_m, 0.0, 0.0), (0.0, 0.0, math.sin(0.5 * yaw_rad), math.cos(0.5 * yaw_rad)))


def test_static_transforms_hold_at_any_time_and_both_ways():
    buffer = TransformBuffer()
    buffer.add_static("base", "mast", turned(1.0, math.pi / 2))
    buffer.add_static("mast", "lidar", turned(2.0, 0.0))
    found = buffer.lookup("base", "lidar", 7, 0.0)
    assert found[:2, 3] == pytest.approx([1.0, 2.0])
    assert buffer.lookup("lidar", "base", 7, 0.0) @ found == pytest.approx(np.eye(4))


def test_a_moving_transform_is_interpolated_and_never_extrapolated():
    buffer = TransformBuffer()
    buffer.add("base", "lidar", 1 * S, turned(0.0, 0.0))
    buffer.add("base", "lidar", 2 * S, turned(1.0, 1.0))
    assert buffer.lookup("base", "lidar", int(1.25 * S), 0.0) == pytest.approx(turned(0.25, 0.25))
    for stamp_ns in (S - 1, 2 * S + 1):
        with pytest.raises(DataError, match="base to lidar"):
            buffer.lookup("base", "lidar", stamp_ns, 0.0)


def test_what_is_not_there_is_an_error_and_not_the_identity():
    buffer = TransformBuffer()
    buffer.add_static("base", "lidar", np.eye(4))
    with pytest.raises(DataError, match="'elsewhere' to 'base'"):
        buffer.lookup("base", "elsewhere", 0, 0.0)


def test_a_transform_is_waited_for():
    buffer = TransformBuffer()
    threading.Timer(0.1, lambda: buffer.add_static("base", "lidar", np.eye(4))).start()
    assert buffer.lookup("base", "lidar", 0, 5.0) == pytest.approx(np.eye(4))


def test_time_that_goes_back_begins_anew():
    buffer = TransformBuffer()
    buffer.add("base", "lidar", 100 * S, turned(5.0, 0.0))
    buffer.add("base", "lidar", 10 * S, turned(1.0, 0.0))
    buffer.add("base", "lidar", 11 * S, turned(2.0, 0.0))
    assert buffer.lookup("base", "lidar", int(10.5 * S), 0.0)[0, 3] == pytest.approx(1.5)
    with pytest.raises(DataError):
        buffer.lookup("base", "lidar", 100 * S, 0.0)


def odometry() -> OdometryBuffer:
    buffer = OdometryBuffer()
    for second in range(3):
        buffer.add(second * S, SE2(2.0 * second, 0.0, 3.0 + 0.2 * second))
    return buffer


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [(1.0, (2.0, 3.2)), (0.5, (1.0, 3.1)), (2.1, (4.2, 3.42 - 2 * math.pi)), (0.0, (0.0, 3.0))],
)
def test_odometry_between_samples_and_a_little_after(at_s, expected):
    found = odometry().at(int(at_s * S), 0.0, 0.2)
    assert found is not None
    assert (found.x_m, found.yaw_rad) == pytest.approx(expected)


@pytest.mark.parametrize("at_s", [-0.1, 2.3])
def test_odometry_is_not_guessed(at_s):
    assert odometry().at(int(at_s * S), 0.0, 0.2) is None


def test_odometry_of_the_stamp_is_waited_for():
    buffer = odometry()
    threading.Timer(0.1, lambda: buffer.add(3 * S, SE2(100.0, 0.0, 0.0))).start()
    began = time.monotonic()
    found = buffer.at(3 * S, 5.0, 2.0)
    assert found is not None
    assert found.x_m == 100.0
    assert time.monotonic() - began < 2.0


def test_odometry_forgets_when_time_goes_back():
    buffer = odometry()
    buffer.rewind(1)
    assert len(buffer) == 0
    buffer = odometry()
    buffer.add(1, SE2(7.0, 0.0, 0.0))  # far before the newest
    assert len(buffer) == 1
    buffer.rewind(1)
    assert len(buffer) == 1  # the odometry of the new round is here already


def test_old_odometry_is_dropped():
    buffer = OdometryBuffer()
    for second in range(100):
        buffer.add(second * S, SE2())
    assert len(buffer) <= 11
