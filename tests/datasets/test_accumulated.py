"""Scans put together: they lie on each other, and a drive is read no more often than need be."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.drive import Accumulated
from bevfusion.datasets.simulated import simulated_drive
from bevfusion.evaluation.protocol import Protocol
from bevfusion.geometry.se2 import SE2
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import DataError, Frame, Scan
from bevfusion.summary import InputSummary

WORLD_M = np.random.default_rng(0).uniform(-30.0, 30.0, (700, 3))  # in odometry axes


@dataclass
class Walk:
    """Every frame sees a seventh of the world's points, from a vehicle that moves and turns."""

    odometry: str = "log"
    name: str = "walk"
    unknown: tuple[int, ...] = ()  # frames without odometry
    labelled: tuple[int, ...] = tuple(range(7))
    read: list[int] = field(default_factory=list)
    summary: InputSummary = field(default_factory=lambda: InputSummary("walk"))

    def __len__(self) -> int:
        return 7

    def __getitem__(self, position: int) -> Frame:
        if not 0 <= position < len(self):
            raise IndexError(position)
        self.read.append(position)
        pose = SE2(2.0 * position, 0.3 * position**2, 0.4 * position)
        xyz = WORLD_M[position::7].copy()
        xyz[:, :2] = pose.inverse().apply(xyz[:, :2])
        labels = np.full(100, position, np.uint32) if position in self.labelled else None
        scan = Scan(xyz.astype(np.float32), np.full(100, 0.1 * position, np.float32), labels)
        return Frame(position, position, scan, odom_from_ego=None if position in self.unknown else pose)

    def __iter__(self) -> Iterator[Frame]:
        return (self[position] for position in range(len(self)))


def seen_m(frame: Frame) -> np.ndarray:
    """The frame's points in odometry axes."""
    assert frame.odom_from_ego is not None
    xyz = frame.scan.xyz.astype(float)
    xyz[:, :2] = frame.odom_from_ego.apply(xyz[:, :2])
    return xyz


@pytest.mark.parametrize("scans", [1, 2, 5, 20])
def test_the_last_scans_lie_on_each_other(scans: int) -> None:
    for position, frame in enumerate(Accumulated(Walk(), scans)):
        which = range(max(0, position - scans + 1), position + 1)
        np.testing.assert_allclose(seen_m(frame), np.concatenate([WORLD_M[k::7] for k in which]), atol=1e-4)
        assert frame.scan.labels is not None
        assert frame.scan.labels.tolist() == [k for k in which for _ in range(100)]
        np.testing.assert_allclose(frame.scan.intensity, np.repeat(0.1 * np.array(which), 100), atol=1e-6)
        assert frame.scan.xyz.dtype == np.float32
        single = Walk()[position]
        np.testing.assert_array_equal(frame.scan.xyz[-100:], single.scan.xyz, "the latest is as it was")
        assert replace(frame, scan=single.scan) == single


def test_each_scan_is_read_once_on_the_way() -> None:
    walk = Walk()
    list(Accumulated(walk, 4))
    assert walk.read == list(range(7))


def test_any_frame_can_be_asked_for() -> None:
    drive, in_order = Accumulated(Walk(), 3), list(Accumulated(Walk(), 3))
    for position in (6, 0, 5, 5, 2):
        np.testing.assert_array_equal(drive[position].scan.xyz, in_order[position].scan.xyz)
    with pytest.raises(IndexError):
        drive[7]


def test_where_odometry_is_missing_scans_stay_apart() -> None:
    frames = list(Accumulated(Walk(unknown=(3,)), 3))
    assert [len(frame.scan) for frame in frames] == [100, 200, 300, 100, 200, 200, 300]
    np.testing.assert_allclose(seen_m(frames[4]), np.concatenate([WORLD_M[2::7], WORLD_M[4::7]]), atol=1e-4)


def test_labels_only_where_every_scan_has_them() -> None:
    has = [frame.scan.labels is not None for frame in Accumulated(Walk(labelled=(0, 1, 2, 4, 5, 6)), 2)]
    assert has == [True, True, True, False, False, True, True]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="walk: 5 scans are put together by odometry, and the drive has none"):
        Accumulated(Walk(odometry="none"), 5)
    assert len(Accumulated(Walk(odometry="none"), 1)[3].scan) == 100
    with pytest.raises(DataError, match="at least one scan"):
        Accumulated(Walk(), 0)
    with pytest.raises(ValueError, match="twice"):
        Protocol(mode="filter", scans=5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a drive without odometry, made from its true poses; a sequence refuses."""
    simulated_drive("town:7", DriveOptions(sensor="vlp16", frames=4, columns=512), tmp_path)
    folder = next(path for path in tmp_path.glob("town_7_*") if path.is_dir())
    words = [
        "default",
        str(folder),
        "--map",
        str(tmp_path / "town_7.osm.gz"),
        "--classical",
        "0",
        "--scans",
        "3",
        "--odometry",
        "truth",
    ]
    assert main("evaluate", [*words, "--output", str(tmp_path / "out")]) == 0
    assert "3 scans in one" in " ".join(capsys.readouterr().out.split())
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (metrics["protocol"]["scans"], metrics["protocol"]["odometry"]) == (3, "truth")
    assert metrics["frames"] == 4
    assert math.isfinite(metrics["position_m"]["median"])
    assert "scans in one cloud" in (tmp_path / "out/report.html").read_text()
    assert main("evaluate", [*words, "--mode", "filter", "--output", str(tmp_path / "no")]) == 2
    assert "count it twice" in " ".join(capsys.readouterr().err.split())
