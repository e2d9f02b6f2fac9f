"""One drive, written out in every format, through the whole command: what is predicted is the same."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import Frame
from tests.datasets.drive_writing import FORMATS

# An angle moved by 1e-9 rad moves the raster's points across cell borders: float32 rounding of 50 m is 4e-6 m.
SAME_M, SAME_RAD, SAME_CONFIDENCE = 1e-3, 1e-4, 1e-3


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())


def predictions(path: Path, map_path: Path, output: Path, *options: str) -> dict[int, np.ndarray]:
    """By stamp: prior, truth and estimate, and the confidence last."""
    words = ["evaluate", "default", str(path), "--map", str(map_path), "--output", str(output), *options]
    assert main(None, words) == 0
    with (output / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f"{pose}_{value}" for pose in ("prior", "truth", "estimate") for value in ("x_m", "y_m", "yaw_rad")]
    return {int(row["stamp_ns"]): np.array([float(row[name]) for name in (*names, "confidence")]) for row in rows}


def compared(tmp_path: Path, frames: list[Frame], map_path: Path, *options: str) -> None:
    found = {}
    for number, (kind, write) in enumerate(FORMATS.items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        found[kind] = predictions(write(folder, frames), map_path, tmp_path / f"out{number}", *options)
        shutil.rmtree(folder)
    first = found.pop("KITTI raw")
    assert list(first) == [frame.stamp_ns for frame in frames]
    for kind, other in found.items():
        assert list(other) == list(first), kind
        difference = np.abs(np.array(list(first.values())) - np.array(list(other.values())))
        assert difference[:, [0, 1, 3, 4, 6, 7]].max() < SAME_M, kind
        assert difference[:, [2, 5, 8]].max() < SAME_RAD, kind
        assert difference[:, 9].max() < SAME_CONFIDENCE, kind


def test_every_reader_leads_to_the_same_predictions(tmp_path: Path) -> None:
    options = DriveOptions(sensor="vlp16", frames=3, spacing_m=1.2, columns=512)
    drive = simulated_drive("town:501", options, tmp_path / "cache")
    compared(tmp_path, list(drive), map_file("town:501", tmp_path / "cache"))
