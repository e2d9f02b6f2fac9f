"""Recordings for the rerun viewer."""

import subprocess
import sys
from pathlib import Path

import pytest

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.scoring import Scorer
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
    scorer = Scorer(
        lambda one: open_localizer("default", one), drive, [source], Protocol(offset_m=10.0), recorder=recorder
    )
    answers = scorer.run()
    recorder.close()
    assert len(answers.predictions) == len(drive)
    words = [sys.executable, "-m", "rerun", "rrd", "print", "-v", str(tmp_path / "deep" / "a.rrd")]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    wanted = ("scan", "map", "poses/truth", "poses/estimate", "courses/truth", "belief/place", "belief/heading")
    for entity in (*wanted, "attention/fusion", "attention/refine", "attention/votes", "plots/position_m"):
        assert f"/{entity}" in printed, entity
    assert "/nothing" not in printed


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.rrd recording"):
        show([tmp_path])
