"""The network: the flow figure as code."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.attention.contract import AuxiliaryLoss, Need
from bevfusion.fusion.align import map_in_ego
from bevfusion.fusion.attend import Scene, attend, needs_of
from bevfusion.fusion.fuse import Fusion
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.blur import BeliefBlur
from bevfusion.heads.direction_field import DirectionFieldHead, LearnedField
from bevfusion.heads.pose_check import PoseCheckHead
from bevfusion.heads.pose_volume import PoseVolumeHead, belief_of, best_pose
from bevfusion.heads.road_contrast import RoadContrastHead
from bevfusion.heads.verdict import log_odds_here
from bevfusion.maps.encoder import MapEncoder, layer_values
from bevfusion.maps.schema import layer_index
from bevfusion.structures import Batch, Fused, PoseBelief, PoseCheck


@dataclass(frozen=True, slots=True)
class ScanFeatures:
    """What the LiDAR tower makes of scans, ego frame."""

    lidar: Float[Tensor, "b c h w"]
    seen: Float[Tensor, "b 1 h w"]  # 1 where the scan reached the cell
    auxiliary_losses: tuple[AuxiliaryLoss, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """All that the network says of a batch; poses are offsets from the prior: x, y in m (map axes), yaw in rad."""

    scan: ScanFeatures
    map_features: Float[Tensor, "b c hm wm"]  # tile frame
    scores: Float[Tensor, "b r y x"]  # of matching and ground, absolute: a pose has the same in any window
    volume: PoseBelief  # the scores as probabilities
    poses: Float[Tensor, "b 3"]  # where scan and map were laid on each other: the best bin of the volume
    fused: Fused
    check: PoseCheck  # of these poses
    here: Float[Tensor, " b"]  # log-odds that the scan was taken there; NaN where the window is too small to tell


class FusionNet(nn.Module):
    """Match the scan to the map, lay them on each other where they fit best, fuse them there."""

    def __init__(
        self,
        *,
        lidar_encoder: nn.Module,
        lidar_attention: nn.Module,
        map_encoder: MapEncoder,
        pose_volume: PoseVolumeHead,
        road_contrast: RoadContrastHead,
        blur: BeliefBlur,
        fusion: Fusion,
        pose_check: PoseCheckHead,
        direction: DirectionFieldHead | None = None,
        bev_grid: Grid,
        stride: int,
    ) -> None:
        """Parts come built (`build.py`); both encoders end at `stride` BEV cells a feature cell."""
        super().__init__()
        self.lidar_encoder = lidar_encoder
        self.lidar_attention = lidar_attention
        self.map_encoder = map_encoder
        self.pose_volume = pose_volume
        self.road_contrast = road_contrast
        self.blur = blur
        self.fusion = fusion
        self.pose_check = pose_check
        self.direction = direction
        self.bev_grid = bev_grid
        self.stride = stride
        self._asks_for_road = any(Need.ROAD in needs_of(part) for part in fusion.modules())

    @property
    def feature_grid(self) -> Grid:
        """Raster of the LiDAR features."""
        return self.bev_grid.coarser(self.stride)

    def forward(
        self,
        batch: Batch,
        window: PoseWindow,
        map_features: Float[Tensor, "b c hm wm"] | None = None,
    ) -> Prediction:
        """Score the poses of `window` about the prior of each sample, and look closely at the best.

        Args:
            batch: scans and tiles.
            window: its cells are feature cells.
            map_features: what `map_encoder` makes of the tiles, where that is known already.
        """
        scan = self.encode_scan(batch)
        map_features = self.map_encoder(batch.tile) if map_features is None else map_features
        matched = self.pose_volume(scan.lidar, scan.seen, map_features, batch.prior_yaw_rad, window)
        ground = None
        if batch.contrast is not None:
            ground = self.road_contrast(batch.contrast, batch.tile, batch.prior_yaw_rad, window)
        scores = matched if ground is None else matched + ground
        volume = belief_of(scores, window)
        poses, _ = best_pose(scores.detach(), window)
        best = scores.detach().flatten(1).argmax(1, keepdim=True)
        score = matched.detach().flatten(1).gather(1, best)[:, 0]
        fused, check = self.look(scan, batch, map_features, poses, score)
        here = check.log_odds
        if batch.contrast is not None and ground is not None:
            explained = self.road_contrast.explained(batch.contrast, ground.flatten(1).gather(1, best)[:, 0])
            here = log_odds_here(scores.detach(), poses, explained, window)
        if not self.training:  # a loss sees what the network says itself
            volume = self.blur(volume)
        return Prediction(scan, map_features, scores, volume, poses, fused, check, here)

    def encode_scan(self, batch: Batch) -> ScanFeatures:
        """The LiDAR tower: it sees the scan, and neither map nor prior."""
        inputs = (batch.bev,) if batch.voxels is None else (batch.bev, batch.voxels)
        never_seen = batch.bev[:, -1:]  # the last plane, whichever encoder they are for
        seen = 1.0 - F.max_pool2d(never_seen, self.stride)
        lidar, losses = attend(self.lidar_attention, self.lidar_encoder(*inputs).contiguous(), Scene(seen))
        return ScanFeatures(lidar, seen, losses)

    def look(
        self,
        scan: ScanFeatures,
        batch: Batch,
        map_features: Float[Tensor, "b c hm wm"],
        poses: Float[Tensor, "b 3"],
        score: Float[Tensor, " b"],
    ) -> tuple[Fused, PoseCheck]:
        """Fuse each scan with the map as it would see it from a pose, and say what that shows.

        The towers learn from the matching alone: no gradient of this goes into them.

        Args:
            scan: features of the scans.
            batch: their tiles and priors.
            map_features: of the tiles.
            poses: offsets from the priors, x, y in m and yaw in rad.
            score: of the matching there.
        """
        fused = self._fused(scan, batch, map_features, poses)
        unscaled = score / self.pose_volume.log_scale.detach().exp()
        return fused, self.pose_check(fused.joint, scan.seen, unscaled)

    def direction_field(
        self, scan: ScanFeatures, batch: Batch, map_features: Float[Tensor, "b c hm wm"]
    ) -> tuple[LearnedField, Fused]:
        """Where one drives from the cells of the ego raster, for the questions of a batch.

        Scan and map are fused anew at the poses of the questions; the towers do not learn from it.

        Raises:
            ValueError: if there is no direction head, or the batch asks nothing.
        """
        if self.direction is None or batch.direction is None:
            raise ValueError("expected a network with a direction head, and a batch that asks for directions")
        fused = self._fused(scan, batch, map_features, batch.direction.poses)
        return self.direction(fused.joint, scan.seen, batch.direction.way), fused

    def _fused(
        self, scan: ScanFeatures, batch: Batch, map_features: Float[Tensor, "b c hm wm"], poses: Float[Tensor, "b 3"]
    ) -> Fused:
        """Scan and map as one tensor at poses, offsets from the priors."""
        in_tile = torch.cat([poses[:, :2], poses[:, 2:] + batch.prior_yaw_rad[:, None].to(poses)], dim=1)
        map_grid = Grid(map_features.shape[-2], map_features.shape[-1], self.feature_grid.cell_m)
        seen_map = map_in_ego(map_features.detach(), in_tile, map_grid, self.feature_grid)
        fused: Fused = self.fusion(scan.lidar.detach(), seen_map, self._scene(scan, batch, in_tile))
        return fused

    def _scene(self, scan: ScanFeatures, batch: Batch, in_tile: Float[Tensor, "b 3"]) -> Scene:
        """Which cells the scan reached, and if it is asked for how the road runs as seen from a pose of the tile."""
        if not self._asks_for_road:
            return Scene(scan.seen)
        tile_grid = Grid(batch.tile.shape[-2], batch.tile.shape[-1], self.bev_grid.cell_m)
        doubled = layer_values(batch.tile[:, [layer_index("road_cos2"), layer_index("road_sin2")]])
        cos2, sin2 = map_in_ego(doubled, in_tile, tile_grid, self.feature_grid).unbind(1)
        turn = -2.0 * in_tile[:, 2, None, None].to(cos2)
        road = torch.stack([turn.cos() * cos2 - turn.sin() * sin2, turn.sin() * cos2 + turn.cos() * sin2], dim=1)
        return Scene(scan.seen, road)
