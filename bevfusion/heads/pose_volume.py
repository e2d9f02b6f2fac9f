"""The matching: a score for every pose of the window, what it says as a probability, and the loss on that."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.fusion.align import wrapped
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
    ) -> Float[Tensor, "b r y x"]:
        """Scores (B, R, Y, X) over the window about the prior.

        A score depends on the scan, the map about the pose and the pose alone: the same in any window.

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
        template, count = self.counted_template(lidar, seen)
        offsets_rad = torch.from_numpy(window.yaw_offsets_rad()).to(prior_yaw_rad)
        yaws_rad = prior_yaw_rad[:, None] + offsets_rad
        matched = self.map(map_features)
        scores = self.match(template, matched, yaws_rad, self.grid, window.reach, circle=window.full_circle)
        return self.log_scale.exp() * scores / count[:, None, None, None]

    def counted_template(
        self, lidar: Float[Tensor, "b c h w"], seen: Float[Tensor, "b 1 h w"]
    ) -> tuple[Float[Tensor, "b m h w"], Float[Tensor, " b"]]:
        """What is laid on the map, 0 where nothing was seen, and how many cells count in it."""
        valid = seen * self.footprint
        return self.weighted_template(lidar) * valid, valid.sum((1, 2, 3)).clamp(min=1.0)

    def weighted_template(self, lidar: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m h w"]:
        """What is compared with the map, each cell as loud as the network trusts it."""
        template: Tensor = self.template(lidar)
        return template if self.confidence is None else template * torch.sigmoid(self.confidence(lidar))


def belief_of(scores: Float[Tensor, "b r y x"], window: PoseWindow) -> PoseBelief:
    """The scores as log-probabilities: the vehicle is in the window for sure."""
    return PoseBelief(scores.flatten(1).log_softmax(1).view_as(scores), window)


def best_pose(scores: Float[Tensor, "b r y x"], window: PoseWindow) -> tuple[Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """The bin of the highest score as an offset from the prior (x, y in m, yaw in rad), and that score."""
    _, height, width = scores.shape[1:]
    highest, index = scores.flatten(1).max(1)
    yaws_rad = torch.from_numpy(window.yaw_offsets_rad()).to(scores)
    x_m = (index % width - window.reach) * window.cell_m
    y_m = (index // width % height - window.reach) * window.cell_m
    return torch.stack([x_m.to(scores), y_m.to(scores), yaws_rad[index // (width * height)]], dim=1), highest


def best_pose_elsewhere(
    scores: Float[Tensor, "b r y x"], window: PoseWindow, truth: Float[Tensor, "b 3"], away_m: float, away_rad: float
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, " b"]]:
    """As `best_pose`, of the bins that lie farther from a truth than so many metres, or radians."""
    shifts_m, yaws_rad = (torch.from_numpy(a).to(truth) for a in (window.shifts_m(), window.yaw_offsets_rad()))
    x_m, y_m, yaw_rad = (part[:, None] for part in truth.unbind(1))
    near = ((shifts_m - x_m).square()[:, None, :] + (shifts_m - y_m).square()[:, :, None]) <= away_m**2
    turned = wrapped(yaws_rad - yaw_rad).abs() <= away_rad
    return best_pose(scores.masked_fill(turned[:, :, None, None] & near[:, None], -torch.inf), window)


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
