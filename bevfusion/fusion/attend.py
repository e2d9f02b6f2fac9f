"""Put a mechanism to work: it is told what it needs, and what it says in training is passed on."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, AuxiliaryLoss, Need, Needs
from bevfusion.structures import Fused


@dataclass(frozen=True, slots=True)
class Scene:
    """What a mechanism may know beside features; ego frame, cells of the features."""

    seen: Float[Tensor, "b 1 h w"]  # 1 where the scan reached the cell
    road_cos2_sin2: Float[Tensor, "b 2 h w"]  # of twice the mapped road's direction, 0 off the road


def needs_of(mechanism: nn.Module) -> Needs:
    """What the mechanism needs beside features; a module that does not say needs nothing."""
    needs: Needs = getattr(mechanism, "needs", FEATURES)
    return needs


def attend(
    mechanism: nn.Module, x: Float[Tensor, "b c h w"], scene: Scene
) -> tuple[Float[Tensor, "b c h w"], tuple[AuxiliaryLoss, ...]]:
    """Apply a mechanism; what comes with it are losses that only it has, to be added in training."""
    needs = needs_of(mechanism)
    told = [scene.seen] if Need.SEEN in needs else []
    told += [scene.road_cos2_sin2] if Need.ROAD in needs else []
    if Need.LOSS in needs and mechanism.training:
        y, loss = mechanism.with_auxiliary_loss(x, *told)  # type: ignore[operator]
        return y, (loss,)
    return mechanism(x, *told), ()


class Refinement(nn.Module):
    """One spatial mechanism on the LiDAR branch, which is the template of the matching, and one on the joint tensor.

    After fusion: what repeats beside the road should lead, traffic on it should not.
    """

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
