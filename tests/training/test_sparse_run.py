"""The sparse encoder through the whole of the program: train, stop, resume, evaluate, locate, explain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.cli import main
from bevfusion.config import Config, config_from_dict
from bevfusion.datasets.samples import PoseSamples
from bevfusion.datasets.simulated import map_file
from bevfusion.evaluation.trained import evaluate_run
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import introspect, layer_weights
from bevfusion.lidar.sparse import SparseEncoder
from bevfusion.localizer import open_localizer
from bevfusion.structures import DataError, Scan
from bevfusion.training.run import train


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    values = {
        "bev": {"range_m": 12.0},
        "search": {"offset_m": 4.0},
        "model": {
            "channels": 8,
            "encoder": "sparse",
            "sparse": {"voxel_m": 0.25, "layers": 8, "backend": "reference"},
            "lidar": {"width": 4, "levels": 2},
            "map": {"width": 4, "levels": 2},
        },
        "simulation": {
            **{key: ["town:7"] for key in ("train", "val", "test")},
            "frames": 4,
            "eval_frames": 2,
            "spacing_m": 12.0,
            "sensors": ["vlp16"],
            "columns": 128,
            "cache": str(tmp_path_factory.mktemp("cache")),
        },
        "train": {"steps": 4, "validate_every": 2, "batch_size": 2, "warmup_steps": 1, "workers": 0},
    }
    return config_from_dict(values, "test")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "sparse"
    train(config, folder, evaluate=evaluate_run)
    return folder


def test_a_run_ends_with_an_evaluation(run):
    assert (run / "evaluation" / "metrics.json").is_file()


def test_a_resumed_run_ends_with_the_same_weights(run, config, tmp_path, monkeypatch):
    original = PoseSamples.__getitem__

    def fail_in_the_second_half(self, position):
        if self.variation.turn and self.span[position] >= 4:
            raise KeyboardInterrupt
        return original(self, position)

    monkeypatch.setattr(PoseSamples, "__getitem__", fail_in_the_second_half)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(config, tmp_path / "half")
    monkeypatch.undo()
    train(config, None, tmp_path / "half" / "checkpoints" / "last.ckpt")
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == config.train.steps  # also if the last epoch was no better than one before
    whole = last["state_dict"]
    resumed = torch.load(tmp_path / "half" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weights in whole.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_locate_finds_a_pose_in_the_window(run, config, town_drive, tmp_path, capsys):
    drive, _ = town_drive
    scan = drive[0].scan
    np.save(tmp_path / "scan.npy", np.column_stack([scan.xyz, scan.intensity]).astype(np.float32))
    at = drive[0].truth
    near = f"{at.lat_deg},{at.lon_deg},90"
    town = map_file("town:7", Path(config.simulation.cache))
    assert main("locate", [str(run), str(tmp_path / "scan.npy"), "--map", str(town), "--near", near, "--json"]) == 0
    assert "confidence" in capsys.readouterr().out


def test_an_export_is_refused(run, tmp_path, capsys):
    assert main("export", [str(run), "--output", str(tmp_path / "model.pt2")]) == 2
    assert "sparse convolutions have no form in ONNX" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_scan_out_of_range_is_one_line(run, town_drive):
    localizer = open_localizer(str(run), town_drive[1])
    assert isinstance(localizer.model.lidar_encoder, SparseEncoder)
    far = Scan(np.full((5, 3), 500.0, np.float32), np.zeros(5, np.float32))
    with pytest.raises(DataError, match="points lies within"):
        localizer.locate(far, SE2(), 5.0, 0.1)


def test_points_seen_but_in_no_voxel_still_give_a_pose(run, town_drive, monkeypatch):
    drive, source = town_drive
    localizer = open_localizer(str(run), source)
    monkeypatch.setattr(localizer, "_voxel_grid", replace(localizer._voxel_grid, low_m=1000.0))
    estimate = localizer.locate(drive[0].scan, source.frame.map_from_ego(drive[0].truth), 4.0, 0.1)
    assert np.isfinite(estimate.covariance).all()


def test_pictures_of_attention_know_the_voxels(run, town_drive):
    drive, source = town_drive
    localizer = open_localizer(str(run), source)
    introspection = introspect(localizer, drive[0].scan, source.frame.map_from_ego(drive[0].truth), 4.0, 0.1)
    assert introspection.batch.voxels is not None
    assert all(np.isfinite(weight.moved) for weight in layer_weights(localizer.model, introspection).values())
