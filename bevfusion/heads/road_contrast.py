"""Where the map's carriageways lie under a scan, told by how dark and how smooth the ground is: nothing is learned.

A pose (shift s, heading r) puts the map's road m, 0 to 1, under the ground cells p of the scan. For each contrast c of
`lidar/ground_contrast.py` let rho_c(r, s) be its correlation with that road over the scan's N ground cells. Then

    log L(r, s) = - sum_c N / (2 n) log(1 - max(rho_c, 0)^2)

is the log-likelihood ratio of a linear model of the contrast, with gain and noise fitted anew to each pose, against
none. Nobody has to say how dark asphalt is for this sensor, and a pose that puts no road or nothing but road under the
scan gains nothing. Neighbouring cells say the same thing, and so does an error of the map: one in n = (2 m / cell)^2
counts.

It depends on scan, map and pose alone, as the learned scores do: the same in any window. What the network has seen in
training is simulated ground; this has seen none, and on streets that the network does not know it is the surer guide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.heads.matching import disc, match
from bevfusion.maps.schema import layer_index

Tile = Float[Tensor, "b l hm wm"] | Int8[Tensor, "b l hm wm"]

PIECE_M = 2.0  # so much of an area says one thing
_BLUR_M = 0.7  # the mapped width of a road is a guess
_LEAST_VARIANCE = 0.01  # of the road under the ground cells: below, a correlation is an accident of few cells
_MOST_EXPLAINED = 0.95
_BLUR_REACH = 3.0  # standard deviations


@dataclass(frozen=True, slots=True)
class GroundSums:
    """What of a scan and of the road under it makes a likelihood: sums over the ground cells, one for each pose."""

    cells: Tensor  # of ground
    spreads: Sequence[Tensor]  # of each contrast: the sum of its squares
    road: Tensor
    road_squared: Tensor
    products: Sequence[Tensor]  # of each contrast with the road

    def log_likelihood(self, cell_m: float) -> Tensor:
        """The log-likelihood ratio of the top of this file, pose by pose; `cell_m` is the side of a ground cell."""
        cells = self.cells.clamp(min=1.0)
        variance = (self.road_squared - self.road**2 / cells).clamp(min=_LEAST_VARIANCE * cells)
        total = torch.zeros_like(self.road)
        for product, spread in zip(self.products, self.spreads, strict=True):
            explained = product.clamp(min=0.0) ** 2 / (variance * spread.clamp(min=1e-6))
            total = total - torch.log1p(-explained.clamp(max=_MOST_EXPLAINED))
        return 0.5 * (cell_m / PIECE_M) ** 2 * cells * total


class RoadContrastHead(nn.Module):
    """Score every pose of a window by how well the map's roads explain the contrast of the ground."""

    def __init__(self, grid: Grid, stride: int, weight: float) -> None:
        """Made for one raster.

        Args:
            grid: of the contrast, ego frame.
            stride: cells of the map's tile that are one of it, along each axis.
            weight: of the log-likelihood among other scores; 0: there is no such head.
        """
        super().__init__()
        self.grid = grid
        self.stride = stride
        self.match = match  # an export puts another way to the same result here
        self.register_buffer("weight", torch.tensor(weight))
        self.weight: Tensor
        # as far inside as the map is blurred: a window's border shows no other road than its middle
        within_m = min(grid.half_extent_m) - _BLUR_REACH * _BLUR_M
        centres_m = torch.from_numpy(grid.centres_m()).norm(dim=-1)
        self.register_buffer("footprint", disc(grid) * (centres_m < within_m), persistent=False)
        self.footprint: Tensor

    def forward(
        self,
        contrast: Float[Tensor, "b 3 h w"],
        tile: Tile,
        prior_yaw_rad: Float[Tensor, " b"],
        window: PoseWindow,
    ) -> Float[Tensor, "b r y x"]:
        """The weighted log-likelihood of every pose, 0 where the map or the scan says nothing.

        Args:
            contrast: the planes of `CONTRAST_PLANES`, cells of the grid.
            tile: map layers centred on the prior position, above 0 where they are.
            prior_yaw_rad: heading of the prior in the tile frame.
            window: poses to score; its cell size must be that of the grid.

        Raises:
            ValueError: if the window's cells are not those of the grid.
        """
        if not math.isclose(window.cell_m, self.grid.cell_m):
            raise ValueError(f"a window of {window.cell_m} m cells does not fit a contrast of {self.grid.cell_m} m")
        with torch.autocast(contrast.device.type, enabled=False):  # half precision would drown a correlation's digits
            return self.weight * self._log_likelihood(contrast.float(), tile, prior_yaw_rad.float(), window)

    def _log_likelihood(
        self, contrast: Tensor, tile: Tensor, prior_yaw_rad: Tensor, window: PoseWindow
    ) -> Float[Tensor, "b r y x"]:
        planes = contrast * self.footprint
        road = self.road_of(tile)
        yaws_rad = prior_yaw_rad[:, None] + torch.from_numpy(window.yaw_offsets_rad()).to(prior_yaw_rad)

        def under(planes: Tensor, road: Tensor) -> Float[Tensor, "b c r y x"]:
            return self.match(planes, road, yaws_rad, self.grid, window.reach, circle=window.full_circle, apart=True)

        ground, contrasts = planes[:, :1], [planes[:, k : k + 1] for k in range(1, planes.shape[1])]
        on_road, *products = under(planes, road).unbind(1)  # one turn of all planes, which costs as much as the rest
        sums = GroundSums(
            cells=ground.sum((1, 2, 3))[:, None, None, None],
            spreads=[plane.square().sum((1, 2, 3))[:, None, None, None] for plane in contrasts],
            road=on_road,
            road_squared=under(ground, road * road)[:, 0],
            products=products,
        )
        return sums.log_likelihood(self.grid.cell_m)

    def explained(self, contrast: Float[Tensor, "b 3 h w"], scores: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """-sum_c log(1 - rho_c^2) of poses, from what `forward` scored them: the likelihood of a ground cell."""
        cells = (contrast[:, 0] * self.footprint).sum((1, 2)).clamp(min=1.0)
        unit = self.weight * 0.5 * (self.grid.cell_m / PIECE_M) ** 2 * cells
        return scores / unit.clamp(min=1e-9)

    def road_of(self, tile: Tile) -> Float[Tensor, "b 1 h w"]:
        """The share of carriageway and parking in every cell of the scores, its borders softened."""
        paved = tile[:, [layer_index("road"), layer_index("parking")]].amax(1, keepdim=True) > 0
        cell_m = self.grid.cell_m / self.stride
        reach = math.ceil(_BLUR_REACH * _BLUR_M / cell_m)
        bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=tile.device) * cell_m / _BLUR_M) ** 2)
        bell = bell / bell.sum()
        padded = F.pad(paved.float(), [reach] * 4, mode="replicate")
        blurred = F.conv2d(F.conv2d(padded, bell[None, None, None]), bell[None, None, :, None])
        return F.avg_pool2d(blurred, self.stride)
