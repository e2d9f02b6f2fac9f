"""Put a mechanism to work: most see features alone, some also the scene, and some need a lesson of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevfusion.attention.dynamic_capacity import DynamicCapacity, Refined
from bevfusion.attention.hard import Action, HardAttention
from bevfusion.attention.roadside import Roadside

Lesson = Callable[[Tensor, Tensor], Tensor]  # (loss of each sample (B,), truth (B, 3)) -> a loss of the mechanism's own


@dataclass(frozen=True, slots=True)
class Scene:
    """What a mechanism may know beside features; ego frame, cells of the features."""

    seen: Float[Tensor, "b 1 h w"]  # 1 where the scan reached the cell
    road_cos2_sin2: Float[Tensor, "b 2 h w"]  # of twice the mapped road's direction, 0 off the road


def attend(
    mechanism: nn.Module, x: Float[Tensor, "b c h w"], scene: Scene
) -> tuple[Float[Tensor, "b c h w"], tuple[Lesson, ...]]:
    """Apply a mechanism; what comes with it are losses that only it has, to be added in training.

    Hard attention draws its cells at random, so no gradient reaches its policy but through a reward: minus the
    sample's loss. Dynamic capacity chooses cells by what its own head is unsure of: here, in which of its sectors
    about the prior the truth lies.
    """
    lessons: tuple[Lesson, ...] = ()
    if isinstance(mechanism, HardAttention) and mechanism.training:
        y, action = mechanism.sample(x)
        lessons = (partial(_policy_lesson, mechanism, action),)
    elif isinstance(mechanism, DynamicCapacity) and mechanism.training:
        refined = mechanism.refine(x)
        y, lessons = refined.features, (partial(_capacity_lesson, mechanism, refined),)
    elif isinstance(mechanism, Roadside):
        y = mechanism(x, scene.road_cos2_sin2)
    elif getattr(mechanism, "occupancy", False):
        y = mechanism(x, scene.seen)
    else:
        y = mechanism(x)
    return y, lessons


def _policy_lesson(mechanism: HardAttention, action: Action, loss: Tensor, truth: Tensor) -> Tensor:
    # A sum over thousands of cells with one reward: without the mean over cells it would drown every other loss.
    cells = action.mask[0].numel()
    return mechanism.policy_loss(action, -loss) / cells


def _capacity_lesson(mechanism: DynamicCapacity, refined: Refined, loss: Tensor, truth: Tensor) -> Tensor:
    logits = mechanism.logits(refined.features)
    turn = torch.atan2(truth[:, 1], truth[:, 0]) / (2.0 * torch.pi) + 0.5
    sector = (turn * logits.shape[1]).long().clamp(0, logits.shape[1] - 1)
    return mechanism.hint_loss(refined) / refined.cells.shape[1] + F.cross_entropy(logits, sector)
