"""What drives a configuration asks for."""

import pytest

from bevfusion.config import config_from_dict
from bevfusion.datasets.simulated import DriveRequest
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
