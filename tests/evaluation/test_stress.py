"""The stress test: what is asked under which condition, how it is scored, what is written."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.cli import main
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.stress import Answer, Condition, Factor, Point, StressTest
from bevfusion.evaluation.stress_factors import chosen, factors
from bevfusion.evaluation.stress_report import read_section, section_of, write_stress
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.render import OsmRenderer
from bevfusion.structures import DataError, Frame, Locator, PoseBelief, PoseEstimate, Scan
from bevfusion.summary import InputSummary
from tests.direction.graphs import FRAME, Picture, crossing, town


class StraightDrive:
    """East along a street of the crossing, a metre a frame, a scan of 400 points each."""

    name, odometry = "straight", "log"

    def __init__(self, frames: int = 40) -> None:
        self.summary = InputSummary("straight")
        self._frames = frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, position: int) -> Frame:
        pose = SE2(-80.0 + position, -1.75, 0.0)
        lat_deg, lon_deg = FRAME.degrees_from_metres(pose.x_m, pose.y_m)
        rng = np.random.default_rng(position)
        xyz = np.concatenate([rng.uniform(-20.0, 20.0, (400, 2)), np.full((400, 1), -1.7)], axis=1).astype(np.float32)
        scan = Scan(xyz, np.full(400, 0.5, np.float32))
        odom = SE2(float(position), 0.0, 0.0)
        return Frame(position, 10**18 + position * 10**8, scan, odom, truth=GeoPose(lat_deg, lon_deg, 0.0))

    def __iter__(self):
        return (self[position] for position in range(len(self)))


class Honest(Locator):
    """Errs by a centimetre for each point that is missing, and claims to be right as far as points are left."""

    def __init__(self, source) -> None:
        self.source = source
        self.asked: list[tuple[int, SE2]] = []

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        if not len(scan):
            raise DataError("no points")
        self.asked.append((len(scan), prior))
        missing = 400 - len(scan)
        x_m = float(round(prior.x_m))
        found = SE2(x_m, -1.75 + 0.01 * missing, math.radians(0.01 * missing))
        window = PoseWindow(2.0, 0.1, 0.5, 0.05)
        log_prob = torch.full((1, *window.shape), -math.log(math.prod(window.shape)))
        covariance = np.diag([0.01, 0.01, 1e-4])
        return PoseEstimate(found, covariance, 0.01, 0.5, prior, PoseBelief(log_prob, window), len(scan) / 400.0)


def stress_test(drive=None, **more) -> tuple[StressTest, list[Honest]]:
    made: list[Honest] = []

    def make(source) -> Honest:
        made.append(Honest(source))
        return made[-1]

    source = more.pop("source", OsmRenderer(town(crossing())))
    protocol = Protocol("single", 0.3, 1.0, map_error_m=0.0)
    options = {"frames": 5, "sequence": 6, "open_map": lambda path: source} | more
    return StressTest(make, drive or StraightDrive(), source, protocol, FilterConfig(), **options), made


def losing(count: int) -> Condition:
    return Condition(scan=lambda scan, rng: scan.select(np.arange(len(scan)) >= count))


def test_position_heading_direction_and_verdict_are_scored_apart():
    test, _ = stress_test()
    factor = Factor("points", "points lost", "", (0.0, 100.0, 300.0), (Condition(), losing(100), losing(300)))
    told: list[int] = []
    first, second, third = test.curve(factor, told.append).points
    assert sum(told) == test.questions([factor]) == 15
    assert first.numbers()["position_m_median"] == pytest.approx(0.0, abs=0.01)
    assert second.numbers()["position_m_median"] == pytest.approx(1.0, abs=0.01)
    assert second.numbers()["heading_deg_median"] == pytest.approx(1.0, abs=0.01)
    assert second.numbers()["right_percent"] == 100.0
    assert second.numbers()["verdict_mean"] == pytest.approx(0.75)
    assert third.numbers()["right_percent"] == 0.0
    assert third.numbers()["verdict_mean"] == pytest.approx(0.25)
    assert third.numbers()["falsely_sure_percent"] == 0.0
    assert first.numbers()["direction_deg_median"] == pytest.approx(0.0, abs=0.2)
    assert first.numbers()["with_direction"] == 3  # after the last two there are not 16 m of the drive
    assert 0.1 < third.numbers()["direction_deg_median"] < 8.0


def test_a_scan_of_which_nothing_is_left_is_counted():
    test, _ = stress_test()
    (point,) = test.curve(Factor("all", "", "", (1.0,), (losing(400),))).points
    assert (point.refused, point.answers) == (5, [])
    numbers = point.numbers()
    assert numbers["position_m_median"] is None
    assert numbers["right_percent"] is None


def test_what_is_undisturbed_is_asked_once():
    test, made = stress_test()
    for name in ("a", "b"):
        test.curve(Factor(name, "", "", (0.0,), (Condition(),)))
    assert len(made) == 1
    assert len(made[0].asked) == 5


def test_gnss_that_jumps_moves_the_prior_that_far():
    test, made = stress_test()
    test.curve(Factor("gnss", "", "m", (0.0, 50.0), (Condition(), Condition(prior_off_m=50.0))))
    priors = [prior for _, prior in made[0].asked]
    for before, after in zip(priors[:5], priors[5:], strict=True):
        assert math.hypot(after.x_m - before.x_m, after.y_m - before.y_m) == pytest.approx(50.0)


def test_a_changed_map_is_drawn_anew_and_the_streets_are_its_own():
    test, made = stress_test()
    changed = Condition(map=lambda osm, rng: replace(osm, name="changed"))
    (point,) = test.curve(Factor("map", "", "%", (10.0,), (changed,))).points
    assert made[0].source.name == "changed"
    assert point.numbers()["with_direction"] == 3


def test_on_a_map_without_the_street_there_is_no_direction():
    without = OsmRenderer(town(crossing()[1:]))  # that to the west is gone
    test, _ = stress_test(open_map=lambda path: without)
    (point,) = test.curve(Factor("other_map", "", "", (1.0,), (Condition(other_map=Path("without.osm")),))).points
    assert point.numbers()["answers"] == 5
    assert point.numbers()["with_direction"] < 3


def test_pictures_cannot_be_changed():
    test, _ = stress_test(source=Picture())
    with pytest.raises(DataError, match="cannot be changed"):
        test.curve(Factor("map", "", "%", (10.0,), (Condition(map=lambda osm, rng: osm),)))


def test_a_drive_off_the_map_is_refused():
    far = replace(town(crossing()), bounds_m=(1000.0, 1000.0, 1100.0, 1100.0))
    with pytest.raises(DataError, match="no frame of straight has a true pose on the map town"):
        stress_test(source=OsmRenderer(far))


def test_odometry_gets_worse_in_sequences():
    seen: list[list[SE2 | None]] = []
    for factor in chosen(["drift", "gaps"]):
        for condition in factor.conditions[1:]:
            poses = [SE2(float(x), 0.0, 0.0) for x in range(11)]
            assert condition.odometry is not None
            seen.append(condition.odometry(poses, np.random.default_rng(0)))
    two, five, ten, twenty, quarter, half, all_gone = seen
    assert [poses[-1].x_m for poses in (two, five)] == pytest.approx([10.2, 10.5], abs=0.01)
    assert math.degrees(ten[-1].yaw_rad) == pytest.approx(10 * 10 * 1.0 * 0.005, abs=0.01)
    assert twenty[-1].x_m == pytest.approx(12.0, abs=0.05)
    assert 0 < sum(pose is None for pose in quarter) <= sum(pose is None for pose in half) < 11
    assert all_gone == [None] * 11
    test, _ = stress_test()
    (point,) = test.curve(Factor("drift", "", "%", (0.0,), (Condition(sequence=True),))).points
    assert len(point.answers) + point.silent == 6


def test_the_verdict_is_what_scan_and_map_say_where_they_do():
    assert Answer(0.5, 1.0, None, 0.9, 0.3).verdict == 0.3
    assert Answer(0.5, 1.0, None, 0.9, None).verdict == 0.9
    sure = Point(0.0, [Answer(30.0, 1.0, None, 0.95, None), Answer(0.1, 1.0, None, 0.95, None)])
    assert sure.numbers()["falsely_sure_percent"] == 50.0
    assert not Answer(1.0, 5.0, None, 0.9, None).is_right


def test_every_factor_begins_with_nothing_and_changes_a_scan_or_a_map():
    drive = StraightDrive()
    known = factors(Path("other.osm"))
    assert len({factor.name for factor in known}) == len(known) > 20
    for factor in known:
        assert len(factor.levels) == len(factor.conditions) >= 2
        plain = [replace(condition, sequence=False) == Condition() for condition in factor.conditions]
        assert plain.count(True) == 1, factor.name
        for condition in factor.conditions:
            if condition.scan is not None:
                scan = replace(drive[0].scan, xyz=drive[0].scan.xyz * np.float32([4.0, 4.0, 1.0]))
                changed = condition.scan(scan, np.random.default_rng(0))
                assert len(changed) != len(scan) or (changed.xyz != scan.xyz).any(), factor.name


def test_factors_are_chosen_by_name():
    assert [factor.name for factor in chosen(["rain", "beams", "rain"])] == ["rain", "beams"]
    with pytest.raises(DataError, match=r"no factor is called 'beems'.*beams"):
        chosen(["beems"])


def test_what_is_written_can_be_read_and_drawn_beside(tmp_path: Path):
    test, _ = stress_test()
    factor = Factor("range", "range cut", "m", (math.inf, 10.0), (Condition(), losing(100)))
    about = {"checkpoint": {"name": "one", "path": "one"}, "drive": "<b>straight</b>", "map": "town", "scans": 5,
             "sequence": 6, "offset_m": 0.3, "offset_deg": 1.0, "seed": 0}  # fmt: skip
    section = section_of([test.curve(factor)], about)
    write_stress(tmp_path / "a", section, plots=False)
    again = read_section(tmp_path / "a" / "stress.json")
    assert again == json.loads(json.dumps(section))
    assert again["factors"]["range"]["levels"][0]["level"] is None  # JSON knows no infinity
    page = (tmp_path / "a" / "stress.html").read_text()
    assert "range cut" in page
    assert "<b>straight" not in page
    write_stress(tmp_path / "b", section, [again])
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "stress.json",
        "stress.html",
        "stress.png",
        "range.png",
    }
    assert "data:image/png" in (tmp_path / "b" / "stress.html").read_text()
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match=r"no stress\.json"):
        read_section(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--factor", "beems"], "no factor is called 'beems'"),
        (["--frames", "0"], "frames"),
        (["--offset-m", "-3"], "offset_m"),
        (["--beside", "nowhere.json"], "nowhere.json"),
        (["--other-map", "nowhere.osm", "--factor", "other_map"], "nowhere"),
    ],
)
def test_nonsense_is_one_line_and_status_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status = main("stress", ["classical", str(tmp_path), "--map", str(tmp_path / "town.osm"), *words])
    assert status == 2
    assert said in capsys.readouterr().err or said == "nowhere"


@pytest.fixture
def on_the_crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, on a drive, a map and a locator without files."""
    monkeypatch.setattr("bevfusion.datasets.open.open_drive", lambda path, options: StraightDrive(12))
    monkeypatch.setattr("bevfusion.maps.source.open_map", lambda path: OsmRenderer(town(crossing())))
    monkeypatch.setattr("bevfusion.localizer.open_locator", lambda checkpoint, source, *computing: Honest(source))


@pytest.mark.usefixtures("on_the_crossing")
def test_the_command_line_writes_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["classical", "drive", "--map", "town.osm", "--factor", "beams", "--factor", "gaps", "--frames", "2"]
    words += ["--sequence", "3", "--no-plots", "--output", str(tmp_path / "out")]
    assert main("stress", words) == 0
    assert "2 curves in" in capsys.readouterr().out
    found = read_section(tmp_path / "out" / "stress.json")
    assert list(found["factors"]) == ["beams", "gaps"]
    assert found["checkpoint"]["name"] == "classical"
    assert [level["level"] for level in found["factors"]["beams"]["levels"]] == [64.0, 32.0, 16.0, 8.0]
    assert main("stress", words) == 2  # it is not replaced unasked
    assert main("stress", [*words, "--overwrite"]) == 0


@pytest.mark.usefixtures("on_the_crossing")
def test_ctrl_c_keeps_the_curves_that_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    curve = StressTest.curve

    def until_rain(self: StressTest, factor: Factor, on_answer=None):
        if factor.name == "rain":
            raise KeyboardInterrupt
        return curve(self, factor, on_answer)

    monkeypatch.setattr(StressTest, "curve", until_rain)
    words = ["classical", "drive", "--map", "town.osm", "--factor", "beams", "--factor", "rain", "--frames", "2"]
    assert main("stress", [*words, "--output", str(tmp_path / "out")]) == 130
    assert list(read_section(tmp_path / "out" / "stress.json")["factors"]) == ["beams"]
    assert "1 of 2 curves are kept" in caplog.text
