"""Training of what lies behind the towers for the direction: fusion, if it is to learn, and the head upon it.

The towers are frozen, so samples are read from a folder of features (`direction_features.py`), and a step takes as long
as fusion and head alone.
"""

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bevfusion.attention.contract import AuxiliaryLoss
from bevfusion.direction.way_field import RETURN_M
from bevfusion.fusion.attend import Scene
from bevfusion.fusion.fuse import Fusion
from bevfusion.heads.direction_field import DirectionFieldHead, LearnedField, field_loss, follow
from bevfusion.structures import AskedWay, FieldTruth
from bevfusion.training.direction_features import FeatureFolder

log = logging.getLogger(__name__)

_DROPPED = 0.05  # share of samples without scan, and of those without map: each alone has to do


@dataclass(frozen=True, slots=True)
class HeadTraining:
    """How the head learns."""

    steps: int = 600
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 30
    seed: int = 0
    fusion_learns: bool = False
    bfloat16: bool = True


class FusedDirection(nn.Module):
    """Fusion and head, on features of the towers."""

    def __init__(self, fusion: Fusion, head: DirectionFieldHead) -> None:
        super().__init__()
        self.fusion, self.head = fusion, head

    def forward(
        self, batch: Mapping[str, Tensor], *, fusion_learns: bool = False
    ) -> tuple[LearnedField, tuple[AuxiliaryLoss, ...]]:
        """The field of each sample, and losses that fusion brings along."""
        scene = Scene(batch["seen"], batch["road"])
        with torch.set_grad_enabled(fusion_learns and torch.is_grad_enabled()):
            fused = self.fusion(batch["lidar"], batch["map"], scene)
        return self.head(fused.joint, batch["seen"], way_of(batch)), fused.auxiliary_losses


def way_of(batch: Mapping[str, Tensor]) -> AskedWay:
    """The way that is asked for."""
    yaw, left, along = batch["base"].unbind(1)
    facts = batch["facts"]
    return AskedWay(yaw, left, along, yaw - (left / RETURN_M).atan(), facts[:, 0], facts[:, 1], facts[:, 2])


def truth_of(batch: Mapping[str, Tensor]) -> FieldTruth:
    """The answer."""
    yaw, left, along = batch["true"].unbind(1)
    return FieldTruth(
        batch["drivable"], yaw - (left / RETURN_M).atan(), left, along, batch["path"], batch["facts"][:, 3]
    )


def train_direction_head(
    fusion: Fusion, head: DirectionFieldHead, features: FeatureFolder, options: HeadTraining
) -> FusedDirection:
    """Train copies of a head and, if it is to learn, of its fusion.

    Args:
        fusion: of the network.
        head: fresh, or trained before.
        features: samples.
        options: how.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network = FusedDirection(copy.deepcopy(fusion), copy.deepcopy(head)).train()
    if not options.fusion_learns:
        network.fusion.eval().requires_grad_(False)
    learned = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
    )
    order: list[int] = []
    began, sums = time.monotonic(), []
    for step in range(options.steps):
        while len(order) < options.batch_size:
            order += rng.permutation(len(features)).tolist()
        numbers, order = order[: options.batch_size], order[options.batch_size :]
        batch = dropped(features.batch(numbers), rng)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(step, options)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            field, auxiliary = network(batch, fusion_learns=options.fusion_learns)
        loss = field_loss(field, truth_of(batch), head.grid).mean()
        for each in auxiliary:
            loss = loss + 0.1 * each(loss.detach().expand(len(numbers)), torch.zeros(len(numbers), 3))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        sums.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            log.info("step %d: loss %.4f, %.0f s", step + 1, np.mean(sums[-50:]), time.monotonic() - began)
    return network.eval()


def dropped(batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Some samples without their scan, some without their map."""
    for number, chance in enumerate(rng.random(len(batch["lidar"])).tolist()):
        if chance < _DROPPED:
            batch["lidar"][number] = 0.0
            batch["seen"][number] = 0.0
        elif chance < 2.0 * _DROPPED:
            batch["map"][number] = 0.0
            batch["road"][number] = 0.0
    return batch


def _rate(step: int, options: HeadTraining) -> float:
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * done))


@torch.inference_mode()
def read_out(network: FusedDirection, batch: Mapping[str, Tensor], *, bfloat16: bool = False) -> Tensor:
    """Paths of 20 points of a batch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        field, _ = network(batch)
    return follow(field.direction_rad, network.head.grid, 40.0)[:, 3::4]
