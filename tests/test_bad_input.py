"""Wrong input through the whole command: one line on standard error, exit status 2, nothing half-written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bevfusion.checkpoint import save_checkpoint
from bevfusion.cli import main
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.maps.osm import read_osm
from bevfusion.simulate.drive import DriveOptions, simulate_drive


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> tuple[Path, Path]:
    """The folder of a drive of two frames, to be spoilt, and its map."""
    cache = tmp_path_factory.mktemp("town")
    map_path = map_file("town:7", cache)
    options = DriveOptions(sensor="vlp16", frames=2, spacing_m=5.0, columns=256)
    return simulate_drive(read_osm(map_path), cache / "whole", options), map_path


@pytest.fixture
def drive(town, tmp_path) -> Path:
    shutil.copytree(town[0], tmp_path / "drive", ignore=shutil.ignore_patterns("labels"))
    return tmp_path / "drive"


def scans(drive: Path) -> list[Path]:
    return sorted((drive / "velodyne_points" / "data").glob("*.bin"))


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """Run a subcommand that must fail on its input; the line it says."""
    status = main(None, [str(word) for word in words])
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert status == 2, error
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def evaluate(drive: Path, map_path: Path, output: Path, checkpoint: str | Path = "classical") -> tuple[str | Path, ...]:
    return ("evaluate", checkpoint, drive, "--map", map_path, "--output", output)


def test_a_truncated_scan(capsys, drive, town, tmp_path):
    path = scans(drive)[1]
    path.write_bytes(path.read_bytes()[:-5])
    assert path.name in refused(capsys, *evaluate(drive, town[1], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_empty_scan(capsys, drive, town, tmp_path):
    scans(drive)[0].write_bytes(b"")
    assert scans(drive)[0].name in refused(capsys, *evaluate(drive, town[1], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_scan_of_nothing_but_nan(capsys, drive, town, tmp_path):
    path = scans(drive)[0]
    np.full((100, 4), np.nan, np.float32).tofile(path)
    assert path.name in refused(capsys, *evaluate(drive, town[1], tmp_path / "out"))


def test_some_nan_points_are_left_out(drive, town, tmp_path):
    path = scans(drive)[0]
    values = np.fromfile(path, np.float32).reshape(-1, 4)
    np.concatenate([values, np.full((100, 4), np.nan, np.float32)]).tofile(path)
    assert main(None, [str(word) for word in evaluate(drive, town[1], tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_a_map_that_does_not_cover_the_drive(capsys, drive, tmp_path):
    elsewhere = map_file("town:8", tmp_path)
    assert "cover" in refused(capsys, *evaluate(drive, elsewhere, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"<osm version='0.6'><node id=", b"not a map at all"])
def test_a_broken_map(capsys, drive, tmp_path, content: bytes):
    path = tmp_path / "broken.osm"
    path.write_bytes(content)
    assert "broken.osm" in refused(capsys, *evaluate(drive, path, tmp_path / "out"))


def test_files_that_are_not_there(capsys, drive, town, tmp_path):
    assert "nothing.osm" in refused(capsys, *evaluate(drive, tmp_path / "nothing.osm", tmp_path / "out"))
    assert "nodrive" in refused(capsys, *evaluate(tmp_path / "nodrive", town[1], tmp_path / "out"))
    assert "no.safetensors" in refused(capsys, *evaluate(drive, town[1], tmp_path / "out", "no.safetensors"))
    assert "noconfig.yaml" in refused(capsys, "train", tmp_path / "noconfig.yaml")


def test_a_checkpoint_of_another_architecture(capsys, drive, town, tmp_path):
    save_checkpoint(tmp_path / "other.safetensors", nn.Linear(2, 2), Config(), {})
    words = evaluate(drive, town[1], tmp_path / "out", tmp_path / "other.safetensors")
    assert "another architecture" in refused(capsys, *words)
    torch.save({}, tmp_path / "pickle.safetensors")
    assert "pickle" in refused(capsys, *evaluate(drive, town[1], tmp_path / "out", tmp_path / "pickle.safetensors"))


def test_an_unknown_configuration_key(capsys, tmp_path):
    (tmp_path / "c.yaml").write_text("model: {fusion: {attentoin: se}}")
    assert "model.fusion.attention" in refused(capsys, "train", tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("model: {fusion: {attention: cbma}}")
    assert "cbam" in refused(capsys, "train", tmp_path / "c.yaml", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_place_off_the_map(capsys, drive, town):
    words = ("locate", "classical", scans(drive)[0], "--map", town[1], "--near", "0,0")
    assert "none of the maps" in refused(capsys, *words)


def test_a_simulation_that_cannot_start(capsys, tmp_path):
    assert "vlp16" in refused(capsys, "simulate", "town:1", "--output", tmp_path / "out", "--sensor", "vlp32")
    assert "town:SEED" in refused(capsys, "simulate", "town:x", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
