"""The simulated drives of a configuration: what to train, validate and test on."""

from collections.abc import Sequence
from pathlib import Path

from bevfusion.config import Config, SimulationConfig
from bevfusion.datasets.drive import Drive
from bevfusion.datasets.fleet import make_drives
from bevfusion.datasets.simulated import DriveRequest, map_file, simulated_drive
from bevfusion.evaluation.protocol import Protocol
from bevfusion.maps.source import MapSource, open_map
from bevfusion.simulate.drive import DriveOptions

Drives = Sequence[tuple[Drive, MapSource]]


def prepare_drives(config: Config) -> None:
    """Make every drive that a run will ask for and the cache lacks: all at once, from all cores.

    Raises:
        DataError: if a map cannot be used.
    """
    simulation = config.simulation
    requests = _requests(simulation, simulation.train, simulation.frames, config.seed)
    for specs in (simulation.val, simulation.test):
        requests += _requests(simulation, specs, simulation.eval_frames, config.seed)
    make_drives(requests, Path(simulation.cache))


def as_trained(config: Config) -> Protocol:
    """How the test drives are asked for: each scan on its own, as far from the truth as in training."""
    return Protocol(offset_m=config.search.offset_m, offset_deg=config.search.offset_deg, seed=config.seed)


def prepared_drives(
    simulation: SimulationConfig, specs: Sequence[str], *, frames: int, seed: int, roadside: float = 1.0
) -> Drives:
    """Simulated drives through the maps, made now where the cache lacks them, with progress.

    Args:
        simulation: how.
        specs: the maps.
        frames: of each.
        seed: of all.
        roadside: share of what stands beside the road that is there.

    Raises:
        DataError: if a map cannot be used.
    """
    cache, requests = Path(simulation.cache), _requests(simulation, specs, frames, seed, roadside)
    make_drives(requests, cache)
    return [(simulated_drive(r.spec, r.options, cache), open_map(map_file(r.spec, cache))) for r in requests]


def _requests(
    simulation: SimulationConfig, specs: Sequence[str], frames: int, seed: int, roadside: float = 1.0
) -> list[DriveRequest]:
    """One a map; the maps take the sensors in turn, and so the densities of traffic."""
    return [
        DriveRequest(
            spec,
            DriveOptions(
                sensor=simulation.sensors[number % len(simulation.sensors)],
                frames=frames,
                seed=seed,
                spacing_m=simulation.spacing_m,
                columns=simulation.columns,
                missing=simulation.missing,
                shifted=simulation.shifted,
                new=simulation.new,
                drawn_m=simulation.drawn_m,
                swerve_m=simulation.swerve_m,
                vehicles=simulation.vehicles[number % len(simulation.vehicles)],
                roadside=roadside,
            ),
        )
        for number, spec in enumerate(specs)
    ]
