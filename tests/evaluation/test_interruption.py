"""Runs that are broken off, runs of some of the frames, and output that nobody asked to replace."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.cli import main
from bevfusion.datasets.drive import FrameSelection, SelectedFrames
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError, Locator, PoseBelief, PoseEstimate, Scan
from tests.evaluation.test_run import FakeDrive

Driven = tuple[KittiRawDrive, MapSource]


class Interrupted(Locator):
    """Answers the prior, and is interrupted once, at the call of a number."""

    def __init__(self, at: int | None = None) -> None:
        self.calls, self.at = 0, at

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float, *_: object) -> PoseEstimate:
        if self.calls == self.at:
            self.at = None
            raise KeyboardInterrupt
        self.calls += 1
        return PoseEstimate(prior, np.diag([1.0, 4.0, 0.01]), 0.1, 0.5, prior)


@pytest.fixture
def locator(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    made = Interrupted()
    monkeypatch.setattr("bevfusion.evaluation.jobs.open_locator", lambda checkpoint, source, *computing: made)
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_: folder.mkdir())
    monkeypatch.setattr("bevfusion.localizer.describe_checkpoint", lambda checkpoint: {"path": checkpoint})
    return made


def words(driven: Driven, output: Path, *options: str) -> list[str]:
    folder = driven[0]._path
    town = next(folder.parent.glob("*.osm.gz"))
    base = ["evaluate", "fake", str(folder), "--map", str(town), "--classical", "0", "--output", str(output)]
    return [*base, *options]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "runtime_ms"} for row in csv.DictReader(file)]


def test_what_was_answered_is_kept_and_not_asked_again(
    town_drive: Driven, locator: Interrupted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(None, words(town_drive, tmp_path / "whole", "--draws", "2")) == 0
    frames = len(town_drive[0])
    assert locator.calls == 2 * frames
    locator.calls, locator.at = 0, 5  # in the middle of the third frame
    assert main(None, words(town_drive, tmp_path / "out", "--draws", "2")) == 130
    kept = tmp_path / "out-finished" / "predictions.csv"
    assert "4 answers are kept" in caplog.text
    assert str(kept) in caplog.text
    assert not (tmp_path / "out").exists()
    whole = rows(tmp_path / "whole" / "predictions.csv")
    assert rows(kept) == whole[:4]  # half a frame is none
    locator.calls = 0
    assert main(None, words(town_drive, tmp_path / "out", "--draws", "2")) == 0
    assert locator.calls == 2 * (frames - 2)
    assert rows(tmp_path / "out" / "predictions.csv") == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_before_the_first_answer_nothing_is_kept(
    town_drive: Driven, locator: Interrupted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locator.at = 0
    assert main(None, words(town_drive, tmp_path / "out")) == 130
    assert "nothing is kept" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_only_some_of_the_frames(town_drive: Driven, locator: Interrupted, tmp_path: Path) -> None:
    assert main(None, words(town_drive, tmp_path / "all")) == 0
    assert main(None, words(town_drive, tmp_path / "some", "--start", "1", "--frames", "2", "--every", "2")) == 0
    every = rows(tmp_path / "all" / "predictions.csv")
    assert rows(tmp_path / "some" / "predictions.csv") == [every[1], every[3]]  # from the same priors


def test_no_frame_at_all_is_one_line(
    town_drive: Driven, locator: Interrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(None, words(town_drive, tmp_path / "out", "--start", "500")) == 2
    assert f"no frame is left of its {len(town_drive[0])}" in capsys.readouterr().err


def test_selected_frames_are_those_of_the_drive() -> None:
    drive = FakeDrive([SE2(float(i)) for i in range(10)])
    numbers = [frame.index for frame in drive]  # type: ignore[attr-defined]
    for selection, expected in (
        (FrameSelection(), numbers),
        (FrameSelection(3), numbers[3:]),
        (FrameSelection(1, 3, 4), numbers[1::4][:3]),
        (FrameSelection(8, 5), numbers[8:]),
    ):
        chosen = SelectedFrames(drive, selection)  # type: ignore[arg-type]
        assert [frame.index for frame in chosen] == expected
        assert len(chosen) == len(expected)
    with pytest.raises(DataError, match="no frame is left of its 10"):
        SelectedFrames(drive, FrameSelection(10))  # type: ignore[arg-type]


def test_without_plots_the_report_has_tables_alone(
    town_drive: Driven, locator: Interrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", None)  # calling it would fail
    assert main(None, words(town_drive, tmp_path / "out", "--no-plots")) == 0
    assert not (tmp_path / "out" / "plots").exists()
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<img" not in text
    assert "Not drawn." in text


def test_a_report_is_replaced_only_when_asked(
    town_drive: Driven, locator: Interrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(None, words(town_drive, output)) == 0
    before = (output / "predictions.csv").read_bytes()
    assert main(None, words(town_drive, output, "--seed", "1")) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "predictions.csv").read_bytes() == before
    assert main(None, words(town_drive, output, "--seed", "1", "--overwrite")) == 0
    assert (output / "predictions.csv").read_bytes() != before
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert main(None, words(town_drive, other)) == 2
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


class Sure(Interrupted):
    """Sees the middle of its window through a volume that is sure of itself."""

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float, *_: object) -> PoseEstimate:
        estimate = super().locate(scan, prior, offset_m, offset_rad)
        window = PoseWindow(offset_m, offset_rad, 1.0, math.radians(2.0))
        y_m, x_m = np.meshgrid(window.shifts_m(), window.shifts_m(), indexing="ij")
        place = 20.0 * np.exp(-(x_m**2 + y_m**2) / 4.0)
        turn = np.exp(-((window.yaw_offsets_rad() / math.radians(4.0)) ** 2))
        logits = torch.from_numpy(turn[:, None, None] * place).float()
        belief = PoseBelief(logits.flatten().log_softmax(0).view(1, *window.shape), window)
        return replace(estimate, belief=belief)


def test_settings_of_the_filter_reach_it_and_are_told(
    town_drive: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Sure()
    monkeypatch.setattr("bevfusion.evaluation.jobs.open_locator", lambda checkpoint, source, *computing: made)
    options = ["--no-plots", "--offset-m", "4", "--odometry", "truth"]
    words_of = [word if word != "fake" else "classical" for word in words(town_drive, tmp_path / "out", *options)]
    assert main(None, [*words_of, "--set", "filter.limits.speak=0.6"]) == 2
    assert "--mode single has none" in capsys.readouterr().err
    in_sequence = [*words_of, "--mode", "filter"]
    assert main(None, [*in_sequence, "--set", "filter.limits.spaek=0.6"]) == 2
    assert "did you mean 'filter.limits.speak'" in capsys.readouterr().err
    assert main(None, [*in_sequence, "--set", "filter.limits.speak=0.97", "--set", "filter.limits.found=0.9"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["protocol"]["filter"] == {"limits.speak": 0.97, "limits.found": 0.9}
    # a start is believed by 0.9: the first frames are doubtful, which they would not be by default
    assert metrics["lost"][town_drive[0].name] > 0
    assert main(None, [*in_sequence, "--overwrite"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "filter" not in metrics["protocol"]
    assert metrics["lost"][town_drive[0].name] == 0
