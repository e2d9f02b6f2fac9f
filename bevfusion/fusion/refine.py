"""Spatial attention after fusion: what repeats beside the road should lead, traffic on it should not."""

from torch import nn

from bevfusion.fusion.attend import Scene, attend
from bevfusion.structures import Fused


class Refinement(nn.Module):
    """One spatial mechanism on the LiDAR branch, which is the template of the matching, and one on the joint tensor."""

    def __init__(self, lidar: nn.Module, joint: nn.Module) -> None:
        """Both map B C H W to the same."""
        super().__init__()
        self.lidar = lidar
        self.joint = joint

    def forward(self, fused: Fused, scene: Scene) -> Fused:
        """Refine both tensors in the ego frame; the map stays as it is."""
        lidar, of_lidar = attend(self.lidar, fused.lidar, scene)
        joint, of_joint = attend(self.joint, fused.joint, scene)
        return Fused(lidar, fused.map, joint, fused.auxiliary_losses + of_lidar + of_joint)
