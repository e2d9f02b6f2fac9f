"""Damaged drives through the whole command: one clear line and status 2, or what could be read; never a traceback."""

import json
import math
import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bevfusion.cli import main
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import Frame, Scan
from tests.datasets.bag_writing import LIDAR, Messages, write_ros1, write_ros2
from tests.datasets.drive_writing import FORMATS, NAME, as_messages

pytestmark = pytest.mark.fuzz

LONGEST_S = 30.0  # of one run; on a busy machine: usually it is a fraction of a second
MOST_GROWTH_BYTES = 1_000_000_000
CUTS = 20
METRES = LocalFrame(49.0, 8.4)


def frames() -> list[Frame]:
    """Two turns between two walls, a metre apart."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(2):
        along, up = rng.uniform(-30, 30, 400), rng.uniform(-1.5, 3, 400)
        walls = np.column_stack([along, np.where(rng.random(400) < 0.5, -8.0, 9.0), up])
        ground = np.column_stack([rng.uniform(-20, 20, (200, 2)), np.full(200, -1.7)])
        xyz = np.concatenate([walls, ground]).astype(np.float32)
        truth: GeoPose = METRES.geo_pose(SE2(float(number), 0.0, 0.0))
        scan = Scan(xyz, rng.random(len(xyz)).astype(np.float32))
        made.append(Frame(number, 1_700_000_000_000_000_000 + number * 100_000_000, scan, truth=truth))
    return made


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A road with a house on either side."""
    nodes, ways, number = [], [], 0
    shapes = [
        ([(-80, 0), (80, 0)], '<tag k="highway" v="residential"/>'),
        ([(-30, 9), (30, 9), (30, 20), (-30, 20), (-30, 9)], '<tag k="building" v="yes"/>'),
        ([(-30, -8), (30, -8), (30, -20), (-30, -20), (-30, -8)], '<tag k="building" v="yes"/>'),
    ]
    for corners, tag in shapes:
        refs = ""
        for x_m, y_m in corners:
            number += 1
            lat, lon = METRES.degrees_from_metres(float(x_m), float(y_m))
            nodes.append(f'<node id="{number}" lat="{lat:.9f}" lon="{lon:.9f}"/>')
            refs += f'<nd ref="{number}"/>'
        if corners[0] == corners[-1]:
            refs = refs.rsplit("<nd", 1)[0] + f'<nd ref="{number - len(corners) + 1}"/>'
        ways.append(f'<way id="{len(ways) + 1}">{refs}{tag}</way>')
    path = tmp_path_factory.mktemp("street") / "street.osm"
    path.write_text(f'<osm version="0.6">{"".join(nodes + ways)}</osm>')
    return path


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The drive in every format."""
    made = {}
    for kind, write in FORMATS.items():
        folder = tmp_path_factory.mktemp("original")
        made[kind] = write(folder, frames())
    return made


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert growth < MOST_GROWTH_BYTES, f"the memory of this process grew by {growth / 1e9:.1f} GB"


def survives(capsys: pytest.CaptureFixture[str], drive: Path, map_path: Path, output: Path, *options: str) -> int:
    """The exit status; fails unless the command did what it should with whatever the drive is."""
    capsys.readouterr()
    words = ["evaluate", "classical", str(drive), "--map", str(map_path), "--output", str(output)]
    words += ["--offset-m", "2", "--offset-deg", "4", *options]
    began = time.monotonic()
    status = main(None, words)
    assert time.monotonic() - began < LONGEST_S
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in error
    assert status in (0, 2), error
    if status == 2:
        assert len(lines) == 1, error
        assert len(lines[0]) > 20, "one line that says something"
        assert not output.exists()
    else:
        metrics = json.loads((output / "metrics.json").read_text())
        assert metrics["frames"] >= 1
        assert math.isfinite(metrics["position_m"]["median"])
        shutil.rmtree(output)
    return status


def copied(original: Path, folder: Path) -> Path:
    """A copy of a drive, to be spoilt."""
    target = folder / original.name
    if target.is_dir():
        shutil.rmtree(target)
    if original.is_dir():
        shutil.copytree(original, target)
    else:
        shutil.copyfile(original, target)
    return target


def files_of(drive: Path) -> list[Path]:
    return sorted(file for file in drive.rglob("*") if file.is_file()) if drive.is_dir() else [drive]


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_drives_are_read(capsys, originals, street, tmp_path, kind: str) -> None:
    assert survives(capsys, originals[kind], street, tmp_path / "out") == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_anywhere(capsys, originals, street, tmp_path, kind: str) -> None:
    rng = np.random.default_rng(11)
    statuses = []
    for _ in range(CUTS):
        drive = copied(originals[kind], tmp_path)
        files = files_of(drive)
        file = files[rng.integers(len(files))]
        os.truncate(file, int(rng.integers(file.stat().st_size)))
        statuses.append(survives(capsys, drive, street, tmp_path / "out"))
    assert 2 in statuses


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bytes(capsys, originals, street, tmp_path, kind: str) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(
        which=st.integers(0, 10**6),
        flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=40),
    )
    def run(which: int, flips: list[tuple[float, int]]) -> None:
        drive = copied(originals[kind], tmp_path)
        files = files_of(drive)
        file = files[which % len(files)]
        data = bytearray(file.read_bytes())
        for at, mask in flips:
            data[int(at * len(data))] ^= mask
        file.write_bytes(data)
        survives(capsys, drive, street, tmp_path / "out")

    run()


@pytest.mark.parametrize("ros1", [True, False], ids=["ROS 1", "ROS 2"])
@pytest.mark.parametrize(
    "lie",
    [
        {"width": 10**9},
        {"width": 2**32 - 1, "height": 2**32 - 1},
        {"point_step": 0},
        {"point_step": 2**31},
        {"row_step": 3},
        {"width": 10},
        {"data": np.zeros(7, np.uint8)},
        {"data": np.zeros(0, np.uint8)},
        {"fields": []},
    ],
    ids=str,
)
def test_clouds_whose_size_disagrees_with_their_data(capsys, street, tmp_path, ros1: bool, lie: dict) -> None:
    messages = Messages(ros1=ros1)
    written = as_messages(frames(), messages)
    for topic, _, message in written:
        if topic == LIDAR:
            for name, value in lie.items():
                object.__setattr__(message, name, value)
    path = write_ros1(tmp_path / f"{NAME}.bag", written) if ros1 else write_ros2(tmp_path / NAME, written)
    survives(capsys, path, street, tmp_path / "out")


def test_a_database_with_other_tables(capsys, street, tmp_path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as base:
        base.execute("CREATE TABLE messages (id INTEGER, data BLOB)")
    assert survives(capsys, tmp_path / "a.db3", street, tmp_path / "out") == 2


def test_every_file_of_the_collection(capsys, shared_data: Path, street, tmp_path) -> None:
    # none of them is a drive on this map, some are broken, some no drive at all
    for path in sorted((shared_data / "formats").rglob("*")):
        if path.is_file() or any(child.is_file() for child in path.iterdir()):
            assert survives(capsys, path, street, tmp_path / "out") == 2, path


def test_every_broken_scan_inside_a_drive(capsys, shared_data: Path, originals, street, tmp_path) -> None:
    for path in sorted((shared_data / "formats" / "kitti_bad").iterdir()):
        drive = copied(originals["KITTI raw"], tmp_path)
        shutil.copyfile(path, sorted((drive / "velodyne_points" / "data").iterdir())[1])
        survives(capsys, drive, street, tmp_path / "out")


def test_every_map_of_the_collection(capsys, shared_data: Path, originals, tmp_path) -> None:
    for path in sorted(file for file in (shared_data / "formats").rglob("*") if file.is_file()):
        assert survives(capsys, originals["KITTI raw"], path, tmp_path / "out") == 2, path


def test_maps_cut_anywhere(capsys, originals, street, tmp_path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(CUTS):
        cut = tmp_path / "cut.osm"
        cut.write_bytes(street.read_bytes()[: int(rng.integers(street.stat().st_size))])
        assert survives(capsys, originals["KITTI raw"], cut, tmp_path / "out") == 2
