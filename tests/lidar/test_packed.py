"""Packed scans: what comes back, how small they are, and what is refused."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.open import open_drive, read_scan
from bevfusion.lidar.packed import FARTHEST_M, MAGIC, SUFFIX, pack_scan, unpack_scan
from bevfusion.simulate.drive import DriveOptions, simulate_drive
from bevfusion.structures import DataError, Scan
from tests.simulate.scenes import ring_map


def random_scan(count: int, labelled: bool = True) -> Scan:
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-100.0, 100.0, (count, 3)).astype(np.float32)
    strength = rng.integers(0, 101, count).astype(np.float32) / np.float32(100.0)
    labels = rng.choice(np.array([0, 10, 40, 252, 259], np.uint32), count) if labelled else None
    return Scan(xyz, strength, labels)


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_packed_comes_back(labelled: bool) -> None:
    scan = random_scan(5000, labelled)
    again = unpack_scan(pack_scan(scan), "here")
    range_m = np.linalg.norm(scan.xyz, axis=1)
    # half a centimetre along the ray, half an angular step to either side of it
    bound_m = np.hypot(0.005, range_m * 0.5 * math.sqrt(2.0) * 2.0 * math.pi / 65536.0)
    assert (np.linalg.norm(again.xyz - scan.xyz, axis=1) <= bound_m + 2e-5).all()
    np.testing.assert_allclose(again.intensity, scan.intensity, atol=1e-6)  # hundredths stay what they are
    if scan.labels is None:
        assert again.labels is None
    else:
        np.testing.assert_array_equal(again.labels, scan.labels)


def test_packing_twice_changes_nothing_more() -> None:
    once = unpack_scan(pack_scan(random_scan(5000)), "here")
    twice = unpack_scan(pack_scan(once), "here")
    np.testing.assert_allclose(twice.xyz, once.xyz, atol=1e-5)
    np.testing.assert_array_equal(twice.intensity, once.intensity)


@pytest.mark.parametrize(
    "point", [(0, 0, 0), (0, 0, 5), (0, 0, -5), (-7, 0, 0), (-7, -1e-6, 0), (0, 3, 0), (650, 50, 0), (400, -400, 300)]
)
def test_odd_places(point: tuple[float, float, float]) -> None:
    scan = Scan(np.array([point], np.float32), np.array([2.0], np.float32))
    again = unpack_scan(pack_scan(scan), "here")
    np.testing.assert_allclose(again.xyz, scan.xyz, atol=0.06)
    assert again.intensity[0] == 1.0


def test_no_point_is_a_scan_as_well() -> None:
    scan = unpack_scan(pack_scan(Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))), "here")
    assert len(scan) == 0


def test_too_far_is_refused() -> None:
    with pytest.raises(DataError, match="656 m away cannot be packed"):
        pack_scan(Scan(np.array([[FARTHEST_M + 1.0, 0, 0]], np.float32), np.zeros(1, np.float32)))


def test_damage_is_one_line() -> None:
    whole = pack_scan(random_scan(100))
    bodies = (
        b"",
        b"PK\x03\x04 something else",
        MAGIC,
        whole[:-20],
        whole[:40] + b"\xff" + whole[41:],
        MAGIC + zlib.compress(b"\xff\xff\xff\xff\x01" + bytes(100)),  # claims four thousand million points
        MAGIC + zlib.compress(b"\x02\x00\x00\x00\x00" + bytes(17)),  # a byte too many
        MAGIC + zlib.compress(b"\x02\x00\x00\x00\x07" + bytes(16)),
    )
    for body in bodies:
        with pytest.raises(DataError, match=r"^over there: (not a|broken) packed scan") as error:
            unpack_scan(body, "over there")
        assert "\n" not in str(error.value)


def test_a_simulated_drive_is_the_same_in_a_sixth_of_the_space(tmp_path: Path) -> None:
    options = DriveOptions(sensor="hdl32e", frames=2, columns=512)
    plain = open_drive(simulate_drive(ring_map(), tmp_path / "plain", options))
    folder = simulate_drive(ring_map(), tmp_path / "packed", options, packed=True)
    packed = open_drive(folder)
    assert isinstance(packed, KittiRawDrive)
    for ours, theirs in zip(packed, plain, strict=True):
        assert (ours.stamp_ns, ours.truth) == (theirs.stamp_ns, theirs.truth)
        np.testing.assert_allclose(ours.scan.xyz, theirs.scan.xyz, atol=0.01)
        np.testing.assert_allclose(ours.scan.intensity, theirs.scan.intensity, atol=1e-6)
        assert ours.scan.labels is not None
        assert theirs.scan.labels is not None
        np.testing.assert_array_equal(ours.scan.labels, theirs.scan.labels)
    files = sorted((folder / "velodyne_points" / "data").iterdir())
    assert [file.suffix for file in files] == [SUFFIX, SUFFIX]
    assert not (folder / "labels").exists()
    assert 6 * sum(file.stat().st_size for file in files) < sum(20 * len(frame.scan) for frame in plain)
    np.testing.assert_array_equal(read_scan(files[0]).xyz, packed[0].scan.xyz)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"empty{SUFFIX}"
    path.write_bytes(pack_scan(Scan(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))))
    with pytest.raises(DataError, match="empty scan file"):
        read_scan(path)
