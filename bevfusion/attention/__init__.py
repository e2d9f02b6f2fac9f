"""Attention mechanisms, one idea a file, each `B C H W -> B C H W`.

Every class is built as `Mechanism(channels, *, plain keyword options)`. Those that multiply also say by what:
`gate(x)` broadcasts to x and `forward(x) == x * gate(x)`. Those with an option `occupancy` take the cells that the
LiDAR has seen as a second argument and pool over them alone. What one needs beside features it says in `needs`
(`contract.Need`). Any of them stands alone: `from bevfusion.attention import CBAM` imports torch and nothing heavy.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping

from torch import nn

from bevfusion.attention.bam import BAM
from bevfusion.attention.cbam import CAM, CBAM, SAM
from bevfusion.attention.coordinate import Coordinate
from bevfusion.attention.criss_cross import CrissCross
from bevfusion.attention.danet import ChannelAffinity, DualAttention, DualHead, PositionAttention
from bevfusion.attention.dynamic_capacity import DynamicCapacity
from bevfusion.attention.eca import ECA
from bevfusion.attention.gam import GAM
from bevfusion.attention.gc import GC
from bevfusion.attention.ghost_se import GhostSE
from bevfusion.attention.hard import HardAttention
from bevfusion.attention.non_local import NonLocal
from bevfusion.attention.reference_state import load_reference_state
from bevfusion.attention.roadside import Roadside
from bevfusion.attention.sca import SCA
from bevfusion.attention.se import SE
from bevfusion.attention.self_attention import SelfAttention
from bevfusion.attention.simam import SimAM
from bevfusion.attention.sk import SK
from bevfusion.attention.stn import SpatialTransformer
from bevfusion.attention.strip import Strip
from bevfusion.attention.triplet import Triplet

__all__ = [
    "ATTENTION",
    "BAM",
    "CAM",
    "CBAM",
    "ECA",
    "GAM",
    "GC",
    "SAM",
    "SCA",
    "SE",
    "SK",
    "SLOT_CHOICES",
    "ChannelAffinity",
    "Coordinate",
    "CrissCross",
    "DualAttention",
    "DualHead",
    "DynamicCapacity",
    "GhostSE",
    "HardAttention",
    "NonLocal",
    "Option",
    "PositionAttention",
    "Roadside",
    "SelfAttention",
    "SimAM",
    "SpatialTransformer",
    "Strip",
    "Triplet",
    "attention_options",
    "load_reference_state",
    "make",
    "make_attention",
]

Option = float | int | str | bool

# One line a mechanism.
ATTENTION: dict[str, Callable[..., nn.Module]] = {
    "none": nn.Identity,
    "se": SE,
    "ghost_se": GhostSE,
    "cam": CAM,
    "sam": SAM,
    "cbam": CBAM,
    "bam": BAM,
    "sk": SK,
    "sca": SCA,
    "eca": ECA,
    "simam": SimAM,
    "gam": GAM,
    "triplet": Triplet,
    "coordinate": Coordinate,
    "strip": Strip,
    "gc": GC,
    "stn": SpatialTransformer,
    "dynamic_capacity": DynamicCapacity,
    "hard": HardAttention,
    "self_attention": SelfAttention,
    "non_local": NonLocal,
    "danet_pam": PositionAttention,
    "danet_cam": ChannelAffinity,
    "danet": DualAttention,
    "criss_cross": CrissCross,
    "roadside": Roadside,
}

# What a slot of the network takes, by the name in a configuration: the heads behind it measure in metres.
SLOT_CHOICES = {name: kind for name, kind in ATTENTION.items() if not getattr(kind, "moves_geometry", False)}


def make_attention(name: str, channels: int, options: Mapping[str, Option] | None = None) -> nn.Module:
    """Builds a mechanism by its name: a key of `ATTENTION`, "none" being the identity.

    Raises:
        ValueError: as `make` does.
    """
    return make(ATTENTION, name, channels, options)


def make(
    choices: Mapping[str, Callable[..., nn.Module]],
    name: str,
    channels: int,
    options: Mapping[str, Option] | None = None,
) -> nn.Module:
    """Builds one of several modules `Module(channels, *, options)` by its name.

    Args:
        choices: What there is, by name.
        name: Which of them.
        channels: Number of channels of its input and output.
        options: Keyword options of its constructor.

    Raises:
        ValueError: if the name or an option is unknown, naming the nearest, or the constructor refuses a value.
    """
    known = _options(choices, name)
    for option in options or {}:
        if option not in known:
            raise ValueError(f"{name!r} has no option {option!r}{_nearest(option, known)}; it has {sorted(known)}")
    return choices[name](channels, **(options or {}))


def attention_options(name: str) -> tuple[str, ...]:
    """The options of one mechanism: its constructor's keyword-only arguments.

    Raises:
        ValueError: if there is no such mechanism.
    """
    return _options(ATTENTION, name)


def _options(choices: Mapping[str, Callable[..., nn.Module]], name: str) -> tuple[str, ...]:
    if name not in choices:
        raise ValueError(f"unknown mechanism {name!r}{_nearest(name, choices)}; the choices are {sorted(choices)}")
    arguments = inspect.signature(choices[name]).parameters.values()
    return tuple(argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY)


def _nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {found[0]!r}?" if found else ""
