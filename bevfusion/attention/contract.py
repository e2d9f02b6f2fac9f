"""What all mechanisms keep to: what they say they need, and how they refuse an option, each with the same words.

A mechanism is built as `Mechanism(channels, *, plain keyword options)`. Most need features and nothing else. The others
say what beside them in `needs`, of the class or of what was built with some option.
"""

from collections.abc import Callable, Sequence
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


def check_choice(option: str, value: object, choices: Sequence[object]) -> None:
    """Refuses a value that is not among the choices.

    Raises:
        ValueError: naming the option, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{option} must be one of {list(choices)}, got {value!r}")


def check_at_least(option: str, value: int | float, least: int | float) -> None:
    """Refuses a value below `least`.

    Raises:
        ValueError: naming the option, the bound and the value.
    """
    if not value >= least:
        raise ValueError(f"{option} must be at least {least}, got {value}")


def check_odd(option: str, value: int) -> None:
    """Refuses a kernel without a centre.

    Raises:
        ValueError: if the value is even or not positive.
    """
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{option} must be odd and positive, got {value}")


def hidden_width(channels: int, reduction: int, least: int = 1) -> int:
    """Width of a bottleneck: channels // reduction, but never zero, which would leave a constant gate of 0.5.

    Raises:
        ValueError: if channels or reduction is below one.
    """
    check_at_least("channels", channels, 1)
    check_at_least("reduction", reduction, 1)
    return max(least, channels // reduction)
