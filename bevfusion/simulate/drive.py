"""A simulated drive: route, world, traffic and sensor put together frame by frame, and written as KITTI raw does."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bevfusion.files import check_writable, uninterrupted
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.packed import SUFFIX, pack_scan
from bevfusion.maps.features import OsmMap, Road
from bevfusion.simulate.ground import GroundPatch
from bevfusion.simulate.map_errors import MapErrors, add_noise, check_shares, draw_errors, warp_map
from bevfusion.simulate.relief import Relief
from bevfusion.simulate.route import Path as DrivenPath
from bevfusion.simulate.route import plan_path, ride
from bevfusion.simulate.sensor import Caster, Sensor, scan_world, sensor_of
from bevfusion.simulate.traffic import Traffic
from bevfusion.simulate.world import build_world, true_roads
from bevfusion.structures import DataError, Scan

_START = datetime(2024, 5, 1, 12, 0, 0)
# where the LiDAR sits on the vehicle: p_lidar = p_imu + T, axes alike
LIDAR_FROM_IMU_M = np.array([-0.81, 0.32, -0.80])
GENERATOR = 4
"""Version of the generator: raised whenever the same options give another drive, so that no cached one is reused."""
_SHORTEST_M = 1.0  # a way for a single frame has a direction, too
_PATCH_LIFE_M = 25.0  # the surroundings are cut anew after so many metres


def rotation(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Float[np.ndarray, "3 3"]:
    """Rz(yaw) Ry(pitch) Rx(roll), the order of KITTI's oxts files."""
    cr, sr, cp, sp = math.cos(roll_rad), math.sin(roll_rad), math.cos(pitch_rad), math.sin(pitch_rad)
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


class Recording:
    """A folder that fills with frames.

    Args:
        folder: an existing empty folder.
        frame: how metres of the map become latitude and longitude.
        packed: write scans in a tenth of the space, labels and all, as only this project reads them.
    """

    def __init__(self, folder: Path, frame: LocalFrame, packed: bool = False) -> None:
        self._frame = frame
        self._packed = packed
        self._oxts = folder / "oxts" / "data"
        self._scans = folder / "velodyne_points" / "data"
        self._labels = folder / "labels"
        self._folder = folder
        self._stamps: list[str] = []
        for place in (self._oxts, self._scans, *([] if packed else [self._labels])):
            place.mkdir(parents=True)
        shift = " ".join(f"{value:.12e}" for value in LIDAR_FROM_IMU_M)
        calibration = f"calib_time: simulated\nR: 1 0 0 0 1 0 0 0 1\nT: {shift}\n"
        (folder / "calib_imu_to_velo.txt").write_text(calibration)

    def add(
        self,
        scan: Scan,
        position_m: Float[np.ndarray, " 3"],
        angles_rad: tuple[float, float, float],
        motion: tuple[float, float],
        time_s: float,
    ) -> None:
        """Write one frame.

        Args:
            scan: with a label for every point.
            position_m: of the LiDAR in the map frame.
            angles_rad: (roll, pitch, yaw) of the LiDAR, yaw in the map frame.
            motion: (forward speed in m/s, yaw rate in rad/s).
            time_s: since the first frame.
        """
        name = f"{len(self._stamps):010d}"
        if self._packed:
            (self._scans / f"{name}{SUFFIX}").write_bytes(pack_scan(scan))
        else:
            points = np.column_stack([scan.xyz, scan.intensity]).astype("<f4")
            (self._scans / f"{name}.bin").write_bytes(points.tobytes())
            labels = np.zeros(len(scan), "<u4") if scan.labels is None else scan.labels.astype("<u4")
            (self._labels / f"{name}.label").write_bytes(labels.tobytes())
        roll, pitch, yaw = angles_rad
        imu_m = position_m + rotation(roll, pitch, yaw) @ LIDAR_FROM_IMU_M
        # the convergence is that of the LiDAR's place, a metre away: 1e-7 rad
        geo = self._frame.geo_pose(SE2(float(imu_m[0]), float(imu_m[1]), yaw))
        speed, rate = motion
        values = [geo.lat_deg, geo.lon_deg, float(imu_m[2]), roll, pitch, geo.yaw_rad]
        values += [speed * math.sin(geo.yaw_rad), speed * math.cos(geo.yaw_rad), speed, 0.0, 0.0]  # vn ve vf vl vu
        values += [0.0, 0.0, 9.81] * 2 + [0.0, 0.0, rate] * 2  # ax..au, wx..wu
        values += [0.02, 0.01]  # accuracies of position and speed
        text = " ".join(f"{value:.13g}" for value in values)
        (self._oxts / f"{name}.txt").write_text(f"{text} 4 10 5 5 5\n")
        stamp = _START + timedelta(microseconds=round(time_s * 1e6))
        self._stamps.append(f"{stamp:%Y-%m-%d %H:%M:%S.%f}000")

    def close(self) -> None:
        """Write the timestamps of all frames."""
        text = "".join(stamp + "\n" for stamp in self._stamps)
        for sensor in ("oxts", "velodyne_points"):
            (self._folder / sensor / "timestamps.txt").write_text(text)


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """What to simulate.

    Raises:
        DataError: if a value makes no sense.
    """

    sensor: str | Sensor = "hdl64e"  # one that ships, or as it is described
    frames: int = 100
    seed: int = 0
    spacing_m: float = 1.0  # between frames along the route
    columns: int | None = None  # firings a turn; None: as many as the sensor has
    missing: float = 0.05  # share of the map's buildings that the world lacks
    shifted: float = 0.1  # share that stands 0.5 to 3 m elsewhere
    new: float = 0.05  # buildings that the map lacks, as a share of those it has
    map_noise_m: float = (
        0.25  # standard deviation, along each axis, of every house, tree and pole from its place on the map
    )
    map_warp_m: float = 0.0  # the same for streets, and for houses, but what is near is off alike
    wander_m: float = 0.3  # the same for the vehicle, across its lane
    vehicles: float = 1.0  # density of traffic and of parked cars, 1 is usual
    roadside: float = 1.0  # share of the trees, hedges, fences, poles and signs that is there
    hills: float = 0.015  # root mean square of the land's slope: 0.007 on plains, 0.06 in hilly towns, 0 is level
    sway_deg: float = 0.3  # standard deviation of the vehicle's roll and pitch

    def __post_init__(self) -> None:
        if not (0.0 <= self.map_noise_m <= 2.0 and 0.0 <= self.map_warp_m <= 2.0 and 0.0 <= self.wander_m <= 1.0):
            raise DataError(
                f"expected map_noise_m and map_warp_m within 0 and 2 and wander_m within 0 and 1, got {self}"
            )
        check_shares((self.missing, self.shifted, self.new))
        sensor = sensor_of(self.sensor)
        if self.columns is not None:
            sensor.with_columns(self.columns)
        if self.frames < 1 or self.seed < 0 or not 0.0 < self.spacing_m <= 100.0:
            raise DataError(f"expected at least one frame, a seed from 0 and a spacing up to 100 m, got {self}")
        if not (0.0 <= self.vehicles <= 10.0 and 0.0 <= self.hills <= 0.12 and 0.0 <= self.sway_deg <= 5.0):
            raise DataError(f"expected vehicles up to 10, hills up to 0.12 and sway up to 5, none negative, got {self}")
        if not 0.0 <= self.roadside <= 1.0:
            raise DataError(f"expected a roadside between 0 and 1, got {self}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One turn of the sensor and the truth about it."""

    scan: Scan  # in the sensor's frame, with a label for every point
    map_from_sensor: Float[np.ndarray, "4 4"]
    attitude_rad: tuple[float, float, float]  # (roll, pitch, yaw), a positive pitch points the nose down
    speed_m_s: float
    yaw_rate_rad_s: float
    time_s: float
    ground: GroundPatch

    def ground_height_m(self) -> Float[np.ndarray, " n"]:
        """True height above the datum of the ground under every point of the scan (right within 100 m)."""
        return self.ground.height_m(self._points_m()[:, :2])

    def height_above_ground_m(self) -> Float[np.ndarray, " n"]:
        """True height of every point of the scan above the ground under it (right within 100 m)."""
        points_m = self._points_m()
        above: np.ndarray = points_m[:, 2] - self.ground.height_m(points_m[:, :2])
        return above

    def _points_m(self) -> Float[np.ndarray, "n 3"]:
        pose = self.map_from_sensor
        points: np.ndarray = self.scan.xyz.astype(float) @ pose[:3, :3].T + pose[:3, 3]
        return points


class Simulation:
    """A world with a way through it; `frames` drives along.

    Raises:
        DataError: if the map has no drive of that length.
    """

    def __init__(self, osm: OsmMap, options: DriveOptions) -> None:
        self.options = options
        sensor = sensor_of(options.sensor)
        self.sensor: Sensor = sensor if options.columns is None else sensor.with_columns(options.columns)
        streams = _streams(options.seed)
        # ground of the eight KITTI drives: 0.19 to 0.31 on the mean; `returns.py` follows the four with labels (0.29)
        gain = float(np.clip(streams[9].normal(0.88, 0.13), 0.65, 1.15))
        self.sensor = replace(self.sensor, gain=gain)
        self._motion_rng, self._scan_rng = streams[3], streams[4]
        osm, self.path = _planned(osm, options, streams)
        areas, self.errors = draw_errors(osm, (options.missing, options.shifted, options.new), streams[1])
        relief = Relief.random(streams[7], options.hills)
        drawn, areas = add_noise(osm, areas, options.map_noise_m, streams[1])
        self.world = build_world(drawn, areas, self.path, relief, options.vehicles, streams[2], streams[8])
        if options.roadside < 1.0:  # the same world otherwise
            surfaces = self.world.surfaces.thinned(options.roadside, streams[5])
            self.world = replace(self.world, surfaces=surfaces)

    def frames(self) -> Iterator[Frame]:
        """Drive once; a second call goes on with other traffic and noise."""
        options, rng = self.options, self._motion_rng
        travelled_m = np.arange(options.frames) * options.spacing_m
        places, yaws = self.path.at(travelled_m)
        speed = float(rng.uniform(6.0, 11.0))
        mounted_m = self.sensor.height_m + float(rng.normal(0.0, 0.03))  # load, tyres
        times_s = travelled_m / speed
        sway = _sway_rad(options, rng)
        heights_m, rolls, pitches = ride(self.path, self.world.terrain, speed, travelled_m)
        traffic = Traffic.random(self.path, float(times_s[-1]), options.vehicles, rng)
        cut_at_m = -math.inf
        for i in range(options.frames):
            if travelled_m[i] - cut_at_m >= _PATCH_LIFE_M:
                ahead = min(i + int(0.5 * _PATCH_LIFE_M / options.spacing_m), len(places) - 1)
                surfaces, patch = self.world.around(places[ahead])
                caster, cut_at_m = Caster(surfaces), travelled_m[i]
            angles = (float(rolls[i] + sway[i, 0]), float(pitches[i] + sway[i, 1]), float(yaws[i]))
            pose = np.eye(4)
            pose[:3, :3] = rotation(*angles)
            pose[:2, 3] = places[i]
            pose[2, 3] = heights_m[i] + mounted_m
            vehicles = traffic.at(float(times_s[i]), float(travelled_m[i]))
            movers = Caster(vehicles.surfaces(self.world.terrain, moving=True))
            scan = scan_world(self.sensor, caster, movers, (patch, self.world.facades), pose, self._scan_rng)
            rate = float(yaws[min(i + 1, len(yaws) - 1)] - yaws[i]) * speed / options.spacing_m
            yield Frame(scan, pose, angles, speed, rate, float(times_s[i]), patch)


def true_way(osm: OsmMap, options: DriveOptions) -> tuple[DrivenPath, tuple[Road, ...]]:
    """What a drive with these options follows, and the roads where they really are: no world is built for it.

    Args:
        osm: the map that the world differs from.
        options: of the drive; frame i is taken `i * spacing_m` along the path.

    Raises:
        DataError: if the map has no drive of that length.
    """
    streams = _streams(options.seed)
    world, path = _planned(osm, options, streams)
    return path, true_roads(world.roads, path, streams[2])


def _streams(seed: int) -> list[np.random.Generator]:
    """One stream of random numbers a part, so that e.g. more traffic leaves the route as it is."""
    return [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(10)]


def _planned(osm: OsmMap, options: DriveOptions, streams: Sequence[np.random.Generator]) -> tuple[OsmMap, DrivenPath]:
    """What is driven and seen (whoever reads the map has the old one), and the way through it."""
    osm = warp_map(osm, options.map_warp_m, streams[6])
    length_m = max((options.frames - 1) * options.spacing_m, _SHORTEST_M)
    return osm, plan_path(osm, length_m, streams[0], wander_m=options.wander_m)


def simulate_drive(
    osm: OsmMap,
    output: Path,
    options: DriveOptions,
    on_frame: Callable[[int, int], None] | None = None,
    *,
    packed: bool = False,
    keep_interrupted: bool = False,
) -> Path:
    """Drive through the map and write what the sensor saw as a KITTI raw drive with labels.

    Args:
        osm: the map; the world differs from it as the options say.
        output: folder to create; must not exist, or be empty.
        options: what to simulate.
        on_frame: called with (frames done, frames in all) after every frame.
        packed: write scans as `lidar/packed.py` does, in a tenth of the space.
        keep_interrupted: if it is interrupted, the frames so far become the drive; else nothing does.

    Returns:
        The drive's folder.

    Raises:
        DataError: if the folder is taken, or the map has no drive of that length.
        OSError: if the disk is full or may not be written to.
        KeyboardInterrupt: once what is to be kept is written.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output} exists already: choose another folder or remove it")
    check_writable(output)
    simulation = Simulation(osm, options)
    draft = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        recording, interrupted = Recording(draft, osm.frame, packed), False
        done = 0
        try:
            for frame in simulation.frames():
                motion = (frame.speed_m_s, frame.yaw_rate_rad_s)
                with uninterrupted():  # a frame is several files
                    recording.add(frame.scan, frame.map_from_sensor[:3, 3], frame.attitude_rad, motion, frame.time_s)
                    done += 1
                    if on_frame is not None:
                        on_frame(done, options.frames)
        except KeyboardInterrupt:
            if not keep_interrupted or not done:
                raise
            interrupted = True
        with uninterrupted():
            recording.close()
            about = _summary(osm, options, simulation.errors) | ({"interrupted_after": done} if interrupted else {})
            (draft / "simulation.json").write_text(json.dumps(about, indent=1) + "\n")
            draft.chmod(0o755)
            if output.exists():
                output.rmdir()
            draft.rename(output)
        if interrupted:
            raise KeyboardInterrupt
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return output


def _sway_rad(options: DriveOptions, rng: np.random.Generator) -> Float[np.ndarray, "n 2"]:
    """Roll and pitch of the sensor: the slowly changing ones of the body, and a mounting that is never quite level."""
    keep = math.exp(-options.spacing_m / 8.0)
    noise = rng.normal(0.0, math.radians(options.sway_deg), (options.frames, 2))
    sway = noise.copy()
    for i in range(1, len(sway)):
        sway[i] = keep * sway[i - 1] + math.sqrt(1.0 - keep**2) * noise[i]
    return sway + rng.normal(0.0, 1.5 * math.radians(options.sway_deg), 2)


def _summary(osm: OsmMap, options: DriveOptions, errors: MapErrors) -> dict[str, object]:
    """What `simulation.json` says; buildings are named by their index among the map's areas."""
    return {
        "map": osm.name,
        "origin": [osm.frame.origin_lat_deg, osm.frame.origin_lon_deg],
        "options": asdict(options),
        "seed": options.seed,
        "buildings": {
            "missing": list(errors.missing),
            "shifted": {str(index): list(shift) for index, shift in errors.shifted.items()},
            "new": [area.outer_m.round(2).tolist() for area in errors.new],
        },
    }
