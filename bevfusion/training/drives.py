"""The drives of a configuration: what to train, validate and test on, recorded and simulated."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

from bevfusion.config import ROLES, Config, DriveSource, Role, SensorConfig
from bevfusion.datasets.drive import Drive, truths_of
from bevfusion.datasets.simulated import DriveRequest, make_drives, map_file, simulated_drive
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.direction.targets import DrivenWay, Ways
from bevfusion.maps.osm import read_osm
from bevfusion.maps.source import MapSource, open_map
from bevfusion.simulate.drive import DriveOptions, true_way
from bevfusion.simulate.sensor import Sensor
from bevfusion.simulate.sensor_file import described_sensor, sensor_choice
from bevfusion.training.recorded import recorded_drive

log = logging.getLogger(__name__)

Drives = Sequence[tuple[Drive, MapSource]]


def prepare_drives(config: Config) -> None:
    """Look through every recorded drive of a run, and make every simulated one that the cache lacks, from all cores.

    Raises:
        DataError: if a drive or a map cannot be used.
    """
    for role in ROLES:
        for source in config.sources(role):
            if source.drive:
                drive, area = recorded_drive(source)
                log.info("%s: %d frames of %s on %s", role, len(drive), source.drive, area.name)
        if getattr(config.data, role) is None and config.data != type(config.data)():
            maps = ", ".join(source.simulate for source in config.sources(role))
            log.info("%s: simulated, on %s (simulation.%s), for data.%s is not given", role, maps, role, role)
    _tell_of_shared_frames(config)
    make_drives([request for role in ROLES for request in _requests(config, role)], Path(config.simulation.cache))


def drives_for(config: Config, role: Role, *, roadside: float = 1.0) -> Drives:
    """The drives of a run in order; simulated ones are made now where the cache lacks them, with progress.

    Args:
        config: of the run.
        role: what they are for.
        roadside: share of what stands beside the road that is there; where it is not all, recorded drives are left
            out, for nobody can thin theirs.

    Raises:
        DataError: if a drive or a map cannot be used.
    """
    cache, requests = Path(config.simulation.cache), _requests(config, role, roadside)
    make_drives(requests, cache)
    made = iter([(simulated_drive(r.spec, r.options, cache), open_map(map_file(r.spec, cache))) for r in requests])
    return [
        next(made) if source.simulate else recorded_drive(source)
        for source in config.sources(role)
        if source.simulate or roadside == 1.0
    ]


def ways_for(config: Config, role: Role) -> list[Ways]:
    """The ways that the drives of `drives_for` took, in the same order, matched onto the roads of their maps.

    Of simulated drives the way and the roads of the world are known, of recorded ones the true poses alone.

    Raises:
        DataError: if a map has no roads, as pictures have none.
    """
    cache, requests = Path(config.simulation.cache), iter(_requests(config, role))
    ways = []
    for source, (drive, area) in zip(config.sources(role), drives_for(config, role), strict=True):
        graph = road_graph_of(area)
        if source.simulate:
            request = next(requests)
            path, roads = true_way(read_osm(map_file(request.spec, cache)), request.options)
            ways.append(Ways(DrivenWay(path.xy_m, path.yaw_rad, roads), graph))
        else:
            poses = [area.frame.map_from_ego(place) for place in truths_of(drive).values()]
            ways.append(Ways(DrivenWay.through(poses), graph))
    return ways


def describe_drives(config: Config, role: Role) -> str:
    """In words for a report: which drives a role has."""
    frames = config.simulation.frames if role == "train" else config.simulation.eval_frames
    simulated = [source.simulate for source in config.sources(role) if source.simulate]
    recorded = [source.drive for source in config.sources(role) if source.drive]
    parts = [f"{', '.join(simulated)} ({frames} frames each)"] if simulated else []
    parts += [f"recorded: {', '.join(recorded)}"] if recorded else []
    return "; ".join(parts)


def _requests(config: Config, role: Role, roadside: float = 1.0) -> list[DriveRequest]:
    """One a map; the maps take the sensors in turn, and so the densities of traffic and the hills."""
    simulation = config.simulation
    specs = [source.simulate for source in config.sources(role) if source.simulate]
    own_seed = simulation.val_seed if role == "val" else None
    sensors = [_sensor(choice) for choice in simulation.sensors]
    return [
        DriveRequest(
            spec,
            DriveOptions(
                sensor=sensors[number % len(sensors)],
                frames=simulation.frames if role == "train" else simulation.eval_frames,
                seed=config.seed if own_seed is None else own_seed,
                spacing_m=simulation.spacing_m,
                columns=simulation.columns if isinstance(sensors[number % len(sensors)], str) else None,
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


def _sensor(choice: str | SensorConfig) -> str | Sensor:
    """A name, or what a file or the configuration itself describes."""
    return described_sensor(choice) if isinstance(choice, SensorConfig) else sensor_choice(choice)


def _tell_of_shared_frames(config: Config) -> None:
    """Warn of frames that two roles have: what was trained on says nothing about other streets."""
    for one, other in itertools.combinations(ROLES, 2):
        for a, b in itertools.product(config.sources(one), config.sources(other)):
            shared = len(_frames(a) & _frames(b)) if _same_drive(a, b) else 0
            if shared:
                log.warning("%s: %d frames are in %s and in %s", a.drive, shared, one, other)


def _same_drive(a: DriveSource, b: DriveSource) -> bool:
    return bool(a.drive and b.drive) and Path(a.drive).resolve() == Path(b.drive).resolve()


def _frames(source: DriveSource) -> set[int]:
    return set(recorded_drive(source)[0].positions)
