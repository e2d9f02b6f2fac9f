"""Evaluation of sequences, with locators that know where the vehicle is."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bevfusion.datasets.odometry import TruthOdometry
from bevfusion.datasets.simulated import simulated_drive
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.run import evaluate
from bevfusion.filters.settings import FilterConfig, MotionNoise
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYERS, layer_index
from bevfusion.maps.source import open_map
from bevfusion.sequence import FilterEstimator
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import DataError, Frame, PoseEstimate, Scan
from bevfusion.summary import InputSummary
from tests.filters.vehicles import InformedLocator, drive, scan_at, winding

FRAME = LocalFrame(49.0, 8.4)


class StreetMap:
    """Streets along the map's axes, 100 m apart, 300 m by 300 m."""

    frame = FRAME
    name = "streets"
    bounds_m = (-150.0, -150.0, 150.0, 150.0)
    summary = InputSummary("streets")

    def covers(self, x_m: float, y_m: float) -> bool:
        return max(abs(x_m), abs(y_m)) < 150.0

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> np.ndarray:
        xy_m = map_from_tile.apply(grid.centres_m())
        layers = np.zeros((len(LAYERS), grid.height, grid.width), dtype=np.int8)
        layers[layer_index("road")] = 127 * (np.abs((xy_m + 50.0) % 100.0 - 50.0) < 4.0).any(axis=-1)
        return layers


class MadeDrive:
    """Frames made by `vehicles.drive`, with their truth."""

    def __init__(
        self, frames: list[Frame], truths: list[SE2 | None], odometry: str = "log", name: str = "made"
    ) -> None:
        self.frames = [
            Frame(f.index, f.stamp_ns, f.scan, f.odom_from_ego, truth=None if t is None else FRAME.geo_pose(t))
            for f, t in zip(frames, truths, strict=True)
        ]
        self.odometry, self.name, self.summary = odometry, name, InputSummary(name)
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> Frame:
        self.read.append(position)
        return self.frames[position]

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_: folder.mkdir())


def straight(count: int = 30, **options: object) -> tuple[list[Frame], list[SE2]]:
    return drive(SE2(-100.0, 0.0, 0.0), [SE2(1.0, 0.0, 0.0)] * (count - 1), **options)  # type: ignore[arg-type]


def run(locator: InformedLocator, drives: list[MadeDrive], output: Path, **options: object) -> dict:
    protocol = Protocol(**options)  # type: ignore[arg-type]
    return evaluate(lambda source: locator, drives, [StreetMap()], protocol, output, {})  # type: ignore[arg-type, return-value]


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_drive_is_one_sequence(tmp_path: Path) -> None:
    locator = InformedLocator()
    frames, truths = straight()
    report = run(locator, [MadeDrive(frames, truths)], tmp_path / "out", mode="filter", offset_deg=15.0)
    assert report["frames"] == 30
    assert report["lost"] == {"made": 0}
    assert report["position_m"]["recall"]["3"] == 100.0
    assert report["protocol"]["mode"] == "filter"
    assert report["protocol"]["odometry"] == "log"
    assert json.loads((tmp_path / "out/metrics.json").read_text())["lost"] == {"made": 0}
    # the second prior is the first estimate, moved: not drawn about the truth again
    rows = rows_of(tmp_path / "out")
    asked = [prior for prior, _, _ in locator.asked]
    assert asked[0].x_m == pytest.approx(float(rows[0]["prior_x_m"]))
    assert abs(asked[20].x_m - truths[20].x_m) < 3.0
    # what is shown as the prior is the first one moved by odometry alone
    offsets = [float(row["prior_x_m"]) - float(row["truth_x_m"]) for row in rows]
    assert offsets == pytest.approx([offsets[0]] * 30, abs=1.5)


def test_every_draw_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    frames, truths = straight(12)
    report = run(InformedLocator(), [MadeDrive(frames, truths)], tmp_path / "out", mode="filter", draws=2)
    rows = rows_of(tmp_path / "out")
    assert [(row["draw"], row["frame"]) for row in rows] == [(str(d), str(i)) for d in range(2) for i in range(12)]
    assert rows[0]["prior_x_m"] != rows[12]["prior_x_m"]
    assert report["frames"] == 12


def test_lost_frames_are_counted_not_scored(tmp_path: Path) -> None:
    frames, truths = straight(40, jump=(20, SE2(60.0, 100.0, 0.0)))
    made = [MadeDrive(frames, truths), MadeDrive(*straight(10), name="other")]
    report = run(InformedLocator(), made, tmp_path / "out", mode="filter", offset_deg=15.0)
    rows = [row for row in rows_of(tmp_path / "out") if row["drive"] == "made"]
    assert report["lost"] == {"made": 40 - len(rows), "other": 0}
    assert 20 <= len(rows) <= 30
    assert report["frames"] == len(rows) + 10


def test_lost_all_the_way_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lost in all 15 frames of made"):
        run(InformedLocator(flat=True), [MadeDrive(*straight(15))], tmp_path / "out", mode="filter")


def test_frames_without_truth_or_map_are_passed_by(tmp_path: Path) -> None:
    frames, truths = straight(30)
    known: list[SE2 | None] = [None if i in (0, 1, 12) else truth for i, truth in enumerate(truths)]
    locator = InformedLocator()
    report = run(locator, [MadeDrive(frames, known)], tmp_path / "out", mode="filter", draws=2)
    assert report["without_truth"] == {"made": 3}  # not once a draw
    assert report["frames"] == 27
    assert len(locator.asked) == 2 * 28  # the filter starts at the third frame and goes through the others


def test_global_mode_needs_no_prior(tmp_path: Path) -> None:
    frames, truths = straight(25)
    report = run(InformedLocator(), [MadeDrive(frames, truths)], tmp_path / "out", mode="global")
    assert report["lost"]["made"] <= 8
    assert report["position_m"]["recall"]["3"] == 100.0
    assert {(row["prior_x_m"], row["prior_y_m"]) for row in rows_of(tmp_path / "out")} == {("0.000000", "0.000000")}


def test_single_mode_loses_nothing(tmp_path: Path) -> None:
    report = run(InformedLocator(), [MadeDrive(*straight(5))], tmp_path / "out")
    assert report["lost"] == {"made": 0}


def test_a_new_map_starts_a_new_sequence() -> None:
    estimator = FilterEstimator(20.0, math.radians(15.0), FilterConfig(), anywhere=False)
    frames, truths = straight(4)
    locator, first, second = InformedLocator(), StreetMap(), StreetMap()
    for position in (0, 1):
        estimator.estimate(locator, first, frames[position], truths[position], position)
    (answer,) = estimator.estimate(locator, second, frames[2], SE2(truths[2].x_m + 5.0, truths[2].y_m, 0.1), 2)
    assert answer.frame_index == 2
    assert answer.prior.x_m == truths[2].x_m + 5.0
    assert locator.asked[-1][0] == answer.prior


def test_odometry_from_truth() -> None:
    frames, truths = drive(SE2(10.0, 20.0, 1.0), winding(50), odometry=False)
    exact = TruthOdometry(
        MadeDrive(frames, truths, "none"), noise=MotionNoise(**dict.fromkeys(MotionNoise.model_fields, 0.0))
    )
    assert exact.odometry == "truth"
    assert (exact.name, len(exact)) == ("made", 51)
    for i, frame in enumerate(exact):
        assert frame.odom_from_ego is not None
        expected = truths[0].inverse() @ truths[i]
        assert frame.odom_from_ego.x_m == pytest.approx(expected.x_m, abs=1e-4)
        assert frame.odom_from_ego.yaw_rad == pytest.approx(expected.yaw_rad, abs=1e-5)


def test_odometry_from_truth_drifts_alike_in_any_order() -> None:
    frames, truths = drive(SE2(10.0, 20.0, 1.0), winding(50), odometry=False)
    known: list[SE2 | None] = [None if i == 7 else truth for i, truth in enumerate(truths)]
    inner = MadeDrive(frames, known, "none")
    forwards = [frame.odom_from_ego for frame in TruthOdometry(inner, seed=3)]
    assert inner.read == list(range(51))  # each frame once
    late = TruthOdometry(inner, seed=3)
    assert [late[i].odom_from_ego for i in (50, 7, 20)] == [forwards[i] for i in (50, 7, 20)]
    assert forwards[7] is None
    end, true_end = forwards[50], truths[0].inverse() @ truths[50]
    assert end is not None
    assert 0.01 < math.hypot(end.x_m - true_end.x_m, end.y_m - true_end.y_m) < 5.0
    assert TruthOdometry(inner, seed=4)[50].odom_from_ego != end


class SimulatedTruthLocator(InformedLocator):
    """The informed locator for drives whose scans do not carry their pose: it knows them by their first point."""

    def __init__(self, poses: dict[bytes, SE2]) -> None:
        super().__init__(outliers=0.15, ghosts=(SE2(0.0, 0.0, math.pi),))
        self.poses = poses

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        return super().locate(scan_at(self.poses[scan.xyz[:50].tobytes()]), prior, offset_m, offset_rad)


def test_a_simulated_drive_end_to_end(tmp_path: Path) -> None:
    # real files, real map; volumes as of a network that is off by 0.4 m, wrong at times and blind to front and rear
    options = DriveOptions(frames=40, columns=64, spacing_m=1.0)
    simulated = simulated_drive("town:11", options, tmp_path / "cache")
    source = open_map(next((tmp_path / "cache").glob("*.osm.gz")))
    poses = {}
    for frame in simulated:
        assert frame.truth is not None
        poses[frame.scan.xyz[:50].tobytes()] = source.frame.map_from_ego(frame.truth)
    protocol = Protocol(mode="filter", offset_deg=180.0)
    driven = TruthOdometry(simulated)
    report = evaluate(lambda _: SimulatedTruthLocator(poses), [driven], [source], protocol, tmp_path / "out", {})
    assert report["protocol"]["odometry"] == "truth"
    late = [row for row in rows_of(tmp_path / "out") if int(row["frame"]) >= 20]
    errors_m = np.array([math.hypot(float(row["lateral_m"]), float(row["longitudinal_m"])) for row in late])
    headings_deg = np.array([abs(float(row["heading_deg"])) for row in late])
    assert len(late) >= 17
    assert np.mean((errors_m < 2.0) & (headings_deg < 2.0)) >= 0.9
