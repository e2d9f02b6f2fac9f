"""The network: the flow figure as code."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.fusion.align import map_in_ego
from bevfusion.fusion.attend import Refinement, Scene
from bevfusion.fusion.fuse import Fusion
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.blur import BeliefBlur
from bevfusion.heads.direction import DirectionHead
from bevfusion.heads.pose_volume import PoseVolumeHead
from bevfusion.maps.schema import layer_index
from bevfusion.structures import Batch, DirectionBelief, Fused, PoseBelief


@dataclass(frozen=True, slots=True)
class Prediction:
    """All that the network says of a batch."""

    volume: PoseBelief
    direction: DirectionBelief
    fused: Fused


class FusionNet(nn.Module):
    """LiDAR raster and map tile to beliefs over pose and heading."""

    def __init__(
        self,
        *,
        lidar_encoder: nn.Module,
        map_encoder: nn.Module,
        fusion: Fusion,
        refinement: Refinement,
        pose_volume: PoseVolumeHead,
        direction: DirectionHead,
        blur: BeliefBlur,
        bev_grid: Grid,
        stride: int,
    ) -> None:
        """Parts come built (`build.py`); both encoders end at `stride` BEV cells a feature cell."""
        super().__init__()
        self.lidar_encoder = lidar_encoder
        self.map_encoder = map_encoder
        self.fusion = fusion
        self.refinement = refinement
        self.pose_volume = pose_volume
        self.direction = direction
        self.blur = blur
        self.bev_grid = bev_grid
        self.stride = stride

    @property
    def feature_grid(self) -> Grid:
        """Raster of the LiDAR features."""
        return self.bev_grid.coarser(self.stride)

    def forward(
        self, batch: Batch, window: PoseWindow, map_features: Float[Tensor, "b c hm wm"] | None = None
    ) -> Prediction:
        """Score the poses of `window` about the prior of each sample.

        Args:
            batch: scans and tiles.
            window: its cells are feature cells.
            map_features: what `map_encoder` makes of the tiles, where that is known already.
        """
        scan = (batch.bev,) if batch.voxels is None else (batch.bev, batch.voxels)
        lidar = self.lidar_encoder(*scan)
        map_features = self.map_encoder(batch.tile) if map_features is None else map_features
        map_grid = Grid(map_features.shape[-2], map_features.shape[-1], self.feature_grid.cell_m)
        scene = self._scene(batch)
        seen_map = map_in_ego(map_features, batch.prior_yaw_rad, map_grid, self.feature_grid)
        fused = self.fusion(lidar, map_features, seen_map, scene)
        fused = self.refinement(fused, scene)
        volume = self.pose_volume(fused.lidar, scene.seen, fused.map, batch.prior_yaw_rad, window)
        direction = self.direction(fused.joint, volume)
        if not self.training:  # a loss sees what the network says itself
            volume = self.blur(volume)
        return Prediction(volume, direction, fused)

    def _scene(self, batch: Batch) -> Scene:
        """Which cells the scan reached, and the mapped road's direction in the ego frame if the prior were right."""
        never_seen = batch.bev[:, -1:]  # the last plane, whichever encoder they are for
        seen = 1.0 - F.max_pool2d(never_seen, self.stride)
        tile_grid = Grid(batch.tile.shape[-2], batch.tile.shape[-1], self.bev_grid.cell_m)
        doubled = batch.tile[:, [layer_index("road_cos2"), layer_index("road_sin2")]]
        cos2, sin2 = map_in_ego(doubled, batch.prior_yaw_rad, tile_grid, self.feature_grid).unbind(1)
        turn = -2.0 * batch.prior_yaw_rad[:, None, None]
        road = torch.stack([turn.cos() * cos2 - turn.sin() * sin2, turn.sin() * cos2 + turn.cos() * sin2], dim=1)
        return Scene(seen, road)
