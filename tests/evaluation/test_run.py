"""Evaluation with locators whose errors are known beforehand."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion import metrics
from bevfusion.evaluation.protocol import Protocol, displaced
from bevfusion.evaluation.report import rich_table, terminal_rows
from bevfusion.evaluation.results import COLUMNS
from bevfusion.evaluation.run import evaluate
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.structures import DataError, Frame, Locator, PoseBelief, PoseEstimate, Scan
from bevfusion.summary import InputSummary
from tests.chance import chance_recalls

FRAME = LocalFrame(49.0, 8.4)
SCAN = Scan(np.float32([[5, 0, 0], [0, 5, 1], [-5, 0, 2]]), np.float32([0.1, 0.2, 0.3]))


@dataclass
class FakeMap:
    """A square about an origin with one square building in it."""

    frame: LocalFrame = FRAME
    name: str = "fake"
    half_m: float = 1000.0
    summary: InputSummary = field(default_factory=lambda: InputSummary("fake"))

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        return (-self.half_m, -self.half_m, self.half_m, self.half_m)

    def covers(self, x_m: float, y_m: float) -> bool:
        return max(abs(x_m), abs(y_m)) < self.half_m

    def draw(self, grid: Grid, map_from_tile: SE2, mirrored: bool = False) -> np.ndarray:
        xy_m = map_from_tile.apply(grid.centres_m())
        layers = np.zeros((len(LAYER_NAMES), grid.height, grid.width), dtype=np.int8)
        layers[LAYER_NAMES.index("building")] = 127 * (np.abs(xy_m - [10.0, 30.0]) < 8.0).all(axis=-1)
        return layers


@pytest.fixture
def real_plots() -> None:
    """Asked for by the tests that look at plots."""


@pytest.fixture(autouse=True)
def _no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second a test: the others do without."""
    if "real_plots" not in request.fixturenames:
        monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_: folder.mkdir())


class FakeDrive:
    """Frames at given poses of `FRAME`, a tenth of a second apart."""

    odometry = "none"

    def __init__(self, poses: list[SE2 | None], name: str = "fake_drive", broken: int | None = None) -> None:
        self.poses, self.name, self.broken = poses, name, broken
        self.summary = InputSummary(name)

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, position: int) -> Frame:
        if position == self.broken:
            raise DataError(f"scan {position} is broken")
        pose = self.poses[position]
        truth = None if pose is None else FRAME.geo_pose(pose)
        return Frame(index=10 + position, stamp_ns=position * 100_000_000, scan=SCAN, truth=truth)

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))


@dataclass
class FakeLocator(Locator):
    """Answers a list of poses in turn; keeps what it was asked."""

    answers: list[SE2]
    belief: PoseBelief | None = None
    asked: list[tuple[SE2, float, float]] = field(default_factory=list)

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        self.asked.append((prior, offset_m, offset_rad))
        pose = self.answers[(len(self.asked) - 1) % len(self.answers)]
        covariance = np.diag([1.0, 4.0, 0.01])
        return PoseEstimate(pose, covariance, 0.1, 0.5, prior if self.belief is None else pose, self.belief)


def straight_drive(count: int = 4, yaw_rad: float = 0.0, **options: object) -> FakeDrive:
    return FakeDrive([SE2(10.0 * i, 5.0, yaw_rad) for i in range(count)], **options)  # type: ignore[arg-type]


def run(locator: FakeLocator, drives: list[FakeDrive], output: Path, **options: object) -> dict:
    maps = options.pop("maps", [FakeMap()])
    # what a locator says is compared as it is
    protocol = Protocol(**({"map_error_m": 0.0} | options))  # type: ignore[arg-type]
    return evaluate(lambda source: locator, drives, maps, protocol, output, {"sha256": "abc"})  # type: ignore[arg-type]


def test_recalls_of_known_errors(tmp_path: Path) -> None:
    # facing east: lateral is north; errors worked by hand
    drive = straight_drive()
    errors = [(0.5, -0.5, 0.0), (2.0, 0.9, -2.0), (-4.0, 2.5, 4.5), (0.0, 20.0, 179.0)]
    answers = [SE2(10.0 * i + e, 5.0 + n, math.radians(d)) for i, (e, n, d) in enumerate(errors)]
    report = run(FakeLocator(answers), [drive], tmp_path / "out")
    assert report["frames"] == 4
    assert report["lateral_m"]["recall"] == {"1": 50.0, "3": 75.0, "5": 75.0}
    assert report["longitudinal_m"]["recall"] == {"1": 50.0, "3": 75.0, "5": 100.0}
    assert report["position_m"]["recall"] == {"1": 25.0, "3": 50.0, "5": 75.0}
    assert report["heading_deg"]["recall"] == {"1": 25.0, "3": 50.0, "5": 75.0}
    assert report["heading_deg"]["flips_180"] == 25.0
    assert report["lateral_m"]["median"] == pytest.approx((0.9 + 2.5) / 2, abs=1e-6)
    removed = report["per_drive"]["fake_drive"]["offset_removed"]
    assert (removed["east_m"], removed["north_m"]) == pytest.approx((0.25, 1.7), abs=1e-5)
    # north errors less 1.7: -2.2, -0.8, 0.8, 18.3
    assert removed["lateral_m"]["recall"] == {"1": 50.0, "3": 75.0, "5": 75.0}


@pytest.mark.usefixtures("real_plots")
def test_the_files(tmp_path: Path) -> None:
    drive = straight_drive(3, yaw_rad=math.pi / 2)
    answers = [SE2(10.0 * i - 1.0, 5.0 + 2.0, math.pi / 2 + 0.1) for i in range(3)]
    report = run(FakeLocator(answers), [drive], tmp_path / "deep" / "out", draws=1, seed=3)
    out = tmp_path / "deep" / "out"
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(report).replace("NaN", "null"))
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["frame"] for row in rows] == ["10", "11", "12"]
    assert [int(row["stamp_ns"]) for row in rows] == [0, 100_000_000, 200_000_000]
    row = rows[1]
    assert float(row["estimate_x_m"]) == 9.0
    # facing north: 1 m west is 1 m to the left, 2 m north is 2 m ahead
    assert float(row["lateral_m"]) == pytest.approx(1.0, abs=1e-5)
    assert float(row["longitudinal_m"]) == pytest.approx(2.0, abs=1e-5)
    assert float(row["heading_deg"]) == pytest.approx(math.degrees(0.1), abs=1e-5)
    assert [float(row[f"covariance_{k}"]) for k in ("xx", "yy", "yawyaw", "xy")] == [1.0, 4.0, 0.01, 0.0]
    names = {path.name for path in (out / "plots").iterdir()}
    assert {"cumulative_across.png", "trajectory_fake_drive.png", "errors_fake_drive_along.png"} <= names
    worst = {name for name in names if name.startswith("worst_")}  # of one for every five frames, and at least one
    assert worst == {"worst_1_fake_drive_10_1_estimate.png", "worst_1_fake_drive_10_2_truth.png"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in (out / "plots").iterdir())
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # no scratch left behind


def test_schema_of_the_report(tmp_path: Path) -> None:
    report = run(FakeLocator([SE2()]), [straight_drive()], tmp_path / "out", offset_deg=10.0, draws=2)
    assert set(report) >= {
        *("frames", "protocol", "lateral_m", "longitudinal_m", "position_m", "heading_deg", "chance", "calibration"),
        *("per_drive", "runtime_ms", "hardware", "checkpoint", "map", "not_covered"),
    }
    assert report["frames"] == 4
    asked = {
        "mode": "single",
        "offset_m": 20.0,
        "offset_deg": 10.0,
        "draws": 2,
        "seed": 0,
        "scans": 1,
        "map_error_m": 0.0,
    }
    assert report["protocol"] == asked | {"threshold": "<", "readout": "argmax", "odometry": "none"}
    assert set(report["runtime_ms"]) == {"p50", "p95"}
    assert set(report["hardware"]) == {"cpu", "cores", "gpu", "torch"}
    assert report["checkpoint"] == {"sha256": "abc"}
    assert report["map"]["fake"]["frames"] == 4
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["calibration"] == {"coverage_68": None, "coverage_95": None, "nll": None}  # it showed no belief


def test_chance_is_the_measured_error_of_the_priors(tmp_path: Path) -> None:
    locator = FakeLocator([SE2()])
    report = run(locator, [straight_drive(300)], tmp_path / "out", draws=4, maps=[FakeMap(half_m=5000.0)])
    priors = np.array([(p.x_m, p.y_m, p.yaw_rad) for p, _, _ in locator.asked])
    truth = np.array([(10.0 * i, 5.0, 0.0) for i in range(300) for _ in range(4)])
    assert np.abs(priors - truth).max(axis=0) == pytest.approx([20.0, 20.0, math.radians(10)], rel=0.02)
    assert report["chance"]["lateral_m"]["recall"] == metrics.recalls(priors[:, 1] - 5.0)
    expected = chance_recalls(20.0, 10.0, truth[:, 2])
    for name, recall in expected.items():
        assert report["chance"][name]["recall"] == pytest.approx(recall, abs=4.0), name
    assert {asked[1:] for asked in locator.asked} == {(20.0, math.radians(10.0))}


def test_any_heading(tmp_path: Path) -> None:
    locator = FakeLocator([SE2()])
    run(locator, [straight_drive(200)], tmp_path / "out", offset_deg=180.0, maps=[FakeMap(half_m=5000.0)])
    assert {asked[2] for asked in locator.asked} == {math.pi}
    yaws_rad = [prior.yaw_rad for prior, _, _ in locator.asked]
    assert np.histogram(yaws_rad, bins=4, range=(-math.pi, math.pi))[0].min() > 30


def test_priors_do_not_depend_on_what_else_is_evaluated(tmp_path: Path) -> None:
    a, b = straight_drive(name="a"), straight_drive(name="b")
    alone, together, reseeded = (FakeLocator([SE2()]) for _ in range(3))
    run(alone, [a], tmp_path / "1", draws=2)
    run(together, [b, a], tmp_path / "2", draws=3)
    run(reseeded, [a], tmp_path / "3", draws=2, seed=1)
    first = [prior for prior, _, _ in alone.asked]
    rows = [prior for prior, _, _ in together.asked][12:]
    assert first == [prior for i, prior in enumerate(rows) if i % 3 < 2]
    assert len({(p.x_m, p.y_m, p.yaw_rad) for p in (*first, *(q for q, _, _ in reseeded.asked))}) == 16
    assert displaced(SE2(), Protocol(), "a", 1, 0) != displaced(SE2(), Protocol(), "b", 1, 0)


def test_credibility_is_taken_about_the_locators_own_centre(tmp_path: Path) -> None:
    window = PoseWindow(1.0, math.radians(4), 1.0, math.radians(2))
    log_prob = torch.full((1, *window.shape), math.log(0.1 / (math.prod(window.shape) - 1)))
    log_prob[0, 2, 1, 1] = math.log(0.9)
    answers = [SE2(10.0 * i, 5.0, 0.0) for i in range(4)]
    report = run(FakeLocator(answers, PoseBelief(log_prob, window)), [straight_drive()], tmp_path / "out")
    assert report["calibration"]["coverage_68"] == 100.0
    assert report["calibration"]["nll"] == pytest.approx(-math.log(0.9 / math.radians(2)), abs=1e-5)


def test_answers_carry_the_error_of_the_map_apart_from_what_the_locator_counts(tmp_path: Path) -> None:
    answers = [SE2(10.0 * i, 5.0, 0.0) for i in range(4)]

    class Counting(FakeLocator):
        map_error_m = 0.6

    run(Counting(answers), [straight_drive()], tmp_path / "out", map_error_m=1.0)
    run(FakeLocator(answers), [straight_drive()], tmp_path / "bare", map_error_m=0.0)
    with (tmp_path / "out/predictions.csv").open() as wide, (tmp_path / "bare/predictions.csv").open() as narrow:
        for one, other in zip(csv.DictReader(wide), csv.DictReader(narrow), strict=True):
            columns = [name for name in one if name.startswith("cov")]
            changed = [float(one[name]) - float(other[name]) for name in columns]
            assert sorted(round(value, 6) for value in changed)[-2:] == [0.64, 0.64]
            assert sum(value != 0.0 for value in changed) == 2


def test_frames_off_the_map_are_counted_not_scored(tmp_path: Path) -> None:
    drive = FakeDrive([SE2(0.0, 0.0), SE2(5000.0, 0.0), SE2(1.0, 0.0), None])
    report = run(FakeLocator([SE2()]), [drive], tmp_path / "out")
    assert report["frames"] == 2
    assert report["not_covered"] == {"fake_drive": 1}
    assert report["without_truth"] == {"fake_drive": 1}


def test_the_first_map_that_covers_a_frame_is_taken(tmp_path: Path) -> None:
    near, far = FakeMap(name="near", half_m=15.0), FakeMap(name="far", frame=LocalFrame(49.001, 8.4))
    opened = []

    def make_locator(source: FakeMap) -> FakeLocator:
        opened.append(source.name)
        return FakeLocator([SE2()])

    report = evaluate(make_locator, [straight_drive()], [near, far], Protocol(), tmp_path / "out", {})  # type: ignore
    assert opened == ["near", "far"]
    assert [report["map"][name]["frames"] for name in ("near", "far")] == [2, 2]
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["map"] for row in rows] == ["near", "near", "far", "far"]
    assert float(rows[2]["truth_y_m"]) == pytest.approx(5.0 - 111.2, abs=0.5)  # in the frame of its own map


@pytest.mark.parametrize(
    ("drive", "message"),
    [
        (FakeDrive([SE2(5000.0, 0.0)]), "no map covers any frame: fake_drive within lat 48.9.*maps: fake within"),
        (FakeDrive([None]), "true pose"),
        (straight_drive(broken=2), "scan 2 is broken"),
    ],
)
def test_runs_that_end_early_leave_nothing(tmp_path: Path, drive: FakeDrive, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(FakeLocator([SE2()]), [drive], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_report_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "plots").mkdir(parents=True)
    (out / "plots" / "old.png").write_text("old")
    (out / "notes.txt").write_text("mine")
    run(FakeLocator([SE2()]), [straight_drive()], out)
    assert not (out / "plots/old.png").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "metrics.json").is_file()


def test_a_file_in_the_way_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    locator = FakeLocator([SE2()])
    with pytest.raises(DataError, match="expected a folder"):
        run(locator, [straight_drive()], tmp_path / "out")
    assert not locator.asked


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    report = run(FakeLocator([SE2()]), [straight_drive(), straight_drive()], tmp_path / "out")
    assert set(report["per_drive"]) == {"fake_drive", "fake_drive-2"}
    assert report["frames"] == 8


def test_the_locators_complaint_names_the_frame(tmp_path: Path) -> None:
    class Refusing(FakeLocator):
        def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
            raise DataError("no point in range")

    with pytest.raises(DataError, match="fake_drive, frame 10: no point in range"):
        run(Refusing([]), [straight_drive()], tmp_path / "out")


def test_a_scan_that_the_locator_cannot_use_costs_itself(tmp_path: Path) -> None:
    class Refusing(FakeLocator):
        def locate(
            self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float, map_cache: object = None
        ) -> PoseEstimate:
            found = super().locate(scan, prior, offset_m, offset_rad)
            if len(self.asked) == 5:
                raise DataError("no point in range")
            return found

    drive = straight_drive(20)
    report = run(Refusing([SE2(10.0 * i, 5.0) for i in range(20)]), [drive], tmp_path / "out", draws=1)
    assert report["frames"] == 19
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == [str(10 + i) for i in range(20) if i != 4]


@pytest.mark.parametrize(
    "options",
    [
        *({"offset_m": value} for value in (0.0, -1.0, math.inf, math.nan)),
        *({"offset_deg": value} for value in (0.0, 181.0, math.nan)),
        *({"draws": 0}, {"seed": -1}, {"mode": "guess"}),
    ],
)
def test_protocols_without_sense_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="got"):
        Protocol(**options)


def test_tables(tmp_path: Path) -> None:
    answers = [SE2(10.0 * i, 5.0 + 2.0) for i in range(4)]
    report = run(FakeLocator(answers), [straight_drive()], tmp_path / "out")
    lines = terminal_rows(report)
    assert lines[0][:2] == ("network", "4")
    lateral, longitudinal = lines[0][2][:2]
    assert lateral == (["0.0", "100.0", "100.0"], "2.00 m")
    assert longitudinal == (["100.0", "100.0", "100.0"], "0.00 m")
    assert [name for name, _, _ in lines] == ["network", "chance", "fake_drive"]
    assert len({len(cells) for _, _, cells in lines}) == 1
    assert rich_table(report).row_count == 3
