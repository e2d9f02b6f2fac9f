"""The drives of a configuration, simulated and recorded: what to train, validate and test on.

Of recorded drives those frames count that can be learned from, each drive with its map.
"""

import itertools
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bevfusion.config import ROLES, Config, DriveSource, Role, SensorConfig
from bevfusion.datasets.drive import BadFrames, Derived, Drive, FrameSelection, truths_of
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive
from bevfusion.datasets.simulated import DriveRequest, make_drives, map_file, simulated_drive
from bevfusion.direction.road_graph import road_graph_of
from bevfusion.direction.targets import DrivenWay, Ways
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.osm import read_osm
from bevfusion.maps.source import MapSource, first_covering, open_map
from bevfusion.progress import frame_progress
from bevfusion.simulate.drive import DriveOptions, true_way
from bevfusion.simulate.sensor import Sensor, described_sensor, sensor_choice
from bevfusion.structures import DataError, Frame

log = logging.getLogger(__name__)
PARTS = ("lidar", "gnss", "imu", "odometry")
Drives = Sequence[tuple[Drive, MapSource]]


class LearnableFrames(Derived):
    """The frames of a drive at some positions; frame numbers and stamps stay as they are."""

    def __init__(self, drive: Drive, positions: Sequence[int]) -> None:
        """`positions` are those of the drive, in order of time."""
        super().__init__(drive)
        self.positions = tuple(positions)

    def __len__(self) -> int:
        """Number of these frames."""
        return len(self.positions)

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position among these."""
        return self._drive[self.positions[position]]


@cache
def recorded_drive(source: DriveSource) -> tuple[LearnableFrames, MapSource]:
    """A recorded drive without the frames that have no true pose, lie off its map, or cannot be read; they are counted.

    Every scan is read once, so that a broken one is found out before a night of training. What was opened is kept:
    training, calibration and evaluation ask for the same drives.

    Raises:
        DataError: if the drive or its map cannot be used, or no frame is left.
    """
    drive = open_drive(source.drive, log_options(source))
    drive.summary.log(log)
    chosen = FrameSelection(source.start, source.frames, source.every).indices(len(drive))
    if not chosen:
        raise DataError(
            f"{source.drive}: no frame is left of its {len(drive)} with start {source.start}, frames {source.frames}, "
            f"every {source.every}"
        )
    area = _opened_map(source.map)
    kept, without_truth, off_map, place = [], 0, 0, None
    bad = BadFrames(drive)
    with frame_progress(f"looking through {drive.name}", len(chosen)) as show:
        for done, position in enumerate(chosen, start=1):
            try:
                truth = drive[position].truth
            except DataError as error:
                bad.skip(position, error)
            else:
                if truth is None:
                    without_truth += 1
                elif first_covering([area], truth) is None:
                    off_map, place = off_map + 1, place or truth
                else:
                    kept.append(position)
            show(done, len(chosen))
    left = {"without a true pose": without_truth, f"off {source.map}": off_map, "unreadable": len(bad)}
    told = ", ".join(f"{count} {why}" for why, count in left.items() if count)
    if not kept:
        raise DataError(_nothing_left(source, len(chosen), told, place, area))
    if told:
        log.warning("%s: %d of %d frames are left out: %s", source.drive, len(chosen) - len(kept), len(chosen), told)
    return LearnableFrames(drive, kept), area


def log_options(source: DriveSource) -> LogOptions:
    """How the log is to be read.

    Raises:
        DataError: if a topic is malformed.
    """
    pairs = [tuple(word.split("=", 1)) for word in source.topics]
    for word, pair in zip(source.topics, pairs, strict=True):
        if len(pair) != 2 or pair[0] not in PARTS or not pair[1]:
            raise DataError(f"topics of {source.drive}: expected PART=NAME with a part of {', '.join(PARTS)}: {word!r}")
    return LogOptions(
        topics=tuple((pair[0], pair[1]) for pair in pairs),
        extrinsics=source.extrinsics,
        truth=Path(source.poses) if source.poses else None,
        columns=source.columns,
    )


def _nothing_left(source: DriveSource, count: int, told: str, place: GeoPose | None, area: MapSource) -> str:
    if place is None:
        remedy = "" if source.poses else "; give poses: PATH, e.g. the poses.csv of `bevfusion track --smooth`"
        return f"{source.drive}: nothing to learn from in {count} frames: {told}{remedy}"
    west, south, east, north = area.bounds_m
    corners = [area.frame.degrees_from_metres(west, south), area.frame.degrees_from_metres(east, north)]
    (lat0, lon0), (lat1, lon1) = corners
    return (
        f"{source.drive}: lies off its map: {told} of {count} frames; it passes lat {place.lat_deg:.5f}, lon "
        f"{place.lon_deg:.5f}, the map spans lat {lat0:.5f} to {lat1:.5f}, lon {lon0:.5f} to {lon1:.5f}"
    )


@cache
def _opened_map(path: str) -> MapSource:
    """Drives of one map share it."""
    return open_map(path)


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
