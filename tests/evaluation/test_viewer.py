"""Recordings for the rerun viewer."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bevfusion.cli import main
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.simulated import map_file
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.scoring import DriveScorer
from bevfusion.localizer import open_localizer
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError

pytest.importorskip("rerun", reason="rerun-sdk is an extra")

from bevfusion.evaluation.viewer import Recorder, show


def test_a_recording_holds_scan_map_belief_and_attention(
    tmp_path: Path, town_drive: tuple[KittiRawDrive, MapSource]
) -> None:
    drive, source = town_drive
    recorder = Recorder(tmp_path / "deep" / "a.rrd", "a")
    scorer = DriveScorer(
        lambda one: open_localizer("default", one), drive, [source], Protocol(offset_m=10.0), recorder=recorder
    )
    answers = scorer.run()
    recorder.close()
    assert len(answers.estimates) == len(drive)
    words = [sys.executable, "-m", "rerun", "rrd", "print", "-v", str(tmp_path / "deep" / "a.rrd")]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    wanted = ("scan", "map", "poses/truth", "poses/estimate", "trajectories/truth", "belief/place", "belief/heading")
    for entity in (*wanted, "attention/fusion", "attention/refine", "attention/saliency", "plots/position_m"):
        assert f"/{entity}" in printed, entity
    assert "/nothing" not in printed


def test_the_command_leaves_a_recording_beside_the_report(
    tmp_path: Path, town_drive: tuple[KittiRawDrive, MapSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())
    folder = shutil.copytree(town_drive[0]._path, tmp_path / "a drive")
    map_path = map_file("town:7", tmp_path)
    words = ["evaluate", "classical", str(folder), "--map", str(map_path), "--output", str(tmp_path / "out")]
    options = ["--offset-m", "2", "--offset-deg", "4", "--viewer"]
    assert main(None, [*words, *options]) == 0
    assert (tmp_path / "out" / "viewer" / "a_drive.rrd").stat().st_size > 10_000
    scan = sorted((folder / "velodyne_points" / "data").iterdir())[-1]
    scan.write_bytes(b"12345")
    shutil.rmtree(tmp_path / "out")
    assert main(None, [*words, *options]) == 2
    assert not list(tmp_path.rglob("*.rrd"))


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.rrd recording"):
        show([tmp_path])
