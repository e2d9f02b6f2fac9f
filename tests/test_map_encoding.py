"""A city encoded to disk: the same answers, by the same checkpoint on the same tiles alone."""

import math
from pathlib import Path

import pytest
import torch

from bevfusion.build import build_model
from bevfusion.checkpoint import save_checkpoint
from bevfusion.cli import main
from bevfusion.config import Config
from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import CHECKPOINT_NAME, open_localizer
from bevfusion.maps.source import open_map
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two checkpoints, and tiles with the features by the first."""
    folder = tmp_path_factory.mktemp("city")
    base = Config()
    small = {"width": 8, "levels": 3}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    config = base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 16.0}), "model": model})
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build_model(config)
        network.map_encoder.apply(
            lambda part: part.running_mean.normal_() if isinstance(part, torch.nn.BatchNorm2d) else None
        )
        runs.append(folder / f"run{seed}")
        runs[-1].mkdir()
        save_checkpoint(runs[-1] / CHECKPOINT_NAME, network, config, {})
    write_town(folder / "town.osm.gz", 3)
    tiles = folder / "town.tiles"
    assert main("tile", [str(folder / "town.osm.gz"), "--output", str(tiles), "--features", str(runs[0])]) == 0
    return tiles, runs[0], runs[1]


def test_scores_are_those_of_a_map_that_is_encoded_on_the_way(city, town_drive):
    tiles, run, _ = city
    drive, _ = town_drive
    kept = open_localizer(str(run), open_map(tiles))
    other = tiles.with_name("other.tiles")
    other.write_bytes(tiles.read_bytes())
    anew = open_localizer(str(run), open_map(other))
    encoded = []
    kept.model.map_encoder.register_forward_hook(lambda *_: encoded.append(1))
    prior = SE2(10.0, -5.0, 0.4)
    expected, _ = anew.predict(drive[0].scan, prior, 8.0, math.radians(10.0))
    found, _ = kept.predict(drive[0].scan, prior, 8.0, math.radians(10.0))
    assert not encoded
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4 * float(expected.scores.abs().max()))
    x_m, y_m = kept.source.bounds_m[:2]
    far = SE2(x_m - 700.0, y_m, 0.0)  # beyond the file: encoded there, as ever
    torch.testing.assert_close(
        kept.predict(drive[0].scan, far, 4.0, 0.1)[0].scores, anew.predict(drive[0].scan, far, 4.0, 0.1)[0].scores
    )
    assert encoded


def test_another_checkpoint_is_refused(city):
    tiles, _, other = city
    with pytest.raises(
        DataError, match=r"town\.features holds features of another checkpoint .*: move it away, or make"
    ):
        open_localizer(str(other), open_map(tiles))


def test_other_tiles_are_refused(city, tmp_path):
    tiles, run, _ = city
    write_town(tmp_path / "town.osm.gz", 4)
    assert main("tile", [str(tmp_path / "town.osm.gz"), "--output", str(tmp_path / "town.tiles")]) == 0
    tiles.with_suffix(".features").rename(tmp_path / "town.features")
    try:
        with pytest.raises(DataError, match=r"holds features of other tiles than .*town\.tiles"):
            open_localizer(str(run), open_map(tmp_path / "town.tiles"))
    finally:
        (tmp_path / "town.features").rename(tiles.with_suffix(".features"))


def test_a_checkpoint_that_is_none_is_one_line(tmp_path, capsys):
    write_town(tmp_path / "town.osm.gz", 4)
    argv = [str(tmp_path / "town.osm.gz"), "--output", str(tmp_path / "a.tiles"), "--features", "classical"]
    assert main("tile", argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
