"""Weights with their configuration and origin in one safetensors file; nothing in it can run code.

The file carries a digest of all that: a bit that has changed since it was written is noticed when it is read.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bevfusion.config import Config, ConfigError, config_from_dict
from bevfusion.files import atomic_file
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.parsing import parse_json
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

_FORMAT = "bevfusion-3"
_WITHOUT_DIGEST = "bevfusion-2"  # what was written before: read still, with a note
_LACKED = {"road_contrast.weight": 0.0}  # tensors that earlier files have not: with these they answer as they did
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
    metadata["digest"] = _digest(weights, metadata)
    with atomic_file(path) as draft:
        save_file(weights, draft, metadata=metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that `save_checkpoint` wrote.

    One of earlier versions has no digest: it is read, and the log says that nothing vouches for its weights.

    Raises:
        DataError: if it is missing, no safetensors file, none of ours, or was changed after it was written.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, RuntimeError, MemoryError) as error:
        raise DataError(f"{path}: not a readable safetensors file: {' '.join(str(error).split())[:200]}") from error
    written_as = metadata.get("format", "none")
    if written_as == _FORMER:
        raise DataError(f"{path}: a checkpoint of an earlier version, whose network was another: train it anew")
    if written_as == _WITHOUT_DIGEST:
        log.info("%s: of a version that wrote no digest: whether its weights are as written is not known", path)
    elif written_as != _FORMAT:
        raise DataError(f"{path}: not a bevfusion checkpoint (format {written_as[:40]!r}, expected {_FORMAT!r})")
    elif metadata.get("digest") != _digest(weights, metadata):
        raise DataError(f"{path}: damaged: its content is not what was written (its digest does not fit)")
    try:
        values = parse_json(metadata["config"], "its configuration")
        provenance = parse_json(metadata["provenance"], "its provenance")
        if not isinstance(values, dict) or not isinstance(provenance, dict):
            raise DataError("expected keys and values")
        config = config_from_dict(values, "configuration inside the checkpoint")
        layers = _LAYERS_UNNAMED
        if "layers" in metadata:
            named = parse_json(metadata["layers"], "its map layers")
            if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
                raise DataError("expected names of map layers")
            layers = tuple(named)
    except (KeyError, DataError, ConfigError) as error:
        raise DataError(f"{path}: its configuration cannot be read by this version: {error}") from error
    words = {str(key): str(value) for key, value in provenance.items()}
    return Checkpoint(config, weights, words, hashlib.sha256(path.read_bytes()).hexdigest(), layers)


def _digest(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, and over the words beside them."""
    digest = hashlib.sha256()
    for key in ("format", "config", "provenance", "layers"):
        digest.update(f"{key} {metadata.get(key, '')}\n".encode())
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(model: nn.Module, weights: dict[str, Tensor], origin: str, *, may_lack: str = "") -> None:
    """Put weights into a network of the same architecture.

    Args:
        model: changed in place.
        weights: of a checkpoint.
        origin: its name, for messages.
        may_lack: a part that is kept as it is where the checkpoint has nothing of it.

    Raises:
        DataError: if names or shapes differ, naming the first that does.
    """
    lacking = {name: torch.tensor(value) for name, value in _LACKED.items() if name in model.state_dict()}
    weights = lacking | weights
    if may_lack and not any(name.startswith(f"{may_lack}.") for name in weights):
        kept = {name: value for name, value in model.state_dict().items() if name.startswith(f"{may_lack}.")}
        weights = weights | kept
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(own.keys() | theirs.keys()):
        if own.get(name) != theirs.get(name):
            raise DataError(
                f"{origin}: a checkpoint of another architecture: '{name}' is {theirs.get(name, 'absent')} there "
                f"and {own.get(name, 'absent')} here"
            )
    model.load_state_dict(weights)
