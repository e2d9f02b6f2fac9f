"""The map's tower takes the layers that it knows by name."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bevfusion.build import build_model
from bevfusion.checkpoint import read_checkpoint, save_checkpoint
from bevfusion.config import Config, config_from_dict
from bevfusion.localizer import open_network
from bevfusion.maps.encoder import MapEncoder
from bevfusion.maps.schema import LAYER_NAMES, layer_index
from bevfusion.nn import UNet
from bevfusion.structures import DataError

FEW = ("building", "road")
SMALL = {"channels": 8, "lidar": {"width": 4, "levels": 2}, "map": {"width": 4, "levels": 2}}


@pytest.fixture
def config() -> Config:
    return config_from_dict({"bev": {"range_m": 16.0}, "model": SMALL}, "here")


def test_layers_are_fed_by_name():
    encoder = MapEncoder(FEW, 8, width=4, levels=2)
    plain = UNet(2, 8, width=4, levels=2, norm=nn.BatchNorm2d)
    plain.load_state_dict(encoder.state_dict())
    tile = torch.rand(1, len(LAYER_NAMES), 16, 16)
    chosen = tile[:, [layer_index("building"), layer_index("road")]]
    torch.testing.assert_close(encoder(tile), plain(chosen), rtol=0, atol=0)


def test_a_checkpoint_of_fewer_layers_than_maps_have_now_is_read(config, tmp_path):
    """As one that was trained before a layer was added."""
    torch.manual_seed(0)
    model = build_model(config, FEW).eval()
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model, config, {}, model.map_encoder.layers)
    opened, loaded = open_network(str(path))
    assert loaded.layers == FEW
    tile = torch.rand(1, len(LAYER_NAMES), 32, 32)
    torch.testing.assert_close(opened.eval().map_encoder(tile), model.map_encoder(tile), rtol=0, atol=0)


def test_a_layer_that_maps_do_not_have_is_refused_in_one_line(config, tmp_path):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build_model(config, FEW), config, {}, ("building", "moonlight"))
    with pytest.raises(DataError, match="map layers that this version does not draw: moonlight") as error:
        open_network(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_names_no_layers_has_those_of_its_time(config, tmp_path):
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build_model(config), config, {})
    with safe_open(path, framework="pt") as file:
        metadata, weights = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(metadata.pop("layers")) == list(LAYER_NAMES)
    del metadata["digest"]
    metadata["format"] = "bevfusion-2"  # the last that named none
    save_file(weights, path, metadata=metadata)
    layers = read_checkpoint(path).layers
    assert (len(layers), layers[0], layers[3], layers[-1]) == (24, "road", "building", "signal")
    assert set(layers) <= set(LAYER_NAMES)
    open_network(str(path))
