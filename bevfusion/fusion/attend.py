"""Put a mechanism to work: it is told what it needs, and what it says in training is passed on."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from bevfusion.attention.contract import FEATURES, AuxiliaryLoss, Need, Needs


@dataclass(frozen=True, slots=True)
class Scene:
    """What a mechanism may know beside features; ego frame, cells of the features."""

    seen: Float[Tensor, "b 1 h w"]  # 1 where the scan reached the cell
    road_cos2_sin2: Float[Tensor, "b 2 h w"] | None = None  # of twice the mapped road's direction, 0 off the road


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
    if Need.ROAD in needs:
        if scene.road_cos2_sin2 is None:
            raise ValueError(f"{type(mechanism).__name__} needs {Need.ROAD.value}, which a scan alone does not tell")
        told.append(scene.road_cos2_sin2)
    if Need.LOSS in needs and mechanism.training:
        y, loss = mechanism.with_auxiliary_loss(x, *told)  # type: ignore[operator]
        return y, (loss,)
    return mechanism(x, *told), ()
