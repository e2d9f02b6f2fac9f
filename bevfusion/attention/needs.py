"""What a mechanism must be told beside features. Each says so itself, in `needs`; most need nothing more."""

from collections.abc import Callable
from enum import Enum

from torch import Tensor


class Need(Enum):
    """One thing that a mechanism needs; the value is what it is called in messages."""

    SEEN = "the cells that the scan reached"
    ROAD = "the direction of the mapped road"
    LOSS = "the loss in training"


Needs = frozenset[Need]
FEATURES: Needs = frozenset()  # nothing beside them
SEEN: Needs = frozenset({Need.SEEN})

AuxiliaryLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of the mechanism's own, from the task's loss of each sample (B,) and the truth (B, 3): x, y in m and yaw in
rad, offsets from the prior. What has `Need.LOSS` makes one with every output of `with_auxiliary_loss`."""
