"""What the constructors of the mechanisms refuse, each with the same words."""

from collections.abc import Sequence


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
