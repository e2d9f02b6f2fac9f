"""The Python face: from a scan, or a drive, and a map to poses as latitude, longitude and heading.

    import bevfusion

    localizer = bevfusion.Localizer.open("default", "town.osm.pbf")
    pose = localizer.locate(bevfusion.read_scan("scan.pcd"), near=(48.9826, 8.3904), heading_deg=90)
    print(pose.lat, pose.lon, pose.heading_deg, pose.std_m)

Everything else in the package may change from version to version; what `bevfusion.__all__` names stays.
"""

import base64
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from bevfusion.direction.field import DirectionField
from bevfusion.direction.guide import Guide
from bevfusion.direction.path import PathAhead
from bevfusion.direction.picture import draw_field, draw_paths
from bevfusion.direction.route_files import read_route
from bevfusion.drawing import ESTIMATE, new_figure
from bevfusion.filters.start import fix_window_m
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.heads.map_error import MAP_ERROR_M, with_map_error
from bevfusion.lidar.ground import height_above_ground
from bevfusion.localizer import filter_config, open_locator
from bevfusion.maps.pictures import ATTRIBUTION, paint
from bevfusion.maps.source import MapSource, first_covering, off_all_maps, open_map
from bevfusion.precision import Precision, precision_named
from bevfusion.sequence import sequence_localizer
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate, Scan

PathLike = str | os.PathLike[str]
State = Literal["located", "following", "lost"]

WINDOW_M = 20.0
WINDOW_DEG = 10.0
_SHOWN_M = 40.0  # half the side of a picture
_TALL_M = 0.5  # points higher than this above the ground are drawn


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a scan was taken, and which way the sensor faced."""

    lat: float  # degrees, WGS84
    lon: float
    heading_deg: float  # counter-clockwise from true east, in [-180, 180)
    x_m: float  # east of the map's origin
    y_m: float  # north of it
    covariance: Float[np.ndarray, "3 3"]  # of x, y in m and of the heading in rad; with the map's own error
    confidence: float  # how well scan and map agree: probability within 2 m and 4 degrees of this pose, on the map
    map_name: str
    stamp_ns: int | None  # of the frame; None for a single scan
    estimate: PoseEstimate = dataclass_field(repr=False)  # with the whole belief
    _scan: Scan = dataclass_field(repr=False)
    _source: MapSource = dataclass_field(repr=False)

    @property
    def compass_deg(self) -> float:
        """Heading as a compass has it: clockwise from north, in [0, 360)."""
        return (90.0 - self.heading_deg) % 360.0

    @property
    def std_m(self) -> float:
        """Standard deviation of the position along its worst direction, in metres."""
        return math.sqrt(float(np.linalg.eigvalsh(self.covariance[:2, :2])[-1]))

    def paths(self, *, route: PathLike | None = None, to: tuple[float, float] | None = None) -> list[PathAhead]:
        """Which way the road goes from here: the map's way, corrected by the scan where the checkpoint has learned how.

        Each path has `xy_m`, points 2 m apart up to 40 m ahead in the sensor's frame (x ahead, y left), the direction
        there, `yaw_rad`, its standard deviation `std_rad` as far as the pose is in doubt, and its `probability`.

        Args:
            route: a file with the route to follow: GeoJSON, GPX, or a graph of nav2's route server.
            to: latitude and longitude of a goal: the shortest way there, on the map's roads or over nav2's graph.

        Returns:
            One path along the route; without route and goal one for each branch ahead, the likeliest first.

        Raises:
            DataError: if the map has no roads, or nothing leads on from the pose, or there.
        """
        goal = None if to is None else _goal(to)
        guide = Guide(self._source, None if route is None else read_route(Path(route)), goal)
        return guide.paths(self.estimate.map_from_ego, self.covariance, self.estimate.direction)

    def plot(self, paths: Sequence[PathAhead] = ()) -> Any:
        """A matplotlib figure of the scan on the map; `.savefig("pose.png")` writes it.

        Args:
            paths: ways ahead to draw over it.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        return draw_pose(self._scan, self.estimate, self._source, paths)

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture, or the numbers alone where matplotlib is not installed."""
        told = f"{self.lat:.7f}, {self.lon:.7f}, heading {self.heading_deg:.1f}°, confidence {self.confidence:.2f}"
        try:
            figure = self.plot()
        except ImportError:
            return f"<p>{told}</p>"
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=90)
        encoded = base64.b64encode(written.getvalue()).decode("ascii")
        return f'<p>{told}</p><img alt="scan on the map" src="data:image/png;base64,{encoded}">'


def draw_pose(
    scan: Scan,
    estimate: PoseEstimate,
    source: MapSource,
    paths: Sequence[PathAhead] = (),
    field: DirectionField | None = None,
) -> Any:
    """A matplotlib figure of a scan where it was found on the map, and of the ways ahead: as wide as they are likely.

    Args:
        scan: that was located.
        estimate: where.
        source: the map.
        paths: ahead of it.
        field: about it: where one can drive, and which way.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    pose = estimate.map_from_ego
    place = source.frame.geo_pose(pose)
    std_m = math.sqrt(float(np.linalg.eigvalsh(estimate.covariance[:2, :2])[-1]))
    figure, (axis,) = new_figure(6.0, 6.4)
    grid = Grid.square(_SHOWN_M, 0.25)
    picture = paint(source.draw(grid, SE2(pose.x_m, pose.y_m, 0.0)))
    east, north = (pose.x_m - _SHOWN_M, pose.x_m + _SHOWN_M), (pose.y_m - _SHOWN_M, pose.y_m + _SHOWN_M)
    axis.imshow(picture, extent=(*east, *north), interpolation="nearest")
    tall = scan.xyz[height_above_ground(scan.xyz) > _TALL_M, :2]
    on_map = pose.apply(tall)
    axis.scatter(on_map[:, 0], on_map[:, 1], s=0.4, color="black", linewidths=0)
    ahead = 8.0 * math.cos(pose.yaw_rad), 8.0 * math.sin(pose.yaw_rad)
    axis.arrow(pose.x_m, pose.y_m, *ahead, width=0.6, color=ESTIMATE)
    if field is not None:
        draw_field(axis, field)
    draw_paths(axis, pose, paths)
    axis.set(xlim=east, ylim=north, xlabel="east (m)", ylabel="north (m)", aspect="equal")
    heading_deg = math.degrees(place.yaw_rad)
    axis.set_title(f"{place.lat_deg:.6f}, {place.lon_deg:.6f}, {heading_deg:.0f}° from east, ± {std_m:.1f} m")
    axis.annotate(ATTRIBUTION, (0.99, 0.01), xycoords="axes fraction", ha="right", va="bottom", fontsize=7)
    return figure


def _goal(to: tuple[float, float]) -> GeoPose:
    try:
        return GeoPose(*to)
    except (TypeError, ValueError) as error:
        raise DataError(f"to is (latitude, longitude) in degrees, got {to!r}") from error


class Localizer:
    """A checkpoint at work on one or several maps."""

    def __init__(
        self, checkpoint: str, sources: Sequence[MapSource], locators: Sequence[Locator], map_error_m: float
    ) -> None:
        """One that is open: `Localizer.open` makes it."""
        self._checkpoint, self._sources, self._locators = checkpoint, sources, locators
        self._map_error_m = map_error_m

    @classmethod
    def open(
        cls,
        checkpoint: PathLike,
        maps: PathLike | Sequence[PathLike],
        *,
        map_error_m: float = MAP_ERROR_M,
        precision: Precision = "auto",
    ) -> "Localizer":
        """Open a checkpoint on maps.

        Args:
            checkpoint: `default`, `classical`, a .safetensors file or the folder of a training run.
            maps: a map file or several; each question takes the first that covers it.
            map_error_m: how far maps may be off as a whole, see `heads/map_error.py`.
            precision: in which the network computes: float32, bfloat16, or auto, the latter where the processor has it.

        Raises:
            DataError: if a file is missing or cannot be used.
        """
        computing = precision_named(precision)
        paths = [maps] if isinstance(maps, str | os.PathLike) else list(maps)
        if not paths:
            raise DataError("expected at least one map")
        sources = [open_map(Path(path)) for path in paths]
        name = os.fspath(checkpoint)
        return cls(name, sources, [open_locator(name, source, computing) for source in sources], map_error_m)

    def locate(
        self,
        scan: Scan,
        near: tuple[float, float],
        heading_deg: float | None = None,
        *,
        offset_m: float = WINDOW_M,
        offset_deg: float = WINDOW_DEG,
    ) -> Pose:
        """The pose of a single scan near a place.

        Args:
            scan: what `bevfusion.read_scan` reads, or `Frame.scan`.
            near: latitude and longitude in degrees.
            heading_deg: about which way the sensor faces, counter-clockwise from true east; None: any way.
            offset_m: how far the place may be off, along east and north.
            offset_deg: how far the heading may be off, where one is given.

        Raises:
            DataError: if no map covers the place, or the scan has no point in range.
        """
        index, prior = self._on_map(near, heading_deg)
        offset_rad = math.pi if heading_deg is None else math.radians(offset_deg)
        locator = self._locators[index]
        estimate = with_map_error(
            locator.locate(scan, prior, offset_m, offset_rad), self._map_error_m, locator.map_error_m
        )
        return self._pose(estimate, self._sources[index], scan, None)

    def track(
        self,
        drive: Iterable[Frame],
        near: tuple[float, float] | None = None,
        heading_deg: float | None = None,
        *,
        offset_m: float | None = None,
        offset_deg: float = WINDOW_DEG,
    ) -> Iterator[Pose | None]:
        """A pose for each frame of a drive, or None where it is lost or too doubtful to say.

        The start is `near`, or the first GNSS fix that lies on a map; frames before it have no pose. The truth that a
        drive may hold is not used.

        Args:
            drive: what `bevfusion.open_drive` opens, or any frames in order of time.
            near: as of `locate`.
            heading_deg: as of `locate`.
            offset_m: as of `locate`; None: 20 about `near`, of a fix as its covariance says (`filters/start.py`).
            offset_deg: as of `locate`.

        Raises:
            DataError: if no map covers `near`, or no frame has both a fix and a map where there is no `near`.
        """
        follower, source = None, None
        config = filter_config(self._checkpoint)
        for frame in drive:
            if follower is None:
                start = self._start(frame, near, heading_deg)
                if start is None:
                    yield None
                    continue
                index, prior, any_heading = start
                source = self._sources[index]
                follower = sequence_localizer(self._locators[index], source, config)
                window_m = offset_m
                if window_m is None:
                    window_m = WINDOW_M if near is not None else fix_window_m(frame.gnss_std_m)
                follower.start(prior, window_m, math.pi if any_heading else math.radians(offset_deg))
            estimate = follower.step(frame)
            if estimate is None or source is None:
                yield None
                continue
            yield self._pose(with_map_error(estimate, self._map_error_m), source, frame.scan, frame.stamp_ns)
        if follower is None:
            raise DataError("no frame has a GNSS fix that lies on a map: say where the drive starts (near)")

    def _start(
        self, frame: Frame, near: tuple[float, float] | None, heading_deg: float | None
    ) -> tuple[int, SE2, bool] | None:
        """Map, prior, and whether its heading says nothing; None while there is no place to start from."""
        if near is not None:
            return *self._on_map(near, heading_deg), heading_deg is None
        found = None if frame.gnss is None else first_covering(self._sources, frame.gnss)
        return None if found is None else (*found, True)

    def _on_map(self, near: tuple[float, float], heading_deg: float | None) -> tuple[int, SE2]:
        try:
            place = GeoPose(*near, 0.0 if heading_deg is None else math.radians(heading_deg))
        except (TypeError, ValueError) as error:
            raise DataError(f"near is (latitude, longitude) in degrees, got {near!r}") from error
        found = first_covering(self._sources, place)
        if found is None:
            raise DataError(off_all_maps(self._sources, place, "near"))
        return found

    @staticmethod
    def _pose(estimate: PoseEstimate, source: MapSource, scan: Scan, stamp_ns: int | None) -> Pose:
        place, on_map = source.frame.geo_pose(estimate.map_from_ego), estimate.map_from_ego
        return Pose(
            lat=place.lat_deg,
            lon=place.lon_deg,
            heading_deg=math.degrees(place.yaw_rad),
            x_m=on_map.x_m,
            y_m=on_map.y_m,
            covariance=estimate.covariance,
            confidence=estimate.confidence,
            map_name=source.name,
            stamp_ns=stamp_ns,
            estimate=estimate,
            _scan=scan,
            _source=source,
        )
