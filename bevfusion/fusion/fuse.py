"""Scan and map become one tensor: channel attention over both, a join, spatial attention on what comes of it."""

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
    """Where scan and map lie on each other: attend to the channels of both, join them, refine over space.

    The channel attention sees the concatenation (B, 2C, H, W), so its squeeze covers both branches. The spatial
    attention sees the joint tensor: what repeats beside the road should lead, traffic on it should not.
    """

    def __init__(self, attention: nn.Module, join: nn.Module, refinement: nn.Module) -> None:
        """Mechanisms and join.

        Args:
            attention: B 2C H W to the same.
            join: two tensors B C H W to one.
            refinement: B C H W to the same.
        """
        super().__init__()
        self.attention = attention
        self.join = join
        self.refinement = refinement

    def forward(self, lidar: Float[Tensor, "b c h w"], map_in_ego: Float[Tensor, "b c h w"], scene: Scene) -> Fused:
        """Fuse what the scan shows with what the map has at a pose, both in the ego frame."""
        both = torch.cat([lidar, map_in_ego], dim=1)
        attended, of_channels = attend(self.attention, both, scene)
        joined: Tensor = self.join(*attended.chunk(2, dim=1))
        joint, of_space = attend(self.refinement, joined, scene)
        return Fused(attended, joined, joint, of_channels + of_space)


def channel_gate(before: Float[Tensor, "b c h w"], after: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
    """What was let through of each channel, on average over space: mean |after| / mean |before|, 1 for an empty one."""
    # In float32 whatever the precision around: the sum over a map loses half-precision digits.
    magnitude = before.float().abs().mean((2, 3), keepdim=True)
    passed = after.float().abs().mean((2, 3), keepdim=True) / magnitude.clamp(min=1e-6)
    return torch.where(magnitude > 1e-6, passed, torch.ones_like(passed)).to(after.dtype)
