"""A drive that cannot be what it says is told so, with the number; a sound one is not."""

import math

import numpy as np
import pytest

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.logged import LoggedDrive, Tracks
from bevfusion.datasets.plausibility import check_stamps
from bevfusion.datasets.tracks import GeoTrack, PoseTrack
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.summary import InputSummary

S = 10**9
STAMPS_NS = 1_700_000_000 * S + np.arange(100) * S // 10
RNG = np.random.default_rng(2)


def street(count=4000):
    """Ground 1.7 m below the sensor, and walls on both sides."""
    ground = np.column_stack([RNG.uniform(-25, 25, (count, 2)), RNG.normal(-1.7, 0.02, count)])
    walls = np.column_stack(
        [RNG.uniform(-25, 25, count), RNG.choice([-8.0, 8.0], count), RNG.uniform(-1.7, 4.0, count)]
    )
    return np.concatenate([ground, walls]).astype(np.float32)


class Clouds:
    def __init__(self, change=lambda xyz: xyz):
        self.xyz = np.ascontiguousarray(change(street()), dtype=np.float32)

    def __len__(self):
        return len(STAMPS_NS)

    def read(self, position):
        return int(STAMPS_NS[position]), Cloud(self.xyz, np.linspace(0, 1, len(self.xyz), dtype=np.float32))


def track(speed_m_s=10.0, yaw_rad=0.0, stamps_ns=STAMPS_NS, jump=None):
    seconds = (stamps_ns - STAMPS_NS[0]) / S
    xy_m = np.stack([speed_m_s * seconds, 0.0 * seconds], axis=1)
    if jump is not None:
        xy_m[jump:, 1] += 3.0 * (np.arange(len(xy_m) - jump) // 10 % 2)
    return PoseTrack(stamps_ns, xy_m, np.full(len(stamps_ns), yaw_rad))


def geo(poses):
    return GeoTrack(LocalFrame(49.0, 8.4), poses)


def warnings(tracks=None, change=lambda xyz: xyz, stamps_ns=STAMPS_NS):
    drive = LoggedDrive("a", Clouds(change), tracks or Tracks(), stamps_ns=stamps_ns)
    return [note.line() for note in drive.summary.of_kind("warning", "lost")]


def test_a_sound_drive_raises_no_doubt():
    assert warnings(Tracks(geo(track()), geo(track()), track())) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda xyz: xyz * [1, -1, -1], "m above the sensor (median of 12 scans): upside down?"),
        (lambda xyz: xyz[:, [2, 0, 1]], "is x the axis that points up? z should be"),
        (lambda xyz: xyz[:, [0, 2, 1]], "is y the axis that points up? z should be"),
        (lambda xyz: np.add(xyz, [400.0, 90.0, 0.0]), "m away (median of 12 scans): not about their sensor"),
        (lambda xyz: xyz[:300], "300 points a scan"),
    ],
)
def test_scans_of_other_axes_or_frames(change, told):
    (said,) = warnings(change=change)
    assert told in said


@pytest.mark.parametrize(
    ("tracks", "told"),
    [
        (Tracks(odometry=track(yaw_rad=math.pi)), "odometry: moves against its heading in 100 %"),
        (Tracks(odometry=track(yaw_rad=math.radians(40))), "odometry: moves 40 degrees off its heading"),
        (Tracks(geo(track(speed_m_s=150.0))), "truth: 99 of 99 steps are faster than 70 m/s, up to 15 m"),
        (Tracks(geo(track()), odometry=track(speed_m_s=8.0)), "truth and odometry disagree by 2.00 m"),
        (Tracks(geo(track(jump=50)), odometry=track()), "truth jumps against odometry by more than 2 m in"),
        (Tracks(geo(track(stamps_ns=STAMPS_NS[:30]))), "truth: 31 % of the frames have one"),
        (Tracks(geo(track(stamps_ns=STAMPS_NS + 900 * S))), "truth: none at any scan: they span 1700000900.000"),
    ],
)
def test_tracks_that_do_not_fit(tracks, told):
    assert any(told in said for said in warnings(tracks)), warnings(tracks)


def test_scans_that_move_with_the_vehicle_lie_in_a_world():
    class Registered(Clouds):
        def read(self, position):
            stamp_ns, cloud = super().read(position)
            return stamp_ns, cloud.turned(np.eye(3), np.array([0.1 * 30.0 * position, 0.0, 0.0]))

    drive = LoggedDrive("a", Registered(), Tracks(odometry=track(speed_m_s=30.0)), stamps_ns=STAMPS_NS)
    assert any("their middle moves 297 m while the vehicle moves 297 m" in n.text for n in drive.summary.notes)


def test_odometry_that_stands_while_gnss_moves():
    long_ns = STAMPS_NS[0] + np.arange(300) * S // 10
    tracks = Tracks(None, geo(track(stamps_ns=long_ns)), track(speed_m_s=0.0, stamps_ns=long_ns))
    assert "odometry: moves 0.0 m in 10 s where GNSS moves 100.0 m (median)" in warnings(tracks, stamps_ns=STAMPS_NS)


def test_shares_of_frames_are_told():
    drive = LoggedDrive("a", Clouds(), Tracks(geo(track(stamps_ns=STAMPS_NS[:50])), None, track()), stamps_ns=STAMPS_NS)
    shares = {note.subject: (note.count, note.total) for note in drive.summary.of_kind("used") if note.total}
    assert shares == {"truth": (51, 100), "GNSS": (0, 100), "odometry": (100, 100)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ns: np.where(np.arange(100) < 50, ns, ns + 10**8 * S), "1 steps between scans are far longer"),
        (lambda ns: np.delete(ns, np.arange(10, 90, 10)), "8 of 91 steps between scans are longer than one and a half"),
        (lambda ns: np.repeat(ns[:50], 2), "half of 100 scans have the stamp of the scan before"),
        (lambda ns: np.concatenate([ns[:50], ns[50:] - 10 * S]), "1 scans are stamped earlier"),
    ],
)
def test_stamps(change, told):
    summary = InputSummary("a")
    check_stamps(np.asarray(change(STAMPS_NS)), summary)
    assert any(told in note.text for note in summary.of_kind("warning")), summary.notes
    assert not any(True for _ in sound().of_kind("warning"))


def sound():
    summary = InputSummary("b")
    check_stamps(STAMPS_NS, summary)
    assert [note.text for note in summary.notes] == ["100 scans in 9.9 s, 10 Hz"]
    return summary


@pytest.mark.parametrize(
    ("times_s", "told"),
    [
        (np.linspace(0, 0.1, 8000), None),
        (np.linspace(0, 0.001, 8000), "points of a scan are 1 ms apart, scans 100 ms: times in another unit?"),
        (np.full(8000, np.nan), "none that can be those of a turn"),
        (None, None),
    ],
)
def test_times_of_points(times_s, told):
    class Timed(Clouds):
        def read(self, position):
            stamp_ns, cloud = super().read(position)
            return stamp_ns, Cloud(cloud.xyz, cloud.intensity, time_s=times_s)

    drive = LoggedDrive("a", Timed(), Tracks(odometry=track()), stamps_ns=STAMPS_NS)
    assert [note.text for note in drive.summary.of_kind("warning") if told is None or told not in note.text] == []
    assert told is None or any(told in note.text for note in drive.summary.of_kind("warning"))
    if times_s is None:
        assert any(note.text == "not: points carry no times" for note in drive.summary.notes)
