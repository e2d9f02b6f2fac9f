"""The localization head: a probability for every pose of the window, and the loss on it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.matching import disc, match
from bevfusion.structures import PoseBelief


class PoseVolumeHead(nn.Module):
    """Match the LiDAR template, weighted by a learned confidence, against the map over (yaw, y, x)."""

    def __init__(self, channels: int, match_channels: int, grid: Grid, *, confidence: bool = True) -> None:
        """`grid` is that of the LiDAR features (ego frame); map features have its cell size.

        Without `confidence` every cell that was seen counts the same.
        """
        super().__init__()
        self.template = nn.Conv2d(channels, match_channels, 1)
        self.confidence = nn.Conv2d(channels, 1, 1) if confidence else None
        self.map = nn.Conv2d(channels, match_channels, 1)
        # Scores are means over thousands of cells: without a scale every softmax would start flat.
        self.log_scale = nn.Parameter(torch.tensor(math.log(50.0)))
        self.grid = grid
        self.match = match  # an export puts another way to the same result here
        self.register_buffer("footprint", disc(grid), persistent=False)
        self.footprint: Tensor

    def forward(
        self,
        lidar: Float[Tensor, "b c h w"],
        seen: Float[Tensor, "b 1 h w"],
        map_features: Float[Tensor, "b c hm wm"],
        prior_yaw_rad: Float[Tensor, " b"],
        window: PoseWindow,
    ) -> PoseBelief:
        """Log-probabilities (B, R, Y, X) over the window about the prior.

        Args:
            lidar: template features, ego frame.
            seen: 1 where the scan reached the cell: only these count.
            map_features: tile frame, centred on the prior position.
            prior_yaw_rad: heading of the prior in the tile frame.
            window: poses to score; its cell size must be that of the features.

        Raises:
            ValueError: if the window's cells are not those of the features.
        """
        if not math.isclose(window.cell_m, self.grid.cell_m):
            raise ValueError(f"a window of {window.cell_m} m cells does not fit features of {self.grid.cell_m} m")
        valid = seen * self.footprint
        weighted = self.weighted_template(lidar) * valid
        offsets_rad = torch.from_numpy(window.yaw_offsets_rad()).to(prior_yaw_rad)
        yaws_rad = prior_yaw_rad[:, None] + offsets_rad
        matched = self.map(map_features)
        scores = self.match(weighted, matched, yaws_rad, self.grid, window.reach, circle=window.full_circle)
        count = valid.sum((1, 2, 3)).clamp(min=1.0)[:, None, None, None]
        logits = self.log_scale.exp() * scores / count
        return PoseBelief(logits.flatten(1).log_softmax(1).view_as(logits), window)

    def weighted_template(self, lidar: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m h w"]:
        """What is compared with the map, each cell as loud as the network trusts it."""
        template: Tensor = self.template(lidar)
        return template if self.confidence is None else template * torch.sigmoid(self.confidence(lidar))


def negative_log_likelihood(belief: PoseBelief, truth: Float[Tensor, "b 3"]) -> Float[Tensor, " b"]:
    """Minus the log-probability at the truth, trilinear between bins; nats a bin.

    A truth outside the window counts as the nearest pose inside it, so the loss is finite for any truth and its
    gradient still pulls towards the right side. On a full circle yaw wraps round.

    Args:
        belief: the volume.
        truth: x, y in m and yaw in rad, offsets from the prior.
    """
    bins = torch.tensor([belief.window.bins_from_offset(SE2(*row)) for row in truth.tolist()], dtype=torch.float64)
    low, high, weight = _neighbours(bins, belief.window)
    _, height, width = belief.window.shape
    log_prob = belief.log_prob.flatten(1)
    loss = log_prob.new_zeros(len(truth))
    for corner in range(8):
        upper = torch.tensor([corner & 4, corner & 2, corner & 1], dtype=torch.bool)
        r, y, x = torch.where(upper, high, low).unbind(1)
        index = ((r * height + y) * width + x).to(log_prob.device)
        share = torch.where(upper, weight, 1.0 - weight).prod(1).to(log_prob)
        loss = loss - share * log_prob.gather(1, index[:, None])[:, 0]
    return loss


def _neighbours(bins: Tensor, window: PoseWindow) -> tuple[Tensor, Tensor, Tensor]:
    """The bins below and above real-valued (r, y, x), and the weight of the one above; outside is clamped."""
    last = torch.tensor(window.shape) - 1
    limit = last.double()
    if window.full_circle:
        limit[0] += 1.0  # between the last bin and the first one
    bins = torch.minimum(bins.clamp(min=0.0), limit)
    low = torch.minimum(bins.floor().long(), last)
    high = torch.minimum(low + 1, last)
    if window.full_circle:
        high[:, 0] = (low[:, 0] + 1) % window.shape[0]
    return low, high, bins - low
