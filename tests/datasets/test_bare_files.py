"""Files of nothing but numbers: rows, types and columns are told by the numbers, or refused."""

import math

import numpy as np
import pytest

from bevfusion.datasets.bare_files import KITTI, find_layout, layout_in_words, read_bare
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

RNG = np.random.default_rng(5)
BEAMS, TURN_S = 32, 0.1


def turn(columns=400, interlaced=False):
    """A turn of a LiDAR in a street, in the order in which it fires: x, y, z, intensity, ring, time."""
    order = np.arange(BEAMS)
    if interlaced:
        order = np.concatenate([order[:16], order[16:]]).reshape(2, 16).T.ravel()
    ring, azimuth = np.tile(order, columns), np.repeat(np.linspace(math.pi, -math.pi, columns), BEAMS)
    elevation = np.radians(-25.0 + ring)
    wall_m = 8.0 / np.maximum(np.abs(np.sin(azimuth)), 0.1) * RNG.uniform(0.98, 1.02, len(azimuth))
    range_m = np.minimum(wall_m, 1.8 / np.maximum(-np.sin(elevation), 0.02))
    flat = range_m * np.cos(elevation)
    xyz = [flat * np.cos(azimuth), flat * np.sin(azimuth), range_m * np.sin(elevation)]
    return np.column_stack([*xyz, RNG.beta(2, 5, len(ring)), ring, (math.pi - azimuth) / (2 * math.pi) * TURN_S])


TURN = turn()
X, Y, Z, INTENSITY, RING, TIME = TURN.T
ZERO, ONE = np.zeros(len(X)), np.ones(len(X))
LAYOUTS = {
    "x, y, z": [],
    "x, y, z, intensity": [INTENSITY],
    "x, y, z, intensity, ring": [np.round(255 * INTENSITY), RING],
    "x, y, z, intensity, time": [3000 * INTENSITY, TIME],
    "x, y, z, intensity, ring, time": [INTENSITY, RING, TIME],
    "x, y, z, intensity, time, ring": [INTENSITY, 1e9 * TIME, RING],
    "x, y, z, intensity, ring, time, _": [INTENSITY, RING, TIME, np.hypot(X, Y)],
    "x, y, z, _, intensity, ring, _, _": [ONE, INTENSITY, RING, ZERO, ZERO],
    "x, y, z, intensity, _, _": [INTENSITY, RNG.exponential(0.1, len(X)), -ONE],
    "x, y, z, ring": [RING],
    "x, y, z, time": [TIME],
    "x, y, z, _, _, _": list(RNG.uniform(-1, 1, (3, len(X)))),
}


def found(path, names=()):
    summary = InputSummary("a")
    return find_layout([path] if not isinstance(path, list) else path, names, summary), summary


@pytest.mark.parametrize("order", ["fired", "interlaced", "by ring", "shuffled"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("names", LAYOUTS)
def test_columns_are_told_by_the_numbers(tmp_path, names, kind, order):
    table = np.column_stack([X, Y, Z, *LAYOUTS[names]])
    if order == "interlaced":
        table = table.reshape(-1, BEAMS, table.shape[1])[:, np.arange(BEAMS).reshape(2, 16).T.ravel()]
    elif order == "by ring":
        table = table.reshape(-1, BEAMS, table.shape[1]).swapaxes(0, 1)
    elif order == "shuffled":
        table = RNG.permutation(table)
    table = table.reshape(-1, table.shape[-1]).astype(kind)
    table.tofile(tmp_path / "a.bin")
    layout, summary = found(tmp_path / "a.bin")
    assert layout_in_words(layout) == f"{kind} {names}"
    assert bool(summary.notes) == (layout != KITTI)
    cloud = read_bare(tmp_path / "a.bin", layout)
    np.testing.assert_array_equal(cloud.xyz, table[:, :3].astype(np.float32))
    if "intensity" in names:
        np.testing.assert_array_equal(cloud.intensity, table[:, names.split(", ").index("intensity")])
    assert (cloud.time_s is not None) == ("time" in names)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (np.column_stack([TIME, X, Y, Z, INTENSITY]), "do not begin with x, y, z"),
        (np.column_stack([RING, X, Y, Z]), "do not begin with x, y, z"),
        (np.column_stack([INTENSITY, X, Y, Z]), "may be a coordinate, too"),
        (np.column_stack([X, Y, Z, *RNG.integers(0, 255, (3, len(X)))]), "4, 5, 6 of 6 may each be the intensity"),
        (np.column_stack([X, Y, Z, INTENSITY]).T, "nothing tells the rows"),
        (RNG.uniform(-50, 50, (4000, 4)), "nothing tells the rows"),
        (1000 * np.column_stack([X, Y, Z, INTENSITY]), "do not begin with x, y, z"),
    ],
)
def test_what_is_in_doubt_is_refused(tmp_path, table, told):
    table.astype("<f4").tofile(tmp_path / "a.bin")
    with pytest.raises(DataError, match=told) as raised:
        found(tmp_path / "a.bin")
    assert "--columns x,y,z,intensity" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_noise_is_refused(tmp_path):
    RNG.integers(0, 2**32, 8000, dtype=np.uint32).tofile(tmp_path / "a.bin")
    with pytest.raises(DataError, match="neither its float32 nor its float64"):
        found(tmp_path / "a.bin")


def test_names_of_the_user(tmp_path):
    path = tmp_path / "a.bin"
    np.column_stack([INTENSITY, X, Y, Z]).astype("<f8").tofile(path)
    layout, _ = found(path, ("intensity", "x", "y", "z"))
    assert layout_in_words(layout) == "float64 intensity, x, y, z"
    np.testing.assert_array_equal(read_bare(path, layout).xyz, np.column_stack([X, Y, Z]).astype(np.float32))
    records = np.zeros(50, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("i", "u1"), ("ring", "<u2"), ("t", "<f8")])
    records["x"], records["i"], records["ring"], records["t"] = 5, np.arange(50), 3, 0.001 * np.arange(50)
    records.tofile(path)
    layout, _ = found(path, ("x", "y", "z", "intensity:u1", "ring:u2", "time:f8"))
    cloud = read_bare(path, layout)
    assert (cloud.intensity.tolist(), cloud.ring.tolist()) == (list(range(50)), [3] * 50)
    np.testing.assert_allclose(cloud.time_s, records["t"])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("x", "y", "intensity"), "expected x, y, z and other columns once each"),
        (("x", "y", "z", "x"), "once each"),
        (("x", "y", "z:f3"), "unknown type"),
        (("x", "y", "z", "intensity", "ring", "_", "_"), "does not hold the columns that were named"),
        (("z", "x", "y", "time", "intensity", "_"), "does not hold the columns"),
    ],
)
def test_names_that_cannot_be(tmp_path, names, told):
    np.column_stack([X, Y, Z, 1e9 * TIME])[:1201].astype("<f4").tofile(tmp_path / "a.bin")
    with pytest.raises(DataError, match=told):
        found(tmp_path / "a.bin", names)


def test_one_odd_file_does_not_decide(tmp_path):
    files = [tmp_path / f"{number}.bin" for number in range(3)]
    for file in files:
        np.column_stack([X, Y, Z, INTENSITY, RING]).astype("<f4").tofile(file)
    files[1].write_bytes(bytes(range(256)) * 100)
    assert layout_in_words(found(files)[0]) == "float32 x, y, z, intensity, ring"
    for file in files[1:]:
        np.column_stack([X, Y, Z, INTENSITY]).astype("<f4").tofile(file)
    assert found(files)[0] == KITTI
    np.column_stack([X, Y, Z]).astype("<f4").tofile(files[2])
    with pytest.raises(DataError, match="differ from file to file"):
        found(files)


def test_few_points_are_taken_for_kitti_and_told(tmp_path):
    TURN[:20, :4].astype("<f4").tofile(tmp_path / "a.bin")
    layout, summary = found(tmp_path / "a.bin")
    assert layout == KITTI
    assert "too few points" in summary.notes[0].text


@pytest.mark.parametrize("columns", [(), ("x", "y", "z", "intensity", "ring", "time")])
def test_a_drive_of_six_columns(tmp_path, columns):
    """The size divides by 16: read as four columns, x would be anything."""
    for number in range(3):
        turn().astype("<f4").tofile(tmp_path / f"{number}.bin")
    assert (tmp_path / "0.bin").stat().st_size % 16 == 0
    drive = open_drive(tmp_path, LogOptions(columns=columns))
    for number in range(3):
        table = np.fromfile(tmp_path / f"{number}.bin", "<f4").reshape(-1, 6)
        np.testing.assert_array_equal(drive[number].scan.xyz, table[:, :3])
        np.testing.assert_array_equal(drive[number].scan.intensity, table[:, 3])
