"""Scan files of every type, the real ones and broken ones."""

from pathlib import Path

import laspy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bevfusion.datasets.open import read_scan
from bevfusion.datasets.ply import read_ply
from bevfusion.datasets.scan_files import CLOUD_READERS, ScanReader, SingleScans, read_cloud, scan_suffix
from bevfusion.lidar.packed import pack_scan
from bevfusion.simulate import sensor
from bevfusion.structures import DataError, Scan
from tests.datasets.scan_writing import records, write_pcd, write_ply

RNG = np.random.default_rng(3)
XYZI = np.column_stack([RNG.uniform(-50, 50, (300, 3)), RNG.uniform(0, 1, 300)]).astype(np.float32)
TABLE = records(XYZI)


def write_las(path):
    las = laspy.create(point_format=1, file_version="1.2")
    las.header.scales = [1e-4] * 3
    las.x, las.y, las.z = XYZI[:, :3].astype(np.float64).T
    las.intensity = (XYZI[:, 3] * 65535).astype(np.uint16)
    las.gps_time = np.linspace(1e5, 1e5 + 0.1, len(XYZI))
    las.write(path)
    return path


def write_npy(path):
    np.save(path, XYZI)
    return path


def write_bin(path):
    XYZI.tofile(path)
    return path


def write_nuscenes(path):
    np.column_stack([-XYZI[:, 1], XYZI[:, 0], XYZI[:, 2], XYZI[:, 3] * 255, np.arange(300) % 32]).astype("<f4").tofile(
        path
    )
    return path


def write_packed(path):
    path.write_bytes(pack_scan(Scan(XYZI[:, :3], XYZI[:, 3])))
    return path


WRITERS = {
    "ascii.pcd": lambda path: write_pcd(path, TABLE, "ascii"),
    "binary.pcd": lambda path: write_pcd(path, TABLE),
    "compressed.pcd": lambda path: write_pcd(path, TABLE, "binary_compressed"),
    "ascii.ply": lambda path: write_ply(path, TABLE, "ascii"),
    "little.ply": lambda path: write_ply(path, TABLE),
    "big.ply": lambda path: write_ply(path, TABLE, "binary_big_endian"),
    "a.npy": write_npy,
    "a.bin": write_bin,
    "a.pcd.bin": write_nuscenes,
    "a.scan": write_packed,
    "a.las": write_las,
    "a.laz": write_las,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_type_gives_the_same_points(tmp_path, name):
    scan = read_cloud(WRITERS[name](tmp_path / name))
    place_m, strength = {".las": (1e-4, 2e-5), ".laz": (1e-4, 2e-5), ".scan": (0.01, 2.5e-3)}.get(
        Path(name).suffix, (0.0, 1e-6)
    )
    np.testing.assert_allclose(scan.xyz, XYZI[:, :3], atol=place_m)
    counts_to = 65535 if scan.intensity.dtype == np.uint16 else 255 if name == "a.pcd.bin" else 1
    np.testing.assert_allclose(scan.intensity / counts_to, XYZI[:, 3], atol=strength)
    assert scan.xyz.dtype == np.float32


@pytest.mark.parametrize("storage", ["ascii", "binary", "compressed"])
@pytest.mark.parametrize("suffix", [".pcd", ".ply"])
def test_files_of_open3d(tmp_path, suffix, storage):
    pytest.importorskip("libusb_package")
    open3d = sensor._open3d()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.round(XYZI[:, :3].astype(float), 1)))
    path = str(tmp_path / f"a{suffix}")
    open3d.io.write_point_cloud(path, cloud, write_ascii=storage == "ascii", compressed=storage == "compressed")
    np.testing.assert_allclose(read_cloud(tmp_path / f"a{suffix}").xyz, np.round(XYZI[:, :3], 1), atol=1e-5)


def test_compression_with_copies_is_undone(tmp_path):
    """Zeros compress to runs that overlap what they copy from."""
    table = records(np.tile(np.float32([1, 0, 0, 0]), (500, 1)))

    def packed(plain):
        assert plain[:4] * 500 == plain[:2000]
        first = bytes([3]) + plain[:4]  # four new bytes, then copies from four before
        left, out = 1996, first
        while left:
            length = min(left, 264)
            out += bytes([0xE0, length - 9, 3]) if length >= 9 else bytes([(length - 2) << 5, 3])
            left -= length
        out += bytes([0, 0])  # one zero, then copies of it
        left = 5999
        while left:
            length = min(left, 264)
            out += bytes([0xE0, length - 9, 0]) if length >= 9 else bytes([(length - 2) << 5, 0])
            left -= length
        return out

    cloud = read_cloud(write_pcd(tmp_path / "a.pcd", table, "binary_compressed", packed))
    np.testing.assert_array_equal(cloud.xyz, np.tile(np.float32([1, 0, 0]), (500, 1)))


def test_fields_of_many_types(tmp_path):
    table = np.zeros(4, [("intensity", "u1"), ("t", "<u4"), ("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("ring", "<u2")])
    table["x"], table["intensity"], table["ring"], table["t"] = [1, 2, 3, 4], 51, 7, [0, 1000, 2000, 100_000_000]
    for path in (write_pcd(tmp_path / "a.pcd", table), write_ply(tmp_path / "a.ply", table, "ascii")):
        cloud = read_cloud(path)
        assert cloud.xyz[:, 0].tolist() == [1, 2, 3, 4]
        assert cloud.intensity.tolist() == [51] * 4
        assert cloud.ring is not None
        assert cloud.ring.tolist() == [7] * 4
        np.testing.assert_allclose(cloud.time_s, [0, 1e-6, 2e-6, 0.1])


def test_elements_before_the_vertices_are_skipped(tmp_path):
    path = write_ply(tmp_path / "a.ply", TABLE, before="element camera 2\nproperty float f\nproperty uchar g\n")
    raw = path.read_bytes()
    at = raw.index(b"end_header\n") + 11
    path.write_bytes(raw[:at] + bytes(10) + raw[at:])
    np.testing.assert_array_equal(read_cloud(path).xyz, XYZI[:, :3])


def test_arrays_with_names_and_without_intensity(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    np.save(tmp_path / "b.npy", XYZI[:, :3].astype(np.float64))
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.npy").intensity, XYZI[:, 3])
    np.testing.assert_array_equal(read_cloud(tmp_path / "b.npy").intensity, 0)


@pytest.mark.parametrize("shape", ["rows", "columns", "image", "image of columns", "record column", "xyz field"])
def test_arrays_whichever_way_they_are_written(tmp_path, shape):
    array = {
        "rows": XYZI,
        "columns": XYZI.T,
        "image": XYZI.reshape(15, 20, 4),
        "image of columns": np.moveaxis(XYZI.reshape(15, 20, 4), -1, 0),
        "record column": TABLE[:, None],
        "xyz field": np.array(list(zip(XYZI[:, :3], XYZI[:, 3], strict=True)), [("xyz", "<f4", 3), ("i", "<f4")]),
    }[shape]
    np.save(tmp_path / "a.npy", array)
    cloud = read_cloud(tmp_path / "a.npy")
    np.testing.assert_array_equal(cloud.xyz, XYZI[:, :3])
    np.testing.assert_array_equal(cloud.intensity, XYZI[:, 3])


def test_arrays_with_more_columns(tmp_path):
    ring = np.arange(300) % 32
    np.save(tmp_path / "a.npy", np.column_stack([XYZI, ring, np.linspace(0, 0.1, 300)]).T)
    cloud = read_cloud(tmp_path / "a.npy")
    np.testing.assert_array_equal(cloud.intensity, XYZI[:, 3])
    np.testing.assert_allclose(cloud.time_s, np.linspace(0, 0.1, 300), atol=1e-7)
    cloud = ScanReader([tmp_path / "a.npy"], ("x", "y", "z", "_", "_", "intensity")).read(tmp_path / "a.npy")
    np.testing.assert_allclose(cloud.intensity, np.linspace(0, 0.1, 300), atol=1e-7)
    with pytest.raises(DataError, match="6 columns, expected x, y, z"):
        ScanReader([tmp_path / "a.npy"], ("x", "y", "z")).read(tmp_path / "a.npy")


def test_scans_of_one_folder_are_scaled_alike(tmp_path):
    """Counts to 255, of which one scan has only the weak ones: by itself it would pass for reflectances."""
    weak = XYZI.copy()
    weak[:, 3] = np.round(XYZI[:, 3])
    strong = XYZI * np.float32([1, 1, 1, 255])
    paths = [tmp_path / "weak.bin", tmp_path / "strong.bin"]
    for path, points in zip(paths, (weak, strong), strict=True):
        points.tofile(path)
    both = SingleScans(paths)
    assert both.read(paths[0]).intensity.max() < 0.3
    assert SingleScans(paths[:1]).read(paths[0]).intensity.max() == 1.0
    assert both.read(paths[1]).intensity.max() > 0.6


def test_sweeps_of_another_layout_are_refused(tmp_path):
    path = tmp_path / "a.pcd.bin"
    XYZI.tofile(path)
    assert path.stat().st_size % 20 == 0
    with pytest.raises(DataError, match="rows of float32 x, y, z, intensity, expected nuScenes'"):
        read_cloud(path)


def test_types_that_name_their_columns_take_no_names(tmp_path):
    path = write_pcd(tmp_path / "a.pcd", TABLE)
    with pytest.raises(DataError, match=r"--columns is for \.bin, "):
        ScanReader([path], ("x", "y", "z"))


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("a.pcd", b"", "empty"),
        ("a.pcd", b"FIELDS x y z\n", "no FIELDS or no DATA"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1000000000\nDATA binary\n", "1000000000 points"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS -5\nDATA binary\n", "-5 points"),
        (
            "a.pcd",
            b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 5\nDATA binary\n12345678",
            "5 points of 12 bytes.*8 bytes",
        ),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 3\nTYPE F F F\nPOINTS 5\nDATA binary\n", "damaged"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 99999999\nPOINTS 5\nDATA binary\n", "damaged"),
        ("a.pcd", b"FIELDS x y\nSIZE 4 4\nTYPE F F\nPOINTS 1\nDATA binary\n12345678", "no field z"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA zipped\n", "DATA zipped"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA ascii\n1 2 3\n", "holds 6 bytes"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 two 3\n", "rows of 3 numbers"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\nnan nan nan\n", "none of its 1 points"),
        (
            "a.pcd",
            b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA binary_compressed\n\x04\0\0\0\x0c\0\0\0\xe0\1\1\1",
            "compressed data are damaged",
        ),
        ("a.ply", b"plywood", "does not begin"),
        ("a.ply", b"ply\nformat ascii 1.0\n", "no end"),
        ("a.ply", b"ply\nformat text 1.0\nelement vertex 1\nend_header\n", "format text"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex many\n", "'element vertex many'"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int i\nend_header\n", "lists"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "without vertices"),
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\n", "cut off"),
        ("a.npy", b"\x93NUMPY rest", "as an array"),
        ("a.npy", b"text", "does not begin"),
        ("a.pcd.bin", bytes(33), "multiple of 20"),
        ("a.las", b"LASF", "not a LAS"),
        ("a.laz", b"LASF" + bytes(400), "a.laz"),
        ("a.las", b"LASF" + bytes(96) + b"\xff" * 4 + bytes(200), "declares 4294967295 records"),
    ],
)
def test_faults_are_told_in_one_line(tmp_path, name, raw, told):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=told) as raised:
        read_scan(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_decoder_that_crashes_costs_its_file_alone(tmp_path, monkeypatch):
    path = write_las(tmp_path / "a.laz")
    decoder = tmp_path / "decoder.py"
    decoder.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("bevfusion.datasets.las_points.__file__", str(decoder))
    with pytest.raises(DataError, match=r"a.laz: its decoder crashed \(signal 11\)"):
        read_cloud(path)
    decoder.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("bevfusion.datasets.las.MAX_DECODING_S", 0.5)
    with pytest.raises(DataError, match="not decoded within"):
        read_cloud(path)


def test_the_chunks_of_laz_are_checked_before_they_are_decoded(tmp_path):
    raw = bytearray(write_las(tmp_path / "a.laz").read_bytes())
    points_at = int.from_bytes(raw[96:100], "little")
    table_at = int.from_bytes(raw[points_at : points_at + 8], "little")
    raw[table_at + 4 : table_at + 8] = (10**6).to_bytes(4, "little")
    (tmp_path / "b.laz").write_bytes(raw)
    with pytest.raises(DataError, match="declares 1000000 chunks of 300 points"):
        read_cloud(tmp_path / "b.laz")


def test_other_types_and_missing_files(tmp_path):
    (tmp_path / "scan.xyz").write_bytes(bytes(32))
    with pytest.raises(DataError, match=r"not read; read are: \.bin"):
        read_scan(tmp_path / "scan.xyz")
    with pytest.raises(DataError, match="no such scan"):
        read_scan(tmp_path / "absent.pcd")


@pytest.mark.fuzz
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_never_leave_a_traceback(tmp_path, name, data):
    path = tmp_path / name
    if not (tmp_path / "whole").exists():
        (tmp_path / "whole").write_bytes(WRITERS[name](path).read_bytes())
    raw = bytearray((tmp_path / "whole").read_bytes())
    if data.draw(st.booleans(), label="cut"):
        del raw[data.draw(st.integers(0, len(raw)), label="at") :]
    reach = data.draw(st.sampled_from([len(raw), min(len(raw), 300)]))  # headers matter most
    for _ in range(data.draw(st.integers(0, 8), label="flips") if reach else 0):
        raw[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        scan = read_scan(path)
    except DataError as error:
        one_line = "\n" not in str(error)
        assert one_line
        return
    assert np.isfinite(scan.xyz).all()
    assert len(scan) <= 300


def test_real_files(shared_data):
    formats = shared_data / "formats"
    drive = "kitti_raw/2011_09_26/2011_09_26_drive_0005_sync/velodyne_points/data/0000000000.bin"
    pcd, binary = read_scan(formats / "pcd/kitti_drive_0005_0000000000.pcd"), read_scan(shared_data / drive)
    assert abs(len(pcd) - len(binary)) < 3
    np.testing.assert_allclose(pcd.xyz[:1000], binary.xyz[:1000], atol=2e-3)
    np.testing.assert_allclose(pcd.intensity[:1000], binary.intensity[:1000], atol=1e-2)
    assert len(read_ply(formats / "ply/source.ply")) == 69792
    assert len(read_scan(formats / "ply/source.ply")) == 64685  # the rest are zeros, where nothing came back
    (sweep,) = (formats / "nuscenes").glob("*.pcd.bin")
    scan = read_scan(sweep)
    assert len(scan) > 30_000
    # what is near and above the ground is the car itself: longer than wide
    car = scan.xyz[(np.abs(scan.xyz[:, :2]).max(axis=1) < 3.5) & (scan.xyz[:, 2] > -1.2)]
    length_m, width_m = np.ptp(np.percentile(car[:, :2], [2, 98], axis=0), axis=0)
    assert length_m > 1.5 * width_m


def test_real_surveys_are_no_scans(shared_data):
    for path in sorted((shared_data / "formats/las").iterdir()):
        with pytest.raises(DataError, match="not a LiDAR scan about its sensor"):
            read_scan(path)


def test_every_reader_is_tested():
    assert {scan_suffix(path) for path in map(Path, WRITERS)} == set(CLOUD_READERS)
