import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.build import build_model, search_window, tile_grid
from bevfusion.checkpoint import load_weights, read_checkpoint
from bevfusion.cli import main
from bevfusion.config import Config
from bevfusion.datasets.simulated import map_file
from bevfusion.export.network import example_inputs, export_tile_grid
from bevfusion.export.write import write_export
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.rasterize import rasterize
from bevfusion.localizer import open_localizer
from bevfusion.structures import Batch, DataError, Scan

OFFSET_M, OFFSET_DEG = 20.0, 10.0  # what the command `locate` looks through


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, small_checkpoint: str) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra onnx")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_export(small_checkpoint, path, OFFSET_M, OFFSET_DEG)
    return path


def test_onnxruntime_says_what_torch_says(town_drive, small_checkpoint: str, onnx_file: Path):
    from bevfusion.export.runtime import OnnxLocator

    drive, source = town_drive
    onnx, torch_ = OnnxLocator(onnx_file, source), open_localizer(small_checkpoint, source)
    for index, count in enumerate((len(drive[0].scan), 3000, 77)):  # the number of points is not part of the graph
        scan = drive[index].scan.select(np.arange(count))
        truth = source.frame.map_from_ego(drive[index].truth)
        prior = SE2(truth.x_m + 2.3, truth.y_m - 1.2, truth.yaw_rad + 0.05)
        got, expected = (way.locate(scan, prior, OFFSET_M, math.radians(OFFSET_DEG)) for way in (onnx, torch_))
        assert got.belief is not None
        assert expected.belief is not None
        torch.testing.assert_close(got.belief.log_prob, expected.belief.log_prob, atol=1e-3, rtol=0)
        assert got.heading_std_rad == pytest.approx(expected.heading_std_rad, abs=1e-3)
        assert got.prior == expected.prior
        assert got.map_from_ego.x_m == pytest.approx(expected.map_from_ego.x_m, abs=0.01)
        assert got.probability_here == pytest.approx(expected.probability_here, abs=1e-3)


def test_another_window_is_refused(town_drive, onnx_file: Path):
    from bevfusion.export.runtime import OnnxLocator

    drive, source = town_drive
    localizer = OnnxLocator(onnx_file, source)
    with pytest.raises(DataError, match="--offset-deg 180"):
        localizer.locate(drive[0].scan, SE2(), OFFSET_M, math.pi)
    far = Scan(np.full((3, 3), 1e4, np.float32), np.ones(3, np.float32))
    with pytest.raises(DataError, match="none of the scan's 3 points"):
        localizer.locate(far, SE2(), OFFSET_M, math.radians(OFFSET_DEG))


@pytest.mark.parametrize("content", [b"", b"no protobuf at all"])
def test_what_is_no_export_is_refused(town_drive, onnx_file: Path, tmp_path: Path, content: bytes):
    from bevfusion.export.runtime import OnnxLocator

    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.onnx"):
        OnnxLocator(tmp_path / "bad.onnx", town_drive[1])


def test_a_package_of_torch_export(small_checkpoint: str, small_config: Config, tmp_path: Path):
    path = tmp_path / "model.pt2"
    write_export(small_checkpoint, path, OFFSET_M, OFFSET_DEG)
    about = {"bevfusion": ""}
    program = torch.export.load(path, extra_files=about).module()
    assert json.loads(about["bevfusion"])["offset_deg"] == OFFSET_DEG
    loaded = read_checkpoint(Path(small_checkpoint))
    model = build_model(loaded.config).eval()
    load_weights(model, loaded.weights, small_checkpoint)
    for count in (5, 4000):
        xyz, height_m, intensity, tile, yaw_rad, contrast = example_inputs(
            count, 24, export_tile_grid(small_config, OFFSET_M).height, model.feature_grid.height
        )
        with torch.inference_mode():
            volume, log_odds = program(xyz, height_m, intensity, tile, yaw_rad, contrast)
            bev = rasterize(xyz, height_m, intensity, model.bev_grid, small_config.bev.slices_m)
            window = search_window(small_config, OFFSET_M, math.radians(OFFSET_DEG))
            size = tile_grid(small_config, OFFSET_M).height
            margin = (tile.shape[-1] - size) // 2
            part = slice(margin // 2, (margin + size) // 2)
            expected = model(
                Batch(bev[None], tile[..., margin:-margin, margin:-margin], yaw_rad, contrast=contrast),
                window,
                model.map_encoder(tile)[..., part, part],
            )
        torch.testing.assert_close(volume, expected.volume.log_prob, atol=1e-3, rtol=0)
        torch.testing.assert_close(log_odds, expected.here, atol=1e-3, rtol=1e-3)


def test_the_command_locates_by_either_backend(
    town_drive, onnx_file: Path, small_checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scan, place = town_drive[0][0].scan, town_drive[0][0].truth
    np.save(tmp_path / "scan.npy", np.column_stack([scan.xyz, scan.intensity]).astype(np.float32))
    town = str(map_file("town:7", tmp_path))
    near = f"--near={place.lat_deg},{place.lon_deg},{math.degrees(place.yaw_rad)}"
    words = [str(tmp_path / "scan.npy"), "--map", town, near, "--json"]
    assert main("locate", [small_checkpoint, *words, "--precision", "float32"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main("locate", [str(onnx_file), *words, "--backend", "onnx"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["x_m"], got["y_m"]) == pytest.approx((expected["x_m"], expected["y_m"]), abs=0.01)
    assert got["heading_deg"] == pytest.approx(expected["heading_deg"], abs=0.05)
    assert main("locate", [str(onnx_file), *words, "--backend", "onnx", "--explain", str(tmp_path / "pictures")]) == 2
    assert main("locate", [str(onnx_file), *words, "--backend", "onnx", "--precision", "bfloat16"]) == 2
    anywhere = [*words[:3], near.rsplit(",", 1)[0], "--backend", "onnx"]  # no heading: every one is asked for
    assert main("locate", [str(onnx_file), *anywhere]) == 2
    assert "--offset-deg 180" in capsys.readouterr().err


def test_bad_usage_is_one_line(small_checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main("export", [small_checkpoint, "--output", str(tmp_path / "model.pb")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main("export", [str(tmp_path / "none"), "--output", str(tmp_path / "model.pt2")]) == 2
    assert not list(tmp_path.iterdir())
