"""Channel attention over both branches together: each says which of the other's channels to trust."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.nn import ConvNormAct
from bevfusion.structures import Fused


class Fusion(nn.Module):
    """Concatenate the branches in the ego frame, attend, and hand each branch its gated half back.

    The mechanism sees the concatenation (B, 2C, H, W), so its squeeze covers both branches. The LiDAR half of its
    output is the gated LiDAR branch; both halves make the joint tensor. The map branch is larger than the ego grid
    and lies in other axes, so it takes over the gate of each channel only: what the mechanism let through of it on
    average, mean |y| / mean |x|. For a channel gate (SE, CAM, ECA) that *is* the gate.
    """

    def __init__(self, channels: int, attention: nn.Module) -> None:
        """Both branches have `channels` channels; `attention` maps B 2C H W to the same."""
        super().__init__()
        self.attention = attention
        self.join = ConvNormAct(2 * channels, channels)

    def forward(
        self,
        lidar: Float[Tensor, "b c h w"],
        map_features: Float[Tensor, "b c hm wm"],
        map_in_ego: Float[Tensor, "b c h w"],
    ) -> Fused:
        """Fuse; `map_in_ego` is `map_features` sampled at the prior pose."""
        both = torch.cat([lidar, map_in_ego], dim=1)
        attended: Tensor = self.attention(both)
        channels = lidar.shape[1]
        passed = channel_gate(both, attended)[:, channels:]
        return Fused(attended[:, :channels], map_features * passed, self.join(attended))


def channel_gate(before: Float[Tensor, "b c h w"], after: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    """What was let through of each channel, on average over space: mean |after| / mean |before|, 1 for an empty one."""
    # In float32 whatever the precision around: the sum over a map loses half-precision digits.
    magnitude = before.float().abs().mean((2, 3), keepdim=True)
    passed = after.float().abs().mean((2, 3), keepdim=True) / magnitude.clamp(min=1e-6)
    return torch.where(magnitude > 1e-6, passed, torch.ones_like(passed)).to(after.dtype)
