"""Where on the map am I, and which way do I face? LiDAR localization against OpenStreetMap.

    localizer = bevfusion.Localizer.open("default", "town.osm.pbf")
    pose = localizer.locate(bevfusion.read_scan("scan.pcd"), near=(48.9826, 8.3904), heading_deg=90)

`__all__` names what stays from version to version; it is imported when first asked for, so that `import bevfusion` and
parts of it, as `bevfusion.attention`, stay cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["DataError", "Frame", "Localizer", "PathAhead", "Pose", "Scan", "open_drive", "open_map", "read_scan"]

if TYPE_CHECKING:
    from bevfusion.api import Localizer, Pose
    from bevfusion.datasets.open import open_drive, read_scan
    from bevfusion.direction.path import PathAhead
    from bevfusion.maps.source import open_map
    from bevfusion.structures import DataError, Frame, Scan

_HOME = {
    "Localizer": "bevfusion.api",
    "PathAhead": "bevfusion.direction.path",
    "Pose": "bevfusion.api",
    "open_drive": "bevfusion.datasets.open",
    "read_scan": "bevfusion.datasets.open",
    "open_map": "bevfusion.maps.source",
    "DataError": "bevfusion.structures",
    "Frame": "bevfusion.structures",
    "Scan": "bevfusion.structures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bevfusion' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
