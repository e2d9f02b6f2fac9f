"""Weights with their configuration and origin in one safetensors file; nothing in it can run code."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bevfusion.config import Config, ConfigError, config_from_dict
from bevfusion.files import atomic_file
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.structures import DataError

_FORMAT = "bevfusion-2"
_FORMER = "bevfusion-1"  # of networks that mixed scan and map before they were matched
# the map's layers when files did not name them yet; it stays as it is, whatever layers are added
_LAYERS_UNNAMED = (
    *("road", "path", "parking", "building", "vegetation", "water", "rail", "building_outline", "wall", "fence"),
    *("hedge", "kerb", "tree_row", "road_centre", "road_cos2", "road_sin2", "oneway_cos", "oneway_sin", "junction"),
    *("tree", "pole", "lamp", "sign", "signal"),
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network, still apart from its code."""

    config: Config
    weights: dict[str, Tensor]
    provenance: dict[str, str]  # seed, commit, hardware, date, ...
    sha256: str
    layers: tuple[str, ...]  # of the map, in the order of the weights


def save_checkpoint(
    path: Path,
    model: nn.Module,
    config: Config,
    provenance: dict[str, str],
    layers: Sequence[str] = LAYER_NAMES,
) -> None:
    """Write weights, configuration, provenance and the names of the map's layers; whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        "format": _FORMAT,
        "config": config.model_dump_json(),
        "provenance": json.dumps(provenance),
        "layers": json.dumps(list(layers)),
    }
    with atomic_file(path) as draft:
        save_file(weights, draft, metadata=metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    Raises:
        DataError: if it is missing, no safetensors file, or none of ours.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file: {error}") from error
    if metadata.get("format") == _FORMER:
        raise DataError(f"{path}: a checkpoint of an earlier version, whose network was another: train it anew")
    if metadata.get("format") != _FORMAT:
        raise DataError(f"{path}: not a bevfusion checkpoint (format {metadata.get('format')!r}, expected {_FORMAT!r})")
    try:
        config = config_from_dict(json.loads(metadata["config"]), f"{path}: configuration inside the checkpoint")
        provenance = json.loads(metadata["provenance"])
        layers = tuple(json.loads(metadata["layers"])) if "layers" in metadata else _LAYERS_UNNAMED
    except (KeyError, json.JSONDecodeError, ConfigError) as error:
        raise DataError(f"{path}: its configuration cannot be read by this version: {error}") from error
    return Checkpoint(config, weights, provenance, hashlib.sha256(path.read_bytes()).hexdigest(), layers)


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Put weights into a network of the same architecture.

    Raises:
        DataError: if names or shapes differ, naming the first that does.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(own.keys() | theirs.keys()):
        if own.get(name) != theirs.get(name):
            raise DataError(
                f"{origin}: a checkpoint of another architecture: '{name}' is {theirs.get(name, 'absent')} there "
                f"and {own.get(name, 'absent')} here"
            )
    model.load_state_dict(weights)
