"""What passed through the network on the way to an answer.

Nothing here knows one mechanism from another: each is judged by what comes out of its slot against what went in.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from bevfusion.fusion.fuse import channel_gate
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.pose_volume import PoseVolumeHead
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.model import FusionNet, Prediction
from bevfusion.structures import Batch, DataError, Locator, PoseEstimate, Scan

SLOTS = ("scan", "fusion", "refine", "saliency")
_FAINT = 0.01  # of the mean magnitude of a map: what is weaker counts as nothing


@dataclass(frozen=True, slots=True)
class Introspection:
    """One scan's way through the network; attention per cell of the LiDAR features, ego frame, row 0 lowest y."""

    scan: Scan
    estimate: PoseEstimate
    prediction: Prediction  # a batch of one
    batch: Batch
    window: PoseWindow
    grid: Grid  # of the attention
    seen: Bool[np.ndarray, "h w"]  # the scan reached the cell
    attention: Mapping[str, Float[np.ndarray, "h w"]]  # by `SLOTS`; fusion and refinement at the best pose
    lidar_gate: Float[np.ndarray, " c"]  # of each channel, in fusion
    map_gate: Float[np.ndarray, " c"]


@dataclass(frozen=True, slots=True)
class LayerWeight:
    """What one map layer counts."""

    gate: float  # what fusion lets through of the features that this layer writes
    moved: float  # share of the probability that lies elsewhere when the layer is blank, 0 to 1


def spatial_attention(before: Float[Tensor, "b c h w"], after: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """What was let through of each cell, on average over channels: mean |after| / mean |before|.

    For a spatial gate that *is* the gate; for a mechanism that adds or moves it says where it made features stronger.
    A cell with next to nothing in it (a hundredth of the sample's mean) counts 1, or, where something was put, that
    something against the hundredth.
    """
    magnitude = before.float().abs().mean(1, keepdim=True)
    put = after.float().abs().mean(1, keepdim=True)
    floor = _FAINT * magnitude.mean((2, 3), keepdim=True).clamp(min=1e-12)
    return torch.where(magnitude > floor, put / torch.maximum(magnitude, floor), (put / floor).clamp(min=1.0))


def matching_saliency(
    head: PoseVolumeHead, lidar: Float[Tensor, "b c h w"], seen: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, "b 1 h w"]:
    """How loud each cell speaks in the matching: size of its template times its learned confidence.

    All attention before it has passed into this, so it compares networks whatever their mechanisms are.
    """
    return head.weighted_template(lidar.float()).abs().mean(1, keepdim=True) * seen * head.footprint


def introspect(locator: Locator, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> Introspection:
    """Locate a scan (arguments as of `Locator.locate`) and keep what passed through the network.

    Raises:
        DataError: if the locator has no network, or the scan no point inside its range.
    """
    model = _network(locator)
    if model is None:
        raise DataError("there is no network to look into; name a checkpoint")
    with _recorded(model) as calls:
        estimate = locator.locate(scan, prior, offset_m, offset_rad)
    (batch, window), prediction = calls["network"]
    (lidar, seen_map, scene), fused = calls["fusion"]
    with torch.inference_mode():
        gate = channel_gate(torch.cat([lidar, seen_map], dim=1), fused.attended).flatten().float().cpu().numpy()
    lidar_gate, map_gate = np.split(gate, 2)
    return Introspection(
        scan,
        estimate,
        prediction,
        batch,
        window,
        model.feature_grid,
        (scene.seen[0, 0] > 0).cpu().numpy(),
        _attention(model, calls),
        lidar_gate,
        map_gate,
    )


class AttentionHook:
    """Attention of a network's last answer, whoever asked for it; of locators without a network there is none."""

    def __init__(self, locator: Locator) -> None:
        """Keep what passes through the network of a locator until `close`; that costs next to nothing."""
        self._model = _network(locator)
        self._calls: dict[str, tuple[Any, Any]] = {}
        self._handles = [] if self._model is None else _hook(self._model, self._calls)

    def close(self) -> None:
        """Leave the network as it was, and forget its answers."""
        for handle in self._handles:
            handle.remove()
        self._calls.clear()

    def attention(self) -> Mapping[str, Float[np.ndarray, "h w"]] | None:
        """By `SLOTS`, ego frame, row 0 lowest y; cells that the scan did not reach are NaN."""
        if self._model is None or not self._calls:
            return None
        (*_, scene), _ = self._calls["fusion"]
        seen = (scene.seen[0, 0] > 0).cpu().numpy()
        return {slot: np.where(seen, weight, np.nan) for slot, weight in _attention(self._model, self._calls).items()}

    @property
    def half_extent_m(self) -> float:
        """Half the side of the square that the attention covers."""
        return 0.0 if self._model is None else self._model.feature_grid.half_extent_m[0]


@torch.inference_mode()
def layer_weights(model: FusionNet, introspection: Introspection) -> dict[str, LayerWeight]:
    """What every map layer counts that has something on the tile, by blanking one after the other.

    Gates are of channels, and a channel is no layer: the encoder mixes them. What a layer writes into channel c is
    taken as w_c = mean over cells |f_c(tile) - f_c(tile without the layer)|, and its gate is the gates' mean with
    those weights. `moved` is the total variation between the pose volumes with and without the layer.
    """
    tile = introspection.batch.tile
    features = model.map_encoder(tile)
    prob = model(introspection.batch, introspection.window, features).volume.log_prob.exp()
    gate = torch.from_numpy(introspection.map_gate).to(features)
    weights: dict[str, LayerWeight] = {}
    for index, name in enumerate(LAYER_NAMES):
        if not bool(tile[:, index].any()):
            continue
        blank = tile.clone()
        blank[:, index] = 0.0
        left = model.map_encoder(blank)
        written = (features - left).abs().mean((0, 2, 3))
        without = model(replace(introspection.batch, tile=blank), introspection.window, left)
        moved = 0.5 * (prob - without.volume.log_prob.exp()).abs().sum()
        passed = (gate * written).sum() / written.sum().clamp(min=1e-12)
        weights[name] = LayerWeight(float(passed), float(moved))
    return weights


@torch.inference_mode()
def _attention(model: FusionNet, calls: Mapping[str, tuple[Any, Any]]) -> dict[str, Float[np.ndarray, "h w"]]:
    """By `SLOTS`, of the recorded call (a batch of one)."""
    (lidar, seen_map, scene), fused = calls["fusion"]
    _, encoded = calls["lidar_encoder"]
    attention = {
        "scan": spatial_attention(encoded, lidar),
        "fusion": spatial_attention(torch.cat([lidar, seen_map], dim=1), fused.attended),
        "refine": spatial_attention(fused.joined, fused.joint),
        "saliency": matching_saliency(model.pose_volume, lidar, scene.seen),
    }
    return {slot: weight[0, 0].float().cpu().numpy() for slot, weight in attention.items()}


def _network(locator: Locator) -> FusionNet | None:
    """Behind a locator; `structures.Locator`, which knows no networks, cannot say of which class it is."""
    return cast("FusionNet | None", locator.model)


@contextmanager
def _recorded(model: FusionNet) -> Iterator[dict[str, tuple[Any, Any]]]:
    """As of `_hook`, filled while the context lasts."""
    calls: dict[str, tuple[Any, Any]] = {}
    handles = _hook(model, calls)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _hook(model: FusionNet, calls: dict[str, tuple[Any, Any]]) -> list[RemovableHandle]:
    """Keep (inputs, output) of the last call of the network, of its LiDAR encoder and of its fusion."""

    def keeper(name: str) -> Callable[[Any, Any, Any], None]:
        return lambda module, inputs, output: calls.__setitem__(name, (inputs, output))

    parts = (("network", model), ("lidar_encoder", model.lidar_encoder), ("fusion", model.fusion))
    return [module.register_forward_hook(keeper(name)) for name, module in parts]
