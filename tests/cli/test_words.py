"""What every subcommand shares: --quiet, --verbose, completion, and the nearest of a mistyped name."""

import json
import logging
from pathlib import Path

import pytest

from bevfusion.cli import main
from bevfusion.cli.verbosity import PACKAGE
from bevfusion.progress import frame_progress
from bevfusion.structures import DataError
from tests.test_cli import drive_path, map_path  # noqa: F401 -- fixtures


def said(capsys: pytest.CaptureFixture[str], words: list[str], command: str) -> str:
    assert main(command, words) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("command", "words", "near"),
    [
        ("train", ["fusion_cbm"], "did you mean 'fusion_cbam'?"),
        ("simulate", ["town:1", "--output", "nowhere", "--sensor", "vlp-16"], "did you mean 'vlp16'?"),
        ("benchmark", ["attnetion"], "did you mean 'attention'?"),
    ],
)
def test_a_mistyped_name_is_answered_by_the_nearest(capsys, tmp_path, monkeypatch, command, words, near):
    monkeypatch.chdir(tmp_path)
    assert near in said(capsys, words, command)


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["defualt"], "did you mean 'default'?"),
        (["clasical"], "did you mean 'classical'?"),
        (["default", "--mode", "singel"], "did you mean 'single'?"),
        (["default", "--odometry", "kissicp"], "did you mean 'kiss-icp'?"),
    ],
)
def test_names_of_evaluate(capsys, drive_path, map_path, words, near):  # noqa: F811
    assert near in said(capsys, [words[0], str(drive_path), "--map", str(map_path), *words[1:]], "evaluate")


@pytest.mark.parametrize(
    ("words", "near"),
    [(["--odometry", "kis-icp"], "did you mean 'kiss-icp'?"), (["--checkpoint", "defualt"], "did you mean 'default'?")],
)
def test_names_of_track(capsys, drive_path, map_path, monkeypatch, words, near):  # noqa: F811
    def too_early(*_: object) -> None:
        raise AssertionError("minutes of KISS-ICP before a mistyped name is told")

    monkeypatch.setattr("bevfusion.datasets.odometry.with_kiss_icp", too_early)
    assert near in said(capsys, [str(drive_path), "--map", str(map_path), *words], "track")


@pytest.mark.parametrize("command", ["track", "evaluate"])
def test_who_gives_no_map_learns_how_to_come_by_one(capsys, drive_path, command):  # noqa: F811
    words = [str(drive_path)] if command == "track" else ["default", str(drive_path)]
    assert "Missing option '--map'. Give a file, or auto" in said(capsys, words, command)


@pytest.mark.parametrize(("command", "more"), [("evaluate", []), ("locate", ["--near", "49.0,8.4"])])
def test_who_forgets_the_checkpoint_is_told_where_it_stands(capsys, drive_path, map_path, command, more):  # noqa: F811
    message = said(capsys, [str(drive_path), "--map", str(map_path), *more], command)
    assert f"A CHECKPOINT stands before it: {command} default" in message


def test_a_goal_is_asked_for_without_a_heading(capsys, drive_path, map_path):  # noqa: F811
    message = said(capsys, [str(drive_path), "--map", str(map_path), "--to", "8.4"], "track")
    assert "--to expects LAT,LON in degrees, e.g. 49.01,8.42, got '8.4'" in message


def test_a_log_that_is_none_is_told_what_was_meant(capsys, drive_path, map_path, tmp_path):  # noqa: F811
    assert "it looks like a map, which stands behind --map" in said(
        capsys, [str(map_path), "--map", str(drive_path)], "track"
    )
    bag = tmp_path / "monday"
    bag.mkdir()
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    (bag / "monday_0.mcap").write_bytes(b"")
    told = said(capsys, [str(bag / "metadata.yaml"), "--map", str(map_path)], "track")
    assert f"not a drive itself, but {bag}: give one of them" in told
    parent = tmp_path / "recorded"
    parent.mkdir()
    drive_path.rename(parent / "tuesday")
    assert f"not a drive itself, but {parent / 'tuesday'}: give one of them" in said(capsys, [str(parent)], "info")
    (parent / "notes.txt").write_text("nothing")
    assert "not a drive that is read here; read are: " in said(capsys, [str(parent / "notes.txt")], "info")


def test_quiet_and_verbose_hold_for_one_run(drive_path, monkeypatch, caplog, capsys):  # noqa: F811
    levels: list[int] = []

    def refuse(path: Path, options: object) -> None:
        levels.append(PACKAGE.level)
        with frame_progress("nothing", 1) as show:
            show(1, 1)
        raise DataError("no drive today")

    monkeypatch.setattr("bevfusion.datasets.open.open_drive", refuse)
    with caplog.at_level(logging.INFO):
        assert main("info", [str(drive_path), "-q"]) == 2
        assert caplog.records == []
        assert main("info", [str(drive_path)]) == 2
        assert [record.message for record in caplog.records if "nothing: 1 of 1" in record.message] != []
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        assert main("info", [str(drive_path), "--verbose"]) == 2
    assert levels == [logging.WARNING, logging.NOTSET, logging.DEBUG]
    refused = [record for record in caplog.records if record.exc_info]
    assert len(refused) == 1
    assert "no drive today" in str(refused[0].exc_info)
    assert PACKAGE.level == logging.NOTSET
    capsys.readouterr()
    assert main("info", [str(drive_path), "-q", "-v"]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bevfusion evaluate de", ["default"]),
        ("bevfusion train fusion_cbam_l", ["fusion_cbam_large"]),
        ("bevfusion simulate town:1 --sensor hdl", ["hdl64e", "hdl32e"]),
        ("bevfusion evaluate --mode s", ["single", "smooth"]),
        ("bevfusion tra", ["train", "track"]),
    ],
)
def test_the_shell_is_offered_names(monkeypatch, capsys, line, offered):
    monkeypatch.setenv("_BEVFUSION_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        main(None, [])
    assert ended.value.code in (0, None)
    assert sorted(capsys.readouterr().out.split()) == sorted(offered)


def test_info_of_a_drive_on_a_map(drive_path, map_path, tmp_path, capsys):  # noqa: F811
    words = [str(drive_path), "--map", str(map_path)]
    assert main("info", [*words, "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "coverage: 2 of 2 places of the drive that were looked at lie on the map" in told
    assert "streets that the drive passes:" in told
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["streets.geojson", "streets.png"]
    assert "is there already" in said(capsys, [*words, "--output", str(tmp_path / "out")], "info")
    assert main("info", [*words, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["maps"][0]
    assert about["covered"] == {"places": 2, "covered": 2}
    assert about["box"] == pytest.approx([48.995, 8.39, 49.005, 8.41], abs=1e-4)
    assert 1 <= about["expected_spread"]["pieces"] <= 4
    middle = about["expected_spread"]["median"]
    assert middle["along_m"] > 8.0  # a straight road and nothing else
    assert middle["across_m"] < 0.7 * middle["along_m"]


def test_info_of_a_map_alone(map_path, capsys):  # noqa: F811
    assert main("info", ["--map", str(map_path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["maps"][0]
    assert "covered" not in about
    assert about["expected_spread"]["pieces"] > 50  # 1.6 km
    assert "expected a drive, or --map" in said(capsys, [], "info")
    assert "does not exist" in said(capsys, ["--map", str(map_path) + "x"], "info")


def test_info_of_a_drive_off_the_map(drive_path, map_path, capsys):  # noqa: F811
    for number in range(2):
        (drive_path / f"oxts/data/{number:010d}.txt").write_text("8.4 49.0 110 0 0 1.0\n")
    assert main("info", [str(drive_path), "--map", str(map_path)]) == 0
    told = capsys.readouterr().out
    assert "coverage: none of 2 places of the drive lies on the map" in told
    assert "latitude and longitude swapped?" in told
    assert "streets that the drive passes: none on" in told
