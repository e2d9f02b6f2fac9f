"""Simulated drives for training, made once and kept."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bevfusion import __version__
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.maps.osm import read_osm
from bevfusion.simulate.drive import DriveOptions, simulate_drive
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError

_TOWN = "town:"


def map_file(spec: str, cache: Path) -> Path:
    """The map that `town:SEED` or a file name stands for; towns are written into the cache when first asked for.

    Raises:
        DataError: if the seed is no number or the file is missing.
    """
    if not spec.startswith(_TOWN):
        if not Path(spec).is_file():
            raise DataError(f"{spec}: no such map file (towns are written town:SEED)")
        return Path(spec)
    seed = spec.removeprefix(_TOWN)
    if not seed.isdigit():
        raise DataError(f"{spec}: expected town:SEED with a whole number, as in town:1")
    path = cache / f"town_{seed}.osm.gz"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        write_town(path, int(seed))
    return path


def simulated_drive(
    spec: str, options: DriveOptions, cache: Path, on_frame: Callable[[int, int], None] | None = None
) -> KittiRawDrive:
    """The drive through a map with these options: simulated when first asked for, read from the cache ever after.

    Args:
        spec: town:SEED or a map file.
        options: of the simulation.
        cache: folder of finished drives; their names carry a digest of map, options and version.
        on_frame: called with (frames done, frames in all) while simulating.
    """
    path = map_file(spec, cache)
    identity = f"{__version__} {json.dumps(asdict(options), sort_keys=True)}".encode() + path.read_bytes()
    digest = hashlib.sha256(identity).hexdigest()[:12]
    folder = cache / f"{path.name.split('.')[0]}_{options.sensor}_{digest}"
    if not folder.is_dir():
        simulate_drive(read_osm(path), folder, options, on_frame)
    return KittiRawDrive(folder)
