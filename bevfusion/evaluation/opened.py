"""What is evaluated, opened on each map once, however many ask for it."""

from collections.abc import Callable
from typing import TypeVar

from bevfusion.maps.source import MapSource
from bevfusion.structures import Locator

MakeLocator = Callable[[MapSource], Locator]
Opened = TypeVar("Opened", bound=Locator)


def once_a_map(make_locator: Callable[[MapSource], Opened]) -> Callable[[MapSource], Opened]:
    """The same, but a second call with a map gives what the first one opened."""
    opened: dict[int, tuple[MapSource, Opened]] = {}  # by identity, with the map, so that no other comes to share it

    def locator_on(source: MapSource) -> Opened:
        if id(source) not in opened:
            opened[id(source)] = (source, make_locator(source))
        return opened[id(source)][1]

    return locator_on
