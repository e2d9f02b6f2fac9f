"""What is asked beside: the training-free matcher's row, and other traffic."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevfusion.classical.locator import ClassicalLocator
from bevfusion.cli import main
from bevfusion.datasets.drive import Derived
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.evaluation.protocol import AuxiliaryChecks, Protocol
from bevfusion.evaluation.report import terminal_rows
from bevfusion.evaluation.run import evaluate
from bevfusion.evaluation.scoring import DriveScorer, classical_estimates, traffic_shifts
from bevfusion.maps.source import MapSource
from bevfusion.structures import Frame, Scan

NEAR = Protocol(offset_m=6.0, offset_deg=5.0)
Driven = tuple[KittiRawDrive, MapSource]


class Blinded(Derived):
    """A drive whose last scan sees nothing within reach."""

    def __getitem__(self, position: int) -> Frame:
        frame = self._drive[position]
        far = Scan(np.full((3, 3), 500.0, np.float32), np.zeros(3, np.float32))
        return frame if position < len(self) - 1 else replace(frame, scan=far)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())


def test_it_is_asked_for_some_frames_what_the_network_is_asked_for_all(town_drive: Driven) -> None:
    drive, source = town_drive
    alone = {p.frame_index: p for p in DriveScorer(ClassicalLocator, drive, [source], NEAR).run().estimates}
    beside = classical_estimates(DriveScorer(ClassicalLocator, drive, [source], NEAR), 3)
    assert [p.frame_index for p in beside] == [0, 2, 5]  # of six
    for prediction in beside:
        assert prediction.prior == alone[prediction.frame_index].prior
        assert prediction.estimate == alone[prediction.frame_index].estimate


def test_no_frames_and_sequences_have_no_such_row(town_drive: Driven) -> None:
    drive, source = town_drive
    assert classical_estimates(DriveScorer(ClassicalLocator, drive, [source], NEAR), 0) == []
    assert classical_estimates(DriveScorer(ClassicalLocator, drive, [source], replace(NEAR, mode="filter")), 3) == []


def test_a_scan_that_it_cannot_use_costs_the_row_not_the_evaluation(
    town_drive: Driven, caplog: pytest.LogCaptureFixture
) -> None:
    drive, source = town_drive
    assert classical_estimates(DriveScorer(ClassicalLocator, Blinded(drive), [source], NEAR), 2) == []
    assert "no classical row" in caplog.text


def test_the_row_stands_under_the_network_s(town_drive: Driven, tmp_path: Path) -> None:
    drive, source = town_drive
    checks = AuxiliaryChecks(classical=2)
    report = evaluate(ClassicalLocator, [drive], [source], NEAR, tmp_path / "out", {"path": "net"}, checks)
    lines = terminal_rows(report)
    assert [name for name, _, _ in lines] == ["network", "classical", "chance", drive.name]
    assert [frames for _, frames, _ in lines] == ["6", "2", "", "6"]
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["classical"]["frames"] == 2
    assert set(written["classical"]["calibration"]) == set(written["calibration"])
    page = (tmp_path / "out/report.html").read_text()
    assert "classical: no weights, same priors" in page
    assert "2 of the frames" in page


def test_on_the_command_line(town_drive: Driven, tmp_path: Path) -> None:
    """Asked for unless told not to, in any number of processes; but not beside itself."""
    folder = town_drive[0]._path
    town = next(folder.parent.glob("*.osm.gz"))

    def section(name: str, checkpoint: str, *options: str) -> dict | None:
        words = [
            "evaluate",
            checkpoint,
            "--map",
            str(town),
            "--offset-m",
            "6",
            *options,
            "--output",
            str(tmp_path / name),
        ]
        assert main(None, [*words, str(folder), *([str(folder)] if "--jobs" in options else [])]) == 0
        found: dict | None = json.loads((tmp_path / name / "metrics.json").read_text())["classical"]
        return found

    one = section("one", "default")
    two = section("two", "default", "--classical", "2", "--jobs", "2")
    assert one is not None
    assert two is not None
    assert (one["frames"], two["frames"]) == (6, 4)
    assert section("none", "default", "--classical", "0") is None
    assert section("itself", "classical") is None


def test_traffic_is_not_asked_of_sequences_nor_unasked(town_drive: Driven) -> None:
    drive, source = town_drive
    assert traffic_shifts(DriveScorer(ClassicalLocator, drive, [source], NEAR), 0) == []
    assert traffic_shifts(DriveScorer(ClassicalLocator, drive, [source], replace(NEAR, mode="filter")), 2) == []


def test_a_scan_that_it_cannot_use_costs_the_traffic_not_the_evaluation(
    town_drive: Driven, caplog: pytest.LogCaptureFixture
) -> None:
    drive, source = town_drive
    assert traffic_shifts(DriveScorer(ClassicalLocator, Blinded(drive), [source], NEAR), 6) == []
    assert "no other traffic in" in caplog.text


def test_traffic_on_the_command_line(
    town_drive: Driven, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table, metrics.json, a section of the report and its picture; two maps of the same place do not count twice."""
    monkeypatch.undo()  # with pictures
    folder = town_drive[0]._path
    town = str(next(folder.parent.glob("*.osm.gz")))
    out = tmp_path / "out"
    words = ["evaluate", "default", str(folder), "--map", town, "--map", town, "--offset-m", "6", "--classical", "0"]
    assert main(None, [*words, "--traffic", "2", "--output", str(out)]) == 0
    found = json.loads((out / "metrics.json").read_text())["traffic"]
    assert list(found) == ["inserted_10", "inserted_20", "inserted_40", "hidden_40", "removed", "inserted"]
    assert {done: section["scans"] for done, section in found.items()} == dict.fromkeys(found, 2) | {"inserted": 6}
    assert found["hidden_40"]["changed_percent"] == pytest.approx(found["inserted_40"]["changed_percent"])
    assert (out / "plots/traffic.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert "40 vehicles put in" in page
    assert "Other traffic" in page
    assert "How far other traffic moves the answer" in capsys.readouterr().out
    assert main(None, [*words, "--output", str(tmp_path / "without")]) == 0
    assert json.loads((tmp_path / "without/metrics.json").read_text())["traffic"] is None
    assert "Other traffic" not in (tmp_path / "without/report.html").read_text()


def test_traffic_in_a_sequence_is_refused(
    town_drive: Driven, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(town_drive[0]._path)
    town = str(next(town_drive[0]._path.parent.glob("*.osm.gz")))
    words = ["evaluate", "default", folder, "--map", town, "--mode", "filter", "--traffic", "2"]
    assert main(None, [*words, "--output", str(tmp_path / "out")]) == 2
    assert "--traffic asks frames one by one" in capsys.readouterr().err
