"""Selective fusion: a softmax between the two modalities, after Selective Kernel Networks, https://arxiv.org/abs/1903.06586.

    y = a lidar + (1 - a) map,    (a, 1 - a) = softmax over {lidar, map} of A z

    per="channel":  z = ReLU(norm(W mean(lidar + map))),  one a a channel (SK with modalities for kernels)
    per="cell":     z = ReLU(norm(W [lidar ; map])) by 1 x 1 convolutions,  one a a cell

z has max(C / r, 32) channels. Where the map is missing the softmax runs over the LiDAR alone: a = 1 there, and those
cells do not count in the mean of the map. It is missing where all its features are exactly 0: that is what sampling
outside a tile gives.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import check_choice, hidden_width
from bevfusion.attention.descriptors import mean_over
from bevfusion.nn import group_norm


class SelectFusion(nn.Module):
    """Chooses, softly, which branch to believe.

    Args:
        channels: Channels of each branch and of the output.
        per: "channel" or "cell".
        reduction: Channels over the width of z, which is at least 32.

    Raises:
        ValueError: if `per` is unknown or a size is not positive.
    """

    def __init__(self, channels: int, *, per: str = "channel", reduction: int = 16) -> None:
        super().__init__()
        check_choice("per", per, ("channel", "cell"))
        width = hidden_width(channels, reduction, least=32)
        self.per = per
        self.channels = channels
        inputs, outputs = (channels, 2 * channels) if per == "channel" else (2 * channels, 2)
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), group_norm(width), nn.ReLU())
        self.select = nn.Conv2d(width, outputs, 1, bias=False)

    def forward(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """The joint tensor of two aligned maps."""
        of_lidar, of_map = self.weights(lidar, map_in_ego).unbind(1)
        return of_lidar * lidar + of_map * map_in_ego

    def weights(
        self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 2 c2 h w"]:
        """Weight of the LiDAR and of the map, summing to one over axis 1; c2 is C ("channel") or 1 ("cell")."""
        there = (map_in_ego != 0).any(1, keepdim=True)
        if self.per == "channel":
            seen = mean_over(map_in_ego, (2, 3), there, keepdim=True)
            logits = self.select(self.squeeze(lidar.mean((2, 3), keepdim=True) + seen))
        else:
            logits = self.select(self.squeeze(torch.cat([lidar, map_in_ego], dim=1)))
        of_lidar, of_map = logits.chunk(2, dim=1)
        of_map = torch.where(there, of_map, -torch.inf)
        return torch.stack([of_lidar.expand_as(of_map), of_map], dim=1).softmax(1)
