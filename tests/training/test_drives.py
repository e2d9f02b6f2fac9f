"""What drives a configuration asks for."""

from pathlib import Path

import pytest

from bevfusion.config import ConfigError, config_from_dict
from bevfusion.datasets.simulated import DriveRequest
from bevfusion.simulate.sensor import sensor_name, sensor_of
from bevfusion.structures import DataError
from bevfusion.training.drives import prepare_drives


def test_maps_take_sensors_and_traffic_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DriveRequest] = []
    monkeypatch.setattr("bevfusion.training.drives.make_drives", lambda requests, cache: asked.extend(requests))
    simulation = {
        "train": ["town:1", "town:2", "town:3"],
        "val": ["town:4"],
        "test": ["town:5"],
        "frames": 7,
        "eval_frames": 3,
        "sensors": ["vlp16", "hdl32e"],
        "vehicles": [2.5, 0.5, 1.5],
        "map_warp_m": 0.4,
    }
    prepare_drives(config_from_dict({"seed": 9, "simulation": simulation}, "here"))
    assert [(r.spec, r.options.sensor, r.options.vehicles, r.options.frames) for r in asked] == [
        ("town:1", "vlp16", 2.5, 7),
        ("town:2", "hdl32e", 0.5, 7),
        ("town:3", "vlp16", 1.5, 7),
        ("town:4", "vlp16", 2.5, 3),
        ("town:5", "vlp16", 2.5, 3),
    ]
    assert {(r.options.seed, r.options.map_warp_m) for r in asked} == {(9, 0.4)}


def test_validation_drives_may_have_a_seed_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a map can train and validate: another seed drives other streets of it."""
    asked: list[DriveRequest] = []
    monkeypatch.setattr("bevfusion.training.drives.make_drives", lambda requests, cache: asked.extend(requests))
    simulation = {"train": ["town:1"], "val": ["town:1"], "test": ["town:5"], "val_seed": 0}
    prepare_drives(config_from_dict({"seed": 9, "simulation": simulation}, "here"))
    assert [(r.spec, r.options.seed) for r in asked] == [("town:1", 9), ("town:1", 0), ("town:5", 9)]


def test_sensors_may_be_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a file or in the configuration; they fire as often as they say, those by name as the configuration says."""
    asked: list[DriveRequest] = []
    monkeypatch.setattr("bevfusion.training.drives.make_drives", lambda requests, cache: asked.extend(requests))
    file = tmp_path / "mine.yaml"
    file.write_text("elevations_deg: [2, -2, -4]\ncolumns: 900")
    inline = {"name": "flat", "elevations_deg": [0.0], "columns": 400, "range_noise_m": 0.01}
    simulation = {"train": [f"town:{i}" for i in range(4)], "val": ["town:4"], "test": ["town:5"], "columns": 512}
    prepare_drives(config_from_dict({"simulation": {**simulation, "sensors": ["vlp16", str(file), inline]}}, "here"))
    assert [(sensor_name(r.options.sensor), r.options.columns) for r in asked[:4]] == [
        ("vlp16", 512),
        ("mine", None),
        ("flat", None),
        ("vlp16", 512),
    ]
    assert [sensor_of(r.options.sensor).columns for r in asked[1:3]] == [900, 400]
    assert sensor_of(asked[2].options.sensor).noise_m == 0.01


@pytest.mark.parametrize(
    ("sensor", "told"),
    [
        ({"elevations_deg": [1.0]}, "simulation.sensors.0: expected columns"),
        ({"elevation_deg": [1.0], "columns": 99}, "unknown key 'simulation.sensors.0.elevation_deg'; did you mean"),
        (3, "simulation.sensors.0"),
    ],
)
def test_a_sensor_that_is_none_is_refused(sensor: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        config_from_dict({"simulation": {"sensors": [sensor]}}, "here")
    assert "<" not in str(error.value)  # pydantic's marks of the kind that it took the value for


def test_a_mistyped_sensor_is_answered_by_the_nearest() -> None:
    config = config_from_dict({"simulation": {"sensors": ["hdl63e"], "train": ["town:1"]}}, "here")
    with pytest.raises(DataError, match="did you mean 'hdl64e'"):
        prepare_drives(config)
