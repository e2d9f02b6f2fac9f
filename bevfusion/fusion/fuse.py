"""Channel attention over both branches together: each says which of the other's channels to trust."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.fusion.attend import Scene, attend
from bevfusion.fusion.concat import ConcatFusion, DynamicFusion
from bevfusion.fusion.cross import CrossFusion
from bevfusion.fusion.select import SelectFusion
from bevfusion.structures import Fused

# How two aligned branches become one; a configuration may name one of these instead of an attention mechanism.
JOINS: dict[str, Callable[..., nn.Module]] = {
    "concat": ConcatFusion,
    "dynamic": DynamicFusion,
    "select": SelectFusion,
    "cross": CrossFusion,
}


class Fusion(nn.Module):
    """Concatenate the branches in the ego frame, attend, and hand each branch its gated half back.

    The mechanism sees the concatenation (B, 2C, H, W), so its squeeze covers both branches. The LiDAR half of its
    output is the gated LiDAR branch; both halves make the joint tensor. The map branch is larger than the ego grid
    and lies in other axes, so it takes over the gate of each channel only: what the mechanism let through of it on
    average, mean |y| / mean |x|. For a channel gate (SE, CAM, ECA) that *is* the gate.
    """

    def __init__(self, attention: nn.Module, join: nn.Module) -> None:
        """`attention` maps B 2C H W to the same; `join` makes one B C H W of two."""
        super().__init__()
        self.attention = attention
        self.join = join

    def forward(
        self,
        lidar: Float[Tensor, "b c h w"],
        map_features: Float[Tensor, "b c hm wm"],
        map_in_ego: Float[Tensor, "b c h w"],
        scene: Scene,
    ) -> Fused:
        """Fuse; `map_in_ego` is `map_features` sampled at the prior pose."""
        both = torch.cat([lidar, map_in_ego], dim=1)
        attended, losses = attend(self.attention, both, scene)
        gated_lidar, gated_map = attended.chunk(2, dim=1)
        passed = channel_gate(both, attended)[:, lidar.shape[1] :]
        return Fused(gated_lidar, map_features * passed, self.join(gated_lidar, gated_map), losses)


def channel_gate(before: Float[Tensor, "b c h w"], after: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    """What was let through of each channel, on average over space: mean |after| / mean |before|, 1 for an empty one."""
    # In float32 whatever the precision around: the sum over a map loses half-precision digits.
    magnitude = before.float().abs().mean((2, 3), keepdim=True)
    passed = after.float().abs().mean((2, 3), keepdim=True) / magnitude.clamp(min=1e-6)
    return torch.where(magnitude > 1e-6, passed, torch.ones_like(passed)).to(after.dtype)
