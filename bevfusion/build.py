"""From a configuration to objects: the only file that reads its sections and creates parts."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn

from bevfusion.attention import ATTENTION, SLOT_CHOICES, make
from bevfusion.attention.contract import Need, Needs
from bevfusion.config import AttentionConfig, Config, ConfigError, ModelConfig, Option
from bevfusion.fusion.attend import needs_of
from bevfusion.fusion.fuse import JOINS, Fusion
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.blur import BeliefBlur
from bevfusion.heads.direction_field import DirectionFieldHead
from bevfusion.heads.pose_check import PoseCheckHead
from bevfusion.heads.pose_volume import PoseVolumeHead
from bevfusion.heads.road_contrast import RoadContrastHead
from bevfusion.lidar.encoders import RasterEncoder
from bevfusion.lidar.rasterize import bev_channels
from bevfusion.lidar.sparse import SparseEncoder, open_backend
from bevfusion.lidar.voxelize import VoxelGrid
from bevfusion.maps.encoder import MapEncoder
from bevfusion.maps.schema import LAYER_NAMES
from bevfusion.model import FusionNet
from bevfusion.nn import MakeAttention


def build_model(config: Config, layers: Sequence[str] = LAYER_NAMES) -> FusionNet:
    """The network with fresh weights.

    Args:
        config: what it is built from.
        layers: of the map, by name: those that weights were trained with.

    Raises:
        ConfigError: if a mechanism or one of its options does not exist.
        DataError: if maps have no such layer.
    """
    model = config.model
    grid = bev_grid(config)
    features = grid.coarser(model.stride)
    return FusionNet(
        lidar_encoder=_lidar_encoder(config),
        lidar_attention=_of_scan("model.scan", model.scan, model.channels),
        map_encoder=MapEncoder(layers, model.channels, stride=model.stride, **dict(model.map)),
        pose_volume=PoseVolumeHead(
            model.channels, model.heads.match_channels, features, confidence=model.heads.confidence
        ),
        road_contrast=RoadContrastHead(features, model.stride, model.heads.road_contrast),
        blur=BeliefBlur(),
        fusion=_fusion(model),
        pose_check=PoseCheckHead(model.channels, features),
        direction=DirectionFieldHead(model.channels, features) if model.heads.direction else None,
        bev_grid=grid,
        stride=model.stride,
    )


def _lidar_encoder(config: Config) -> nn.Module:
    model, voxels = config.model, voxel_grid(config)
    if voxels is None:
        planes = len(bev_channels(config.bev.slices_m))
        return RasterEncoder(
            planes, model.channels, stride=model.stride, attention=_in_blocks(model.blocks), **dict(model.lidar)
        )
    try:
        backend = open_backend(model.sparse.backend)
    except ImportError as error:
        raise ConfigError(f"model.sparse.backend: {error}, or choose auto") from error
    fine = voxels.plan.height // bev_grid(config).height
    return SparseEncoder(
        model.channels,
        size=voxels.shape,
        fine=fine,
        stride=model.stride,
        backend=backend,
        attention=_in_blocks(model.blocks),
        **dict(model.lidar),
    )


def _in_blocks(section: AttentionConfig) -> MakeAttention:
    """What goes into each residual block of the LiDAR tower."""
    return partial(_of_scan, "model.blocks", section, may_need=frozenset())


def _of_scan(
    key: str, section: AttentionConfig, channels: int, may_need: Needs = frozenset({Need.SEEN, Need.LOSS})
) -> nn.Module:
    """A mechanism of the LiDAR tower, which knows nothing of a map.

    Raises:
        ConfigError: if it needs more than it can be told there.
    """
    mechanism = _attention(key, section.attention, channels, section.options)
    needs = " and ".join(sorted(need.value for need in needs_of(mechanism) - may_need))
    if needs:
        raise ConfigError(f"{key}: '{section.attention}' needs {needs}, which it is not told there")
    return mechanism


def _fusion(model: ModelConfig) -> Fusion:
    """An attention mechanism before concatenation, or one of the other ways to join two branches; then refinement."""
    channels, name, options = model.channels, model.fusion.attention, model.fusion.options
    refinement = _attention("model.refine", model.refine.attention, channels, model.refine.options)
    if name in JOINS:
        return Fusion(nn.Identity(), _made("model.fusion", JOINS, name, channels, options), refinement)
    attention = _attention("model.fusion", name, 2 * channels, options)
    return Fusion(attention, JOINS["concat"](channels), refinement)


def _attention(key: str, name: str, channels: int, options: Mapping[str, Option]) -> nn.Module:
    if name in ATTENTION and name not in SLOT_CHOICES:
        raise ConfigError(f"{key}: '{name}' moves cells, and the heads behind it measure in metres")
    return _made(key, SLOT_CHOICES, name, channels, options)


def _made(
    key: str, choices: Mapping[str, Callable[..., nn.Module]], name: str, channels: int, options: Mapping[str, Option]
) -> nn.Module:
    try:
        return make(choices, name, channels, options)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def bev_grid(config: Config) -> Grid:
    """The raster of a scan, its sides whole multiples of the encoder's coarsest cell."""
    return _divisible(config.bev.range_m, config.bev.cell_m, 2 ** (config.model.lidar.levels - 1))


def voxel_grid(config: Config) -> VoxelGrid | None:
    """The voxels of a scan over the same square, or None where the encoder takes a raster."""
    if config.model.encoder == "raster":
        return None
    bev, sparse = bev_grid(config), config.model.sparse
    fine = round(config.bev.cell_m / sparse.voxel_m)
    plan = Grid(bev.height * fine, bev.width * fine, bev.cell_m / fine)
    return VoxelGrid(plan, sparse.low_m, sparse.layer_m, sparse.layers)


def tile_grid(config: Config, offset_m: float, margin_m: float = 0.0) -> Grid:
    """The raster of a map tile about a prior that may be `offset_m` off, and at least `margin_m` more on each side."""
    reach_m = search_window(config, offset_m, math.pi).reach * config.bev.cell_m * config.model.stride
    half_m = bev_grid(config).half_extent_m[0] + reach_m + margin_m
    return _divisible(half_m, config.bev.cell_m, 2 ** (config.model.map.levels - 1))


def tile_lattice_m(config: Config) -> float:
    """Tiles are centred on whole multiples of this: the encoder's coarsest cells always lie at the same places."""
    return config.bev.cell_m * (1 << (config.model.map.levels - 1))


def search_window(config: Config, offset_m: float, offset_rad: float) -> PoseWindow:
    """The poses to score for a prior within +-offset_m and +-offset_rad."""
    cell_m = config.bev.cell_m * config.model.stride
    # The window is centred on the lattice of tiles: the prior may lie half a step off it.
    yaw_step_rad = math.radians(config.model.heads.yaw_step_deg)
    return PoseWindow(offset_m + 0.5 * tile_lattice_m(config), min(offset_rad, math.pi), cell_m, yaw_step_rad)


def _divisible(half_extent_m: float, cell_m: float, blocks: int) -> Grid:
    """At least +-half_extent_m, with a number of cells that is a multiple of `2 * blocks`."""
    step_m = blocks * cell_m
    return Grid.square(math.ceil(half_extent_m / step_m - 1e-9) * step_m, cell_m)
