"""The command line: help, exit status, what reaches the parts behind it. No network is trained here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from bevfusion.cli import main
from bevfusion.cli.options import parse_extrinsics, parse_near, parse_topics
from bevfusion.filters.settings import FilterConfig
from bevfusion.geometry.se2 import SE2
from bevfusion.precision import chosen_precision
from bevfusion.structures import Locator, PoseEstimate, Scan

REPOSITORY = Path(__file__).resolve().parents[1]
OSM = """<?xml version='1.0' encoding='UTF-8'?>
<osm version="0.6"><bounds minlat="48.995" minlon="8.390" maxlat="49.005" maxlon="8.410"/>
<node id="1" lat="48.996" lon="8.391"/><node id="2" lat="49.004" lon="8.409"/>
<way id="9"><nd ref="1"/><nd ref="2"/><tag k="highway" v="residential"/></way></osm>
"""

COMMANDS = (
    "train", "evaluate", "locate", "track", "info", "simulate", "tile", "map", "compare", "ablate", "benchmark",
    "gap", "export", "stress",
)  # fmt: skip


@pytest.fixture
def map_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.osm"
    path.write_text(OSM)
    return path


@pytest.fixture
def drive_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_drive"
    for folder in ("velodyne_points/data", "oxts/data"):
        (path / folder).mkdir(parents=True)
    (path / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: 0 0 0\n")
    (path / "oxts/timestamps.txt").write_text("2011-09-26 13:00:00.0\n2011-09-26 13:00:00.1\n")
    for number in range(2):
        (path / f"oxts/data/{number:010d}.txt").write_text("49.0 8.4 110 0 0 1.0\n")
        np.full((50, 4), 0.5, np.float32).tofile(path / f"velodyne_points/data/{number:010d}.bin")
    return path


class Guessing(Locator):
    """Answers the prior and keeps what it was asked."""

    asked: list[tuple[SE2, float, float]]

    def __init__(self) -> None:
        self.asked = []

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        self.asked.append((prior, offset_m, offset_rad))
        return PoseEstimate(prior, np.diag([1.0, 4.0, 0.01]), 0.1, 0.5, prior)


@pytest.fixture
def locator(monkeypatch: pytest.MonkeyPatch) -> Guessing:
    guessing = Guessing()
    monkeypatch.setattr("bevfusion.evaluation.jobs.open_locator", lambda checkpoint, source, *computing: guessing)
    monkeypatch.setattr("bevfusion.localizer.open_locator", lambda checkpoint, source, *computing: guessing)
    monkeypatch.setattr("bevfusion.localizer.describe_checkpoint", lambda checkpoint: {"path": checkpoint})
    monkeypatch.setattr("bevfusion.localizer.filter_config", lambda checkpoint, overrides=(): FilterConfig())
    return guessing


def fails_in_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Standard error of a call that must end with status 2."""
    assert main(None, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(None, arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_the_package_itself_is_the_command_line() -> None:
    """`python -m bevfusion`, where no script is on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "bevfusion", "trakc"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "track" in done.stderr


@pytest.mark.parametrize("subcommand", COMMANDS)
def test_help_of_every_tool(subcommand: str) -> None:
    """`tools/NAME.py --help` works, names itself, and imports neither torch nor anything else heavy."""
    code = (
        f"import runpy, sys; sys.argv = ['{subcommand}.py', '--help']\n"
        f"try: runpy.run_path({str(REPOSITORY / 'tools' / (subcommand + '.py'))!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'lightning', 'open3d', 'osmium', 'pyproj'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Usage: tools/{subcommand}.py [OPTIONS]" in done.stdout


def test_a_tool_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "tools/evaluate.py"), str(tmp_path / "no.safetensors"), str(tmp_path)]
    done = subprocess.run(
        [*command, "--map", str(tmp_path / "no.osm")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no.osm" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["train", "absent.yaml"],
        ["evaluate", "c", "d"],
        ["locate", "c", "s", "--map", __file__, "--near", "north"],
        ["simulate", "town:x", "--output", "/tmp/never"],
        ["tile", "absent.osm", "--output", "/tmp/never.tiles"],
        ["tile", __file__, "--output", "/tmp/never.tiles"],
        ["simulate", "absent.osm", "--output", "/tmp/never"],
        ["simulate", "town:1", "--output", "/tmp/never", "--frames", "0"],
        ["simulate", "town:1", "--output", "/tmp/never", "--set", "missing=2"],
        ["simulate", "town:1", "--output", "/tmp/never", "--set", "missing=0.6", "--set", "shifted=0.6"],
        ["simulate", "town:1", "--output", "/tmp/never", "--set", "columns=8"],
        ["simulate", "town:1", "--output", "/tmp/never", "--set", "cars=2"],
        ["simulate", "town:1", "--output", "/tmp/never", "--set", "vehicles=many"],
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    fails_in_one_line(capsys, arguments)


def test_simulate_reads_former_names_and_says_the_present_ones(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    line = fails_in_one_line(capsys, ["simulate", "town:1", "--output", "/tmp/never", "--set", "swerve_m=9"])
    assert "map_warp_m=9" in line
    assert "'swerve_m' is called 'map_warp_m' now" in caplog.text


def test_a_bad_configuration_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("modle: {}\n")
    assert "modle" in fails_in_one_line(capsys, ["train", str(config)])


def test_train_passes_on_what_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bevfusion.evaluation.trained import evaluate_run

    calls: list[tuple] = []
    monkeypatch.setattr(
        "bevfusion.training.run.train", lambda *given, **options: calls.append((*given, options["evaluate"]))
    )
    config = tmp_path / "config.yaml"
    config.write_text("{}\n")
    assert main("train", [str(config), "--set", "seed=7", "--output", str(tmp_path / "run")]) == 0
    ((loaded, output, resume, scored),) = calls
    assert (loaded.seed, output, resume, scored) == (7, tmp_path / "run", None, evaluate_run)


def test_evaluate_writes_its_report(
    capsys: pytest.CaptureFixture[str], locator: Guessing, drive_path: Path, map_path: Path, tmp_path: Path
) -> None:
    options = ["--offset-deg", "180", "--draws", "2", "--output", str(tmp_path / "out")]
    assert main("evaluate", ["some.safetensors", str(drive_path), "--map", str(map_path), *options]) == 0
    report = json.loads((tmp_path / "out/metrics.json").read_text())
    assert report["frames"] == 2
    assert report["protocol"]["offset_deg"] == 180.0
    assert report["checkpoint"] == {"path": "some.safetensors", "precision": chosen_precision("auto")}
    assert len(locator.asked) == 4
    assert {asked[2] for asked in locator.asked} == {math.pi}
    out = capsys.readouterr().out
    assert "tiny_drive" in out
    assert str(tmp_path / "out") in out


@pytest.mark.usefixtures("locator")
@pytest.mark.parametrize(
    ("options", "message"),
    [(["--mode", "guess"], "mode is one of single"), (["--offset-m", "-1"], "offset_m is a positive distance")],
)
def test_protocols_without_sense(
    capsys: pytest.CaptureFixture[str], drive_path: Path, map_path: Path, options: list[str], message: str
) -> None:
    assert message in fails_in_one_line(capsys, ["evaluate", "c", str(drive_path), "--map", str(map_path), *options])


@pytest.mark.usefixtures("locator")
def test_a_broken_scan_ends_the_run(
    capsys: pytest.CaptureFixture[str], drive_path: Path, map_path: Path, tmp_path: Path
) -> None:
    broken = drive_path / "velodyne_points/data/0000000001.bin"
    broken.write_bytes(b"12345")
    arguments = ["evaluate", "c", str(drive_path), "--map", str(map_path), "--output", str(tmp_path / "out")]
    assert broken.name in fails_in_one_line(capsys, arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("locator")
def test_unreadable_input_is_bad_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, drive_path: Path, map_path: Path
) -> None:
    def refuse(path: Path, options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path / "oxts"))

    monkeypatch.setattr("bevfusion.evaluation.run.open_drive", refuse)
    message = fails_in_one_line(capsys, ["evaluate", "c", str(drive_path), "--map", str(map_path)])
    assert message == f"error: {drive_path}/oxts: Permission denied\n"


@pytest.mark.usefixtures("locator")
@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(2, "No such file", "/usr/lib/inside.so")])
def test_bugs_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, drive_path: Path, map_path: Path, error: Exception
) -> None:
    def fail(path: Path, options: object) -> None:
        raise error

    monkeypatch.setattr("bevfusion.evaluation.run.open_drive", fail)
    with pytest.raises(type(error)):
        main("evaluate", ["c", str(drive_path), "--map", str(map_path)])


def test_locate_as_json(
    capsys: pytest.CaptureFixture[str], locator: Guessing, drive_path: Path, map_path: Path
) -> None:
    scans = sorted(str(path) for path in (drive_path / "velodyne_points/data").iterdir())
    assert main("locate", ["c", *scans, "--map", str(map_path), "--near=49.001,8.399,90", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["scan"] for line in lines] == scans
    assert set(lines[0]) >= {"lat", "lon", "heading_deg", "x_m", "y_m", "covariance", "confidence"}
    assert (lines[0]["lat"], lines[0]["lon"]) == pytest.approx((49.001, 8.399), abs=1e-9)
    assert lines[0]["heading_deg"] == pytest.approx(90.0)
    assert np.shape(lines[0]["covariance"]) == (3, 3)
    assert {asked[1:] for asked in locator.asked} == {(20.0, math.radians(10.0))}
    # 111 m north and 73 m west of the centre of the map's box
    assert (lines[0]["x_m"], lines[0]["y_m"]) == pytest.approx((-73.1, 111.2), abs=0.5)


def test_locate_without_heading_tries_all(
    capsys: pytest.CaptureFixture[str], locator: Guessing, drive_path: Path, map_path: Path
) -> None:
    scan = str(drive_path / "velodyne_points/data/0000000000.bin")
    assert main("locate", ["c", scan, "--map", str(map_path), "--near", "49.001,8.399"]) == 0
    assert locator.asked[0][2] == math.pi
    assert "0000000000.bin" in capsys.readouterr().out


@pytest.mark.usefixtures("locator")
@pytest.mark.parametrize("options", [["--json"], []])
def test_locate_prints_the_answers_it_has(
    capsys: pytest.CaptureFixture[str], drive_path: Path, map_path: Path, options: list[str]
) -> None:
    good = sorted((drive_path / "velodyne_points/data").iterdir())
    bad = drive_path / "bad.bin"
    bad.write_bytes(bytes(33))
    scans = [str(good[0]), str(bad), str(good[1])]
    assert main("locate", ["c", *scans, "--map", str(map_path), "--near", "49.001,8.399", *options]) == 2
    captured = capsys.readouterr()
    assert all(path.name in captured.out for path in good)
    assert "bad.bin" not in captured.out
    assert captured.err.startswith("error: 1 of 3 scans failed: ")
    assert captured.err.count("\n") == 1
    assert "bad.bin" in captured.err


@pytest.mark.usefixtures("locator")
def test_locate_takes_the_names_of_columns(capsys: pytest.CaptureFixture[str], tmp_path: Path, map_path: Path) -> None:
    path = tmp_path / "scan.bin"
    np.column_stack([np.full(50, 9.0), np.ones((50, 3)), np.zeros(50)]).astype("<f4").tofile(path)
    arguments = ["c", str(path), "--map", str(map_path), "--near", "49.001,8.399"]
    assert main("locate", [*arguments, "--columns", "_,x,y,z,intensity"]) == 0
    capsys.readouterr()
    assert "unknown type" in fails_in_one_line(capsys, ["locate", *arguments, "--columns", "x,y,z:no"])


@pytest.mark.usefixtures("locator")
def test_locate_off_the_map(capsys: pytest.CaptureFixture[str], drive_path: Path, map_path: Path) -> None:
    scan = str(drive_path / "velodyne_points/data/0000000000.bin")
    message = fails_in_one_line(capsys, ["locate", "c", scan, "--map", str(map_path), "--near=-33.9,18.4"])
    assert "--near -33.900000, 18.400000 lies on none of the maps (tiny: latitude " in message
    assert "swapped" not in message
    swapped = fails_in_one_line(capsys, ["locate", "c", scan, "--map", str(map_path), "--near=8.4,49.0"])
    assert swapped.endswith("; latitude and longitude swapped?\n")


def test_near() -> None:
    assert parse_near("49.01, 8.42") == (49.01, 8.42, None)
    assert parse_near("-33.9,18.4,-90") == (-33.9, 18.4, -90.0)
    for text in ("", "49", "49,8,7,6", "49;8", "nan,8", "inf,8", "91,8", "49,181", "49,8,x"):
        with pytest.raises(typer.BadParameter, match="--near"):
            parse_near(text)


@pytest.mark.parametrize(("given", "drive"), [("town:7", "drive"), ("MAP", ".")])
def test_simulate_says_where_things_are(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    map_path: Path,
    given: str,
    drive: str,
) -> None:
    calls = []
    monkeypatch.setattr("bevfusion.datasets.simulated.write_town", lambda path, seed: path.write_text(OSM))
    monkeypatch.setattr("bevfusion.maps.reading.read_features", lambda path: path)
    monkeypatch.setattr(
        "bevfusion.simulate.drive.simulate_drive", lambda *given, **named: calls.append((*given, named))
    )
    source = str(map_path) if given == "MAP" else given
    words = ["--output", str(tmp_path / "out"), "--frames", "3", "--spacing-m", "2.5"]
    assert main("simulate", [source, *words, "--set", "vehicles=2.5", "--set", "columns=512", "--packed"]) == 0
    ((osm, folder, options, show, named),) = calls
    assert named == {"packed": True, "keep_interrupted": True}
    assert folder == tmp_path / "out" / drive
    assert osm == (map_path if given == "MAP" else tmp_path / "out/town_7.osm.gz")
    assert (options.frames, options.spacing_m, options.seed, options.sensor) == (3, 2.5, 0, "hdl64e")
    assert (options.vehicles, options.columns) == (2.5, 512)
    show(1, 3)
    assert str(folder) in capsys.readouterr().out.replace("\n", "")


def test_topics_are_pairs_of_a_part_and_a_name():
    assert parse_topics(["lidar=/top/points", "gnss=/fix"]) == (("lidar", "/top/points"), ("gnss", "/fix"))


@pytest.mark.parametrize("word", ["/points", "camera=/image", "lidar="])
def test_a_wrong_topic_is_bad_usage(word: str):
    with pytest.raises(typer.BadParameter, match="PART=NAME"):
        parse_topics([word])


@pytest.mark.parametrize("text", ["1 2 3 0 0 1.5", "1,2,3,0,0,1.5"])
def test_extrinsics_are_written_as_for_the_node(text: str):
    assert parse_extrinsics(text) == (1.0, 2.0, 3.0, 0.0, 0.0, 1.5)


@pytest.mark.parametrize("text", ["1 2 3", "1 2 3 0 0 90", "1 2 3 0 0 0 0", "1 2 3 a b c"])
def test_wrong_extrinsics_are_bad_usage(text: str):
    with pytest.raises(typer.BadParameter, match="extrinsics"):
        parse_extrinsics(text)


def test_info_says_what_a_drive_is_made_of(drive_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("info", [str(drive_path)]) == 0
    assert f"{drive_path.name}: " in capsys.readouterr().out
    assert main("info", [str(drive_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["source"], said["odometry"], said["frames"]) == (drive_path.name, "none", 2)
    assert isinstance(said["notes"], list)
    assert main("info", [str(drive_path / "nothing")]) == 2
