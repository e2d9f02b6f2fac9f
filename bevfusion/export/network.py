"""`NetworkLocator.predict` from points on, as one module with tensors in and out."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.build import search_window, tile_grid
from bevfusion.config import Config
from bevfusion.export.operations import match_by_products, norms_by_rows
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.lidar.rasterize import rasterize
from bevfusion.lidar.visibility import cell_rays
from bevfusion.maps.encoder import MapEncoder
from bevfusion.model import FusionNet
from bevfusion.structures import Batch


class PointsToBeliefs(nn.Module):
    """Raster, both towers, matching, fusion at the best pose and what is read out there, for one window of poses."""

    def __init__(self, model: FusionNet, config: Config, offset_m: float, offset_rad: float) -> None:
        """The window is part of the graph: within +-offset_m and +-offset_rad of the prior. The model is copied."""
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval()
        self.model.pose_volume.match = match_by_products
        self.model.road_contrast.match = match_by_products
        norms_by_rows(self.model)
        self.slices_m = config.bev.slices_m
        # Asked for now: what is first asked for while a graph is traced has no values, and the cache would keep it.
        cell_rays(model.bev_grid, torch.device("cpu"))
        self.window: PoseWindow = search_window(config, offset_m, offset_rad)
        self.margin = (export_tile_grid(config, offset_m).height - tile_grid(config, offset_m).height) // 2

    def forward(
        self,
        xyz: Float[Tensor, "n 3"],
        height_m: Float[Tensor, " n"],
        intensity: Float[Tensor, " n"],
        tile: Float[Tensor, "1 l hm wm"],
        prior_yaw_rad: Float[Tensor, " 1"],
        contrast: Float[Tensor, "1 3 hf wf"],
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the poses (1, R, Y, X); the log-odds (1,) that the scan was taken at the best one.

        Args:
            xyz: points in metres, ego frame.
            height_m: of the points above ground (`lidar.ground.height_above_ground`).
            intensity: reflectance, 0 to 1.
            tile: map layers of `export_tile_grid`, 1.0 where they are, centred on the prior, on the lattice of tiles.
            prior_yaw_rad: heading of the prior in the map frame.
            contrast: of the ground (`lidar.ground_contrast.contrast_of_scan`), cells of the features.
        """
        bev = rasterize(xyz, height_m, intensity, self.model.bev_grid, self.slices_m)
        margin, of_features = self.margin, self.margin // self.model.stride
        features = self.model.map_encoder(tile)[..., of_features:-of_features, of_features:-of_features]
        batch = Batch(bev[None], tile[..., margin:-margin, margin:-margin], prior_yaw_rad, contrast=contrast)
        prediction = self.model(batch, self.window, features)
        return prediction.volume.log_prob, prediction.here


def export_tile_grid(config: Config, offset_m: float) -> Grid:
    """The raster of the tiles that a graph takes: with so much map about what it compares as the encoder looks at."""
    context_m = (
        MapEncoder(("road",), 4, stride=config.model.stride, **dict(config.model.map)).context_cells * config.bev.cell_m
    )
    return tile_grid(config, offset_m, context_m)


def example_inputs(points: int, layers: int, tile_cells: int, feature_cells: int) -> tuple[Tensor, ...]:
    """Something of the right shapes to trace with."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(points, 3, generator=generator) * torch.tensor([60.0, 60.0, 4.0]) - torch.tensor([30.0, 30.0, 1.7])
    tile = (torch.rand(1, layers, tile_cells, tile_cells, generator=generator) < 0.2).float()
    contrast = torch.rand(1, 3, feature_cells, feature_cells, generator=generator)
    return xyz, xyz[:, 2] + 1.7, torch.rand(points, generator=generator), tile, torch.tensor([0.3]), contrast
