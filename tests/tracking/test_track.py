"""Following a log without truth, and what is written of it."""

import csv
import html
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.drive import Drive
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import legend
from bevfusion.maps.source import MapSource
from bevfusion.simulate.drive import DriveOptions, simulate_drive
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate, Scan
from bevfusion.summary import InputSummary
from bevfusion.tracking import outputs
from bevfusion.tracking.follow import Start, TrackedFrame, start_of_fix, track_drive
from bevfusion.tracking.report import counts, headline
from bevfusion.tracking.run import chosen_indices, follow, write_all

SECOND_NS = 10**9


@dataclass
class Plain:
    """An empty map of a square kilometre."""

    name: str = "plain"
    frame: LocalFrame = field(default_factory=lambda: LocalFrame(49.0, 8.4))
    bounds_m: tuple[float, float, float, float] = (-500.0, -500.0, 500.0, 500.0)
    summary: InputSummary = field(default_factory=lambda: InputSummary("plain"))

    def covers(self, x_m: float, y_m: float) -> bool:
        return abs(x_m) <= 500.0 and abs(y_m) <= 500.0

    def draw(self, grid, map_from_tile: SE2, mirrored: bool = False) -> np.ndarray:
        from bevfusion.maps.schema import LAYERS

        return np.zeros((len(LAYERS), grid.height, grid.width), np.int8)


@dataclass
class Log:
    """Frames in memory; those in `broken` cannot be read."""

    frames: list[Frame]
    broken: tuple[int, ...] = ()
    name: str = "=cmd|' /C calc'!A0"  # a name that a spreadsheet would run
    odometry: str = "log"
    summary: InputSummary = field(default_factory=lambda: InputSummary("log"))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> Frame:
        if position in self.broken:
            raise DataError(f"frame {position}: truncated")
        return self.frames[position]

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))


def log_of(count: int, gnss_from: int | None = 0, broken: tuple[int, ...] = ()) -> Log:
    """East at 2 m a frame from the map's origin; GNSS 1 m north of the vehicle from a frame on."""
    plain, scan = Plain(), Scan(np.ones((5, 3), np.float32), np.zeros(5, np.float32))
    frames = []
    for i in range(count):
        fix = None if gnss_from is None or i < gnss_from else plain.frame.geo_pose(SE2(2.0 * i, 1.0, 0.0))
        frames.append(Frame(i, i * SECOND_NS, scan, odom_from_ego=SE2(2.0 * i, 0.0, 0.0), gnss=fix))
    return Log(frames, broken)


def tracked(index: int, answered: bool = True, gnss: bool = True, state: str = "lost") -> TrackedFrame:
    plain = Plain()
    fix = plain.frame.geo_pose(SE2(2.0 * index, 3.0, 0.0)) if gnss else None
    if not answered:
        return TrackedFrame(index, index * SECOND_NS, state, "=HYPERLINK(1)", None, fix)
    covariance = np.diag([1.0, 4.0, 0.01])
    estimate = PoseEstimate(SE2(2.0 * index, 0.0, 0.5 * math.pi), covariance, 0.1, 0.8, SE2())
    return TrackedFrame(index, index * SECOND_NS, "following", "", estimate, fix)


FRAMES = [tracked(0, False), tracked(1), tracked(2), tracked(3, False), tracked(4), tracked(5, gnss=False)]


class TestFollowing:
    def test_it_begins_at_the_first_fix_on_the_map(self):
        states = [frame.state for frame in track_drive(log_of(5, gnss_from=2), Sharp(), Plain())]
        assert states[:2] == ["waiting", "waiting"]
        assert "waiting" not in states[2:]

    def test_a_fix_off_the_map_is_no_start(self):
        frame = replace(log_of(1).frames[0], gnss=GeoPose(10.0, 10.0))
        assert start_of_fix(frame, Plain()) is None
        assert start_of_fix(replace(frame, gnss=None), Plain()) is None

    def test_the_covariance_of_the_fix_sets_the_window(self):
        frame = log_of(1).frames[0]
        for std_m, window_m in ((None, 20.0), (3.0, 15.0), (0.02, 10.0), (8.0, 40.0), (500.0, 100.0)):
            start = start_of_fix(replace(frame, gnss_std_m=std_m), Plain())
            assert start is not None
            assert start.offset_m == window_m
            assert f"within {window_m:.0f} m" in start.told
            assert ("does not say" in start.told) == (std_m is None)
        asked = start_of_fix(replace(frame, gnss_std_m=8.0), Plain(), 25.0)
        assert asked is not None
        assert (asked.offset_m, "--offset-m" in asked.told) == (25.0, True)

    def test_the_start_is_told_in_summary_and_log(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        log = log_of(4, gnss_from=1)
        log.frames[1] = replace(log.frames[1], gnss_std_m=4.0)
        with caplog.at_level("INFO"):
            followed = follow(
                log, Sharp(), Plain(), start=None, indices=range(4), smooth=False, config=None, map_error_m=1.0
            )
        assert "the GNSS fix of frame 1, sought within 20 m east and north (for its standard deviation is 4 m)" in (
            followed.start
        )
        assert followed.start in caplog.text
        write_all(tmp_path / "out", log, followed.frames, Plain(), start=followed.start)
        assert json.loads((tmp_path / "out/summary.json").read_text())["start"] == followed.start
        assert followed.start in html.unescape((tmp_path / "out/report.html").read_text())

    def test_without_a_fix_every_frame_says_what_to_give(self):
        frames = list(track_drive(log_of(3, gnss_from=None), Sharp(), Plain()))
        assert all(frame.state == "waiting" and "--near LAT,LON" in frame.reason for frame in frames)

    def test_poses_carry_the_error_of_the_map_and_no_volume(self):
        start = Start(SE2(), 4.0, 0.1)
        exact, vague = (
            list(track_drive(log_of(4), Sharp(), Plain(), start=start, map_error_m=error_m)) for error_m in (0.0, 2.0)
        )
        for one, other in zip(exact, vague, strict=True):
            assert one.estimate is not None
            assert other.estimate is not None
            assert one.estimate.belief is None
            wider = other.estimate.covariance - one.estimate.covariance
            np.testing.assert_allclose(wider, np.diag([4.0, 4.0, 0.0]), atol=1e-9)

    @pytest.mark.parametrize("smooth", [False, True])
    def test_the_vehicle_is_followed(self, smooth: bool):
        frames = list(track_drive(log_of(6), Sharp(), Plain(), start=Start(SE2(), 4.0, 0.1), smooth=smooth))
        assert [frame.index for frame in frames] == list(range(6))
        for frame in frames:
            assert frame.estimate is not None
            assert frame.estimate.map_from_ego.x_m == pytest.approx(2.0 * frame.index, abs=0.6)

    def test_one_unreadable_frame_is_told_and_passed_over(self):
        frames = list(track_drive(log_of(12, broken=(5,)), Sharp(), Plain(), start=Start(SE2(), 4.0, 0.1)))
        assert [frame.index for frame in frames if frame.state == "unreadable"] == [5]
        assert sum(frame.answered for frame in frames) == 11

    def test_more_than_one_in_ten_is_an_error(self):
        with pytest.raises(DataError, match=r"3 of \d+ frames cannot be read; the last: frame 3: truncated"):
            list(track_drive(log_of(20, broken=(1, 2, 3)), Sharp(), Plain(), start=Start(SE2(), 4.0, 0.1)))

    def test_chosen_frames(self):
        assert list(chosen_indices(10, 2, 3, 2)) == [2, 4, 6]
        assert list(chosen_indices(4, 0, None, 1)) == [0, 1, 2, 3]
        with pytest.raises(DataError, match="no frame is left of 4: from 9 on"):
            chosen_indices(4, 9, None, 1)

    def test_an_interruption_keeps_what_is_known(self):
        class Interrupted(Sharp):
            asked = 0

            def locate(self, *arguments: object, **options: object) -> PoseEstimate:
                self.asked += 1
                if self.asked > 3:
                    raise KeyboardInterrupt
                return super().locate(*arguments, **options)

        followed = follow(
            log_of(8),
            Interrupted(),
            Plain(),
            start=Start(SE2(), 4.0, 0.1),
            indices=range(8),
            smooth=False,
            config=None,
            map_error_m=1.0,
        )
        assert followed.interrupted
        assert len(followed.frames) == 3


class Sharp(Locator):
    """Knows where the vehicle of `log_of` is: the i-th question is about its i-th frame, 2 m farther east."""

    def __init__(self) -> None:
        self.count = 0

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        import torch

        from bevfusion.geometry.grid import PoseWindow
        from bevfusion.structures import PoseBelief

        window = PoseWindow(offset_m, offset_rad, 0.5, math.radians(1.0))
        here = 2.0 * self.count
        self.count += 1
        x = torch.from_numpy(window.shifts_m() + prior.x_m - here)
        y = torch.from_numpy(window.shifts_m() + prior.y_m)
        yaw = torch.from_numpy(window.yaw_offsets_rad() + prior.yaw_rad)
        scores = -0.5 * ((x / 0.4) ** 2 + (y[:, None] / 0.4) ** 2 + (yaw[:, None, None] / 0.03) ** 2)
        log_prob = scores.flatten().log_softmax(0).view(window.shape)[None].float()
        return PoseEstimate(SE2(here, 0.0, 0.0), np.eye(3), 0.03, 0.9, prior, PoseBelief(log_prob, window))


class TestOutputs:
    def test_csv_has_a_row_a_frame_and_no_formulas(self, tmp_path: Path):
        outputs.write_csv(tmp_path / "poses.csv", FRAMES, Plain())
        rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
        assert [row["state"] for row in rows] == ["lost", "following", "following", "lost", "following", "following"]
        assert rows[0]["reason"] == "'=HYPERLINK(1)"
        assert rows[0]["lat"] == ""
        assert float(rows[1]["x_m"]) == 2.0
        assert float(rows[1]["heading_deg"]) == pytest.approx(90.0, abs=0.01)
        assert float(rows[1]["gnss_distance_m"]) == pytest.approx(3.0, abs=0.01)
        assert rows[5]["gnss_distance_m"] == ""

    def test_tum_is_what_evo_reads(self, tmp_path: Path):
        outputs.write_tum(tmp_path / "poses.tum", FRAMES)
        table = np.loadtxt(tmp_path / "poses.tum")
        assert table.shape == (4, 8)
        np.testing.assert_allclose(
            table[0], [1.0, 2.0, 0, 0, 0, 0, math.sin(math.pi / 4), math.cos(math.pi / 4)], atol=1e-6
        )

    def test_geojson_is_cut_where_there_is_no_pose(self, tmp_path: Path):
        outputs.write_geojson(tmp_path / "track.geojson", FRAMES, Plain())
        written = json.loads((tmp_path / "track.geojson").read_text())
        lines = [feature["geometry"]["coordinates"] for feature in written["features"]]
        assert [len(line) for line in lines] == [2, 2]
        assert lines[0][0] == pytest.approx([8.4 + 2.0 / 73_170.0, 49.0], abs=1e-6)  # longitude first
        assert "OpenStreetMap" in written["attribution"]

    def test_a_single_pose_is_a_point(self, tmp_path: Path):
        outputs.write_geojson(tmp_path / "track.geojson", [tracked(3)], Plain())
        written = json.loads((tmp_path / "track.geojson").read_text())
        assert written["features"][0]["geometry"]["type"] == "Point"

    def test_gpx_holds_times_and_attribution(self, tmp_path: Path):
        outputs.write_gpx(tmp_path / "track.gpx", FRAMES, Plain(), "a <name>\x00")
        root = ElementTree.parse(tmp_path / "track.gpx").getroot()
        space = {"g": "http://www.topografix.com/GPX/1/1"}
        assert [len(segment) for segment in root.iterfind(".//g:trkseg", space)] == [2, 2]
        assert root.findtext(".//g:trkpt/g:time", namespaces=space) == "1970-01-01T00:00:01.000Z"
        assert root.findtext(".//g:trk/g:name", namespaces=space) == "a <name>"
        assert "OpenStreetMap" in (root.findtext(".//g:desc", namespaces=space) or "")

    def test_mcap_is_read_back(self, tmp_path: Path):
        reader = pytest.importorskip("mcap.reader", reason="mcap is not installed")
        outputs.write_mcap(tmp_path / "poses.mcap", FRAMES, Plain())
        with (tmp_path / "poses.mcap").open("rb") as file:
            found = [
                (schema.name, message.log_time, json.loads(message.data))
                for schema, _, message in reader.make_reader(file).iter_messages()
            ]
        fixes = [(stamp, message) for name, stamp, message in found if name == "foxglove.LocationFix"]
        assert [stamp for stamp, _ in fixes] == [1 * SECOND_NS, 2 * SECOND_NS, 4 * SECOND_NS, 5 * SECOND_NS]
        assert fixes[0][1]["position_covariance"][0] == 1.0
        assert fixes[0][1]["latitude"] == pytest.approx(49.0, abs=1e-6)
        assert len(found) == 8

    def test_gdal_opens_the_tracks(self, tmp_path: Path):
        raw = pytest.importorskip("pyogrio").raw
        outputs.write_geojson(tmp_path / "track.geojson", FRAMES, Plain())
        outputs.write_gpx(tmp_path / "track.gpx", FRAMES, Plain(), "log")
        found = []
        for name, layer in (("track.geojson", None), ("track.gpx", "tracks"), ("track.gpx", "track_points")):
            meta, _, geometries, _ = raw.read(tmp_path / name, layer=layer)
            found.append((meta["crs"], meta["geometry_type"], len(geometries)))
        assert found == [("EPSG:4326", "LineString", 2), ("EPSG:4326", "MultiLineString", 1), ("EPSG:4326", "Point", 4)]

    def test_the_headline_says_what_is_missing(self):
        assert counts(FRAMES) == {"following": 4, "lost": 2}
        assert headline(FRAMES) == "4 of 6 frames have a pose (67 %); 2 lost"
        assert headline([]) == "0 of 0 frames have a pose (0 %)"

    def test_everything_is_written_and_escaped(self, tmp_path: Path):
        log = log_of(6)
        log.summary.add("warning", "<script>", "alert(1)")
        write_all(tmp_path, log, FRAMES, Plain())
        page = (tmp_path / "report.html").read_text()
        assert "<script>" not in page
        assert "&lt;script&gt;: alert(1)" in page
        assert "© OpenStreetMap contributors" in page
        assert all(colour in page for _, colour in legend())
        assert page.count("<img ") == 1 + 4  # map; heading, standard deviation, confidence, distance from GNSS
        assert "of the log" in page
        told = json.loads((tmp_path / "summary.json").read_text())
        assert told["frames"] == {"following": 4, "lost": 2}
        assert told["input"][0]["notes"][0]["subject"] == "<script>"

    @pytest.mark.parametrize("frames", [[], [tracked(0, False)], [tracked(0)]])
    def test_a_report_of_next_to_nothing(self, tmp_path: Path, frames: list[TrackedFrame]):
        write_all(tmp_path, log_of(1), frames, Plain())
        assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, GeoPose]:
    from bevfusion.datasets.open import open_drive
    from bevfusion.maps.osm import read_osm

    folder = tmp_path_factory.mktemp("street")
    write_town(folder / "town.osm", seed=7)
    options = DriveOptions(sensor="vlp16", frames=5, spacing_m=2.0, columns=512)
    drive = simulate_drive(read_osm(folder / "town.osm"), folder / "drive", options)
    truth = open_drive(drive)[0].truth
    assert truth is not None
    return drive, folder / "town.osm", truth


class TestCommand:
    def test_a_log_is_tracked(self, street: tuple[Path, Path, GeoPose], tmp_path: Path, capsys):
        drive, town, truth = street
        near = f"{truth.lat_deg},{truth.lon_deg},{math.degrees(truth.yaw_rad)}"
        words = [str(drive), "--map", str(town), f"--near={near}", "--output", str(tmp_path / "out"), "--checkpoint"]
        assert main("track", [*words, "classical"]) == 0
        assert "of 5 frames have a pose" in capsys.readouterr().out
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"poses.csv", "poses.tum", "track.geojson", "track.gpx", "summary.json", "report.html"} <= names
        assert main("track", [*words, "classical"]) == 2  # nothing is overwritten
        assert "exists already" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--near", "10,10"], "lies on none of the maps"),
            (["--near", "10,10", "--anywhere"], "exclude each other"),
            (["--start", "99"], "no frame is left of 5"),
            (["--odometry", "truth"], "--odometry is log or kiss-icp"),
        ],
    )
    def test_what_does_not_fit_is_refused_in_one_line(
        self, street: tuple[Path, Path, GeoPose], tmp_path: Path, capsys, options: list[str], message: str
    ):
        drive, town, _ = street
        assert main("track", [str(drive), "--map", str(town), "--output", str(tmp_path / "out"), *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert not (tmp_path / "out").exists()


def test_the_fakes_are_what_they_stand_for():
    assert isinstance(Plain(), MapSource)
    assert isinstance(log_of(1), Drive)
