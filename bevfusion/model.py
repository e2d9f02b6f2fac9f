"""The network: the flow figure as code."""

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from bevfusion.fusion.align import map_in_ego
from bevfusion.fusion.fuse import Fusion
from bevfusion.fusion.refine import Refinement
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.direction import DirectionHead
from bevfusion.heads.pose_volume import PoseVolumeHead
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
        self.bev_grid = bev_grid
        self.stride = stride

    @property
    def feature_grid(self) -> Grid:
        """Raster of the LiDAR features."""
        return self.bev_grid.coarser(self.stride)

    def forward(self, batch: Batch, window: PoseWindow) -> Prediction:
        """Score the poses of `window` about the prior of each sample; the window's cells are feature cells."""
        lidar = self.lidar_encoder(batch.bev)
        map_features = self.map_encoder(batch.tile)
        map_grid = Grid(map_features.shape[-2], map_features.shape[-1], self.feature_grid.cell_m)
        seen_map = map_in_ego(map_features, batch.prior_yaw_rad.to(map_features), map_grid, self.feature_grid)
        fused = self.refinement(self.fusion(lidar, map_features, seen_map))
        never_seen = batch.bev[:, -1:]  # the last plane of `rasterize`
        seen = F.avg_pool2d(1.0 - never_seen, self.stride)
        volume = self.pose_volume(fused.lidar, seen, fused.map, batch.prior_yaw_rad, window)
        direction = self.direction(fused.joint, volume)
        return Prediction(volume, direction, fused)
