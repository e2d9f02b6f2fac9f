"""PointCloud2 of every layout, and with every kind of lie."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.datasets.cloud import seconds_after
from bevfusion.datasets.pointcloud2 import TYPES, CloudStream, decode_pointcloud2
from bevfusion.structures import DataError
from tests.datasets.bag_writing import ORIGIN_NS, plain_cloud

XYZ = (("x", 0, 7), ("y", 4, 7), ("z", 8, 7))
VELODYNE = (*XYZ, ("intensity", 12, 7), ("ring", 16, 4), ("time", 18, 7))
OUSTER = (
    *XYZ,
    ("intensity", 16, 7),
    ("t", 20, 6),
    ("reflectivity", 24, 4),
    ("ring", 26, 4),
    ("ambient", 28, 4),
    ("range", 32, 6),
)
HESAI = (("x", 0, 8), ("y", 8, 8), ("z", 16, 8), ("intensity", 24, 2), ("timestamp", 25, 8), ("ring", 33, 4))


def filled(fields, step, count, bigendian=False, **columns):
    dtype = np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [(">" if bigendian else "<") + TYPES[kind] for _, _, kind in fields],
            "offsets": [offset for _, offset, _ in fields],
            "itemsize": step,
        }
    )
    records = np.zeros(count, dtype)
    for name, values in columns.items():
        records[name] = values
    return records.tobytes()


def test_velodyne():
    data = filled(
        VELODYNE, 22, 3, x=[1, 2, np.nan], y=4, z=-1, intensity=[0, 51, 255], ring=[0, 1, 31], time=[-0.1, -0.05, 0]
    )
    cloud = decode_pointcloud2(plain_cloud(VELODYNE, data, 3, step=22))
    np.testing.assert_array_equal(cloud.xyz, np.float32([[1, 4, -1], [2, 4, -1], [np.nan, 4, -1]]))
    assert cloud.intensity.tolist() == [0, 51, 255]
    assert cloud.ring.tolist() == [0, 1, 31]
    np.testing.assert_allclose(
        cloud.time_s[:2], [-0.1, -0.05], atol=1e-7
    )  # the time of what did not return says nothing


def test_ouster_rows_with_padding():
    rows = [
        filled(OUSTER, 48, 2, x=row, t=[row * 10_000_000, 5], reflectivity=[128, 255], intensity=900) for row in (1, 2)
    ]
    data = b"".join(row + bytes(16) for row in rows)
    cloud = decode_pointcloud2(plain_cloud(OUSTER, data, 2, height=2, step=48, row_step=112))
    assert cloud.xyz[:, 0].tolist() == [1, 1, 2, 2]
    assert cloud.intensity.tolist() == [128, 255, 128, 255]
    np.testing.assert_allclose(cloud.time_s, [0.01, 5e-9, 0.02, 5e-9], atol=1e-12)


@pytest.mark.parametrize("bigendian", [False, True])
def test_hesai_doubles_and_absolute_times(bigendian):
    stamp_s = ORIGIN_NS / 1e9
    data = filled(
        HESAI, 35, 2, bigendian, x=[1e-3, 2], y=0.1, intensity=[255, 0], timestamp=[stamp_s + 0.02, stamp_s + 0.1]
    )
    cloud = decode_pointcloud2(plain_cloud(HESAI, data, 2, step=35, bigendian=bigendian))
    assert cloud.xyz.dtype == np.float32
    np.testing.assert_allclose(cloud.xyz[:, 0], [1e-3, 2])
    assert cloud.intensity.tolist() == [255, 0]
    np.testing.assert_allclose(cloud.time_s, [0.02, 0.1], atol=1e-6)


@pytest.mark.parametrize("kind", [7, 8])
@pytest.mark.parametrize("gap", [0, 4])
def test_bare_coordinates(kind, gap):
    size = 4 if kind == 7 else 8
    fields = tuple((name, gap + size * at, kind) for at, name in enumerate("zyx"))
    data = filled(fields, gap + 3 * size, 4, x=1, y=2, z=3)
    cloud = decode_pointcloud2(plain_cloud(fields, data, 4, step=gap + 3 * size))
    np.testing.assert_array_equal(cloud.xyz, np.tile(np.float32([1, 2, 3]), (4, 1)))
    assert cloud.intensity.tolist() == [0] * 4
    assert (cloud.ring, cloud.time_s) == (None, None)


def test_an_empty_cloud_and_data_as_a_list():
    assert len(decode_pointcloud2(plain_cloud(XYZ, b"", 0, step=12))) == 0
    assert len(decode_pointcloud2(plain_cloud(XYZ, memoryview(bytes(12)), 1, step=12))) == 1


def test_rospy_names_its_stamps_otherwise():
    message = plain_cloud(XYZ, bytes(12), 1, step=12)
    del message.header.stamp.sec, message.header.stamp.nanosec
    message.header.stamp.secs, message.header.stamp.nsecs = 5, 6
    assert len(decode_pointcloud2(message)) == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (plain_cloud(XYZ, bytes(24), 3, step=12), "declares 3 x 1 points of 12 bytes, 36 in all, but holds 24"),
        (plain_cloud(XYZ, bytes(12), 2**31, height=2**31, step=12), "at most"),
        (plain_cloud(XYZ, bytes(12), 1, step=0), "in 0 bytes"),
        (plain_cloud(XYZ, bytes(12), 1, step=8), "reaches past the 8 bytes"),
        (plain_cloud(XYZ[:2], bytes(12), 1, step=12), "no field z; its fields are x, y"),
        (plain_cloud((), bytes(12), 1, step=12), "no field x, y, z; its fields are none"),
        (plain_cloud((*XYZ[:2], ("z", 8, 9)), bytes(12), 1, step=12), "unknown type 9"),
        (plain_cloud((*XYZ[:2], ("z", 8, 5)), bytes(12), 1, step=12), "z is int32"),
        (plain_cloud(XYZ * 40, bytes(12), 1, step=12), "120 fields"),
        (plain_cloud(XYZ, bytes(36), 1, height=2, step=12, row_step=30), "2 rows of 30 bytes"),
    ],
)
def test_lies_are_told_in_one_line(message, told):
    with pytest.raises(DataError, match=told):
        decode_pointcloud2(message)


@pytest.mark.fuzz
@given(
    width=st.integers(0, 2**32 - 1),
    height=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    row_step=st.integers(0, 2**32 - 1),
    fields=st.lists(st.tuples(st.sampled_from("xyzit"), st.integers(0, 2**32 - 1), st.integers(0, 255)), max_size=6),
    small=st.booleans(),
    data=st.binary(max_size=200),
    bigendian=st.booleans(),
)
def test_any_message_decodes_or_is_refused(width, height, step, row_step, fields, small, data, bigendian):
    if small:
        width, height, step, row_step = width % 5, height % 5, step % 40, row_step % 60
        fields = [(name, offset % 20, kind % 9) for name, offset, kind in fields]
    message = plain_cloud(fields, data, width, height, step, row_step, bigendian)
    try:
        cloud = decode_pointcloud2(message)
    except DataError:
        return
    assert len(cloud) * step <= len(data)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (np.float32([0, 0.05, 0.1]), [0, 0.05, 0.1]),
        (np.float32([-0.1, -0.05, 0]), [-0.1, -0.05, 0]),
        (np.array([0, 50_000_000, 100_000_000], "u4"), [0, 0.05, 0.1]),  # ns
        (np.array([0, 50_000, 100_000], "u4"), [0, 0.05, 0.1]),  # us
        (np.float32([0, 50, 100]), [0, 0.05, 0.1]),  # ms
        (np.array([ORIGIN_NS, ORIGIN_NS + 10**8], "u8"), [0, 0.1]),
        (ORIGIN_NS / 1e9 + np.array([0.0, 0.1]), [0, 0.1]),
        (np.array([77_000_000_000, 77_100_000_000], "u8"), [0, 0.1]),  # since the sensor was switched on
    ],
)
def test_times_of_every_unit(time, expected):
    np.testing.assert_allclose(seconds_after(time, ORIGIN_NS), expected, atol=1e-6)


@pytest.mark.parametrize("time", [np.zeros(3), np.full(3, np.nan), np.array([0, 1e12]), np.array([3, 3], "u4")])
def test_times_that_tell_nothing(time):
    assert seconds_after(time, ORIGIN_NS) is None


def test_the_data_are_not_copied_before_they_are_checked():
    """A message that lies about 48 GB is refused at once."""
    message = plain_cloud(XYZ, struct.pack("<3f", 1, 2, 3), 20_000_000, step=2400)
    with pytest.raises(DataError, match="48000000000 in all"):
        decode_pointcloud2(message)


# as a node hears clouds: what a whole log would be asked for is known of those before


def piece(number, intensity=lambda r: r, spoil=False):
    """A piece of a turn of half a millisecond, in ns, and intensities of any scale."""
    count = 300
    stamp_ns = ORIGIN_NS + 552_000 * number
    time = np.round(np.linspace(0, 550_000, count)).astype("u4")
    strength = np.random.default_rng(number).beta(4.0, 8.0, count)
    if spoil:
        time[7] = 4_000_000_000
    fields = (*XYZ, ("intensity", 12, 7), ("t", 16, 6))
    data = filled(fields, 20, count, x=3.0, y=number + 1.0, z=0.5, intensity=intensity(strength), t=time)
    return plain_cloud(fields, data, count, step=20, stamp_ns=stamp_ns), strength


@pytest.mark.parametrize("spoil", [False, True])
def test_a_stream_knows_the_unit_of_times_by_the_pace_of_its_clouds(spoil):
    stream = CloudStream()
    for number in range(6):
        cloud = stream.decode(piece(number, spoil=spoil)[0])
    expected = np.round(np.linspace(0, 550_000, 300)) / 1e9
    known = np.isfinite(cloud.time_s)
    assert (~known).sum() == spoil
    np.testing.assert_allclose(cloud.time_s[known], expected[known], atol=1e-9)


def test_a_stream_scales_intensities_by_the_clouds_so_far():
    plain, signal = CloudStream(), CloudStream()
    for number in range(30):
        message, strength = piece(number)
        np.testing.assert_array_equal(plain.decode(message).intensity, strength.astype(np.float32))
        found = signal.decode(piece(number, lambda r: 3000.0 * r)[0]).intensity
    assert np.quantile(found, 0.5) == pytest.approx(0.32, abs=0.05)
    assert (np.diff(found[np.argsort(strength)]) >= 0).all()


def named(name, values):
    fields = (*XYZ, (name, 12, 7))
    data = filled(fields, 16, len(values), x=1 + np.arange(len(values)), **{name: values})
    return decode_pointcloud2(plain_cloud(fields, data, len(values), step=16))


@pytest.mark.parametrize("name", ["Intensity", "REFLECTIVITY", "remission", "scalarIntensity", "amplitude"])
def test_names_in_capitals_and_of_other_drivers(name):
    np.testing.assert_array_equal(named(name, np.arange(50)).intensity, np.arange(50))


@pytest.mark.parametrize("name", ["Timestamp", "time_offset", "timeOffset", "ts", "Time_Stamp"])
def test_names_of_times(name):
    np.testing.assert_allclose(named(name, np.linspace(0, 0.1, 50)).time_s, np.linspace(0, 0.1, 50), atol=1e-6)


def test_times_that_can_be_none_are_there_and_not_known():
    times_s = named("time", np.zeros(50)).time_s
    assert times_s is not None
    assert np.isnan(times_s).all()
