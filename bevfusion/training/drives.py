"""The simulated drives of a configuration: what to train, validate and test on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bevfusion.config import Config
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.simulated import DriveRequest, map_file, simulated_drive
from bevfusion.datasets.simulation_pool import make_drives
from bevfusion.maps.source import MapSource, open_map
from bevfusion.simulate.drive import DriveOptions

Drives = Sequence[tuple[Drive, MapSource]]
Role = Literal["train", "val", "test"]


def prepare_drives(config: Config) -> None:
    """Make every drive that a run will ask for and the cache lacks: all at once, from all cores.

    Raises:
        DataError: if a map cannot be used.
    """
    roles: tuple[Role, ...] = ("train", "val", "test")
    make_drives([request for role in roles for request in _requests(config, role)], Path(config.simulation.cache))


def drives_for(config: Config, role: Role, *, roadside: float = 1.0) -> Drives:
    """The simulated drives of a run, made now where the cache lacks them, with progress.

    Args:
        config: of the run.
        role: what they are for.
        roadside: share of what stands beside the road that is there.

    Raises:
        DataError: if a map cannot be used.
    """
    cache, requests = Path(config.simulation.cache), _requests(config, role, roadside)
    make_drives(requests, cache)
    return [(simulated_drive(r.spec, r.options, cache), open_map(map_file(r.spec, cache))) for r in requests]


def _requests(config: Config, role: Role, roadside: float = 1.0) -> list[DriveRequest]:
    """One a map; the maps take the sensors in turn, and so the densities of traffic and the hills."""
    simulation = config.simulation
    specs: tuple[str, ...] = getattr(simulation, role)
    own_seed = simulation.val_seed if role == "val" else None
    return [
        DriveRequest(
            spec,
            DriveOptions(
                sensor=simulation.sensors[number % len(simulation.sensors)],
                frames=simulation.frames if role == "train" else simulation.eval_frames,
                seed=config.seed if own_seed is None else own_seed,
                spacing_m=simulation.spacing_m,
                columns=simulation.columns,
                missing=simulation.missing,
                shifted=simulation.shifted,
                new=simulation.new,
                map_noise_m=simulation.map_noise_m,
                map_warp_m=simulation.map_warp_m,
                vehicles=simulation.vehicles[number % len(simulation.vehicles)],
                roadside=roadside,
                hills=simulation.hills[number % len(simulation.hills)],
            ),
        )
        for number, spec in enumerate(specs)
    ]
