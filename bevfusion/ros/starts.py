"""Where and when the node starts to follow the vehicle: at a pose, at a GNSS fix, anywhere on the map, or as before.

Messages are objects with the fields of their ROS type, of either ROS.
"""

import logging
import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

from bevfusion.datasets.bag_tracks import fix_std_m
from bevfusion.datasets.rigid import bare
from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.filters.start import fix_window_m
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.source import MapSource
from bevfusion.ros.parameters import NodeParameters
from bevfusion.ros.transforms import planar_pose
from bevfusion.structures import DataError, Frame, PoseEstimate

log = logging.getLogger(__name__)

REPLAYED_NS = 5 * 10**9  # a log that begins again within so much of the start is started as before
StartState = Literal["waiting", "searching", "lost", "following"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin; without a place, anywhere on the map."""

    map_from_base: SE2 | None
    offset_m: float = 0.0
    offset_rad: float = math.pi


def start_at(map_from_base: SE2, parameters: NodeParameters) -> Start:
    """Within the window of the parameters about a pose."""
    any_heading = parameters.offset_deg >= 180.0
    offset_rad = math.pi if any_heading else math.radians(parameters.offset_deg)
    return Start(map_from_base, parameters.offset_m, offset_rad)


def start_of_pose(message: Any, parameters: NodeParameters) -> Start:
    """From a pose on the map (geometry_msgs/PoseWithCovarianceStamped).

    The window is that of the parameters, whatever the covariance says: tools fill that in at will.

    Raises:
        DataError: if it is of another frame, or no pose.
    """
    frame = bare(message.header.frame_id)
    if frame != parameters.map_frame:
        raise DataError(f"~/initialpose is in the frame {frame!r}, expected {parameters.map_frame!r}")
    return start_at(planar_pose(message.pose.pose, "~/initialpose"), parameters)


def start_of_fix(message: Any, source: MapSource, parameters: NodeParameters) -> Start | None:
    """From GNSS (sensor_msgs/NavSatFix), with any heading; None: the receiver has no fix.

    The window is that of the parameters, or wider where the covariance asks for it (`filters/start.py`).

    Raises:
        DataError: if it is no place, or off the map.
    """
    if int(message.status.status) < 0:
        return None
    lat_deg, lon_deg = float(message.latitude), float(message.longitude)
    try:
        place = source.frame.map_from_ego(GeoPose(lat_deg, lon_deg))
    except ValueError as error:
        raise DataError(f"~/fix: {error}") from error
    if not source.covers(place.x_m, place.y_m):
        raise DataError(f"~/fix {lat_deg:.6f}, {lon_deg:.6f} lies off the map")
    std_m = fix_std_m(message)
    return Start(place, parameters.offset_m if std_m is None else max(parameters.offset_m, fix_window_m(std_m)))


class SearchStopped(Exception):  # noqa: N818 - no error: the node ends in the middle of a search
    """Raised out of a search over the map when the node stops."""


class StartControl:
    """A sequence localizer and its starts; `request`, `state` and `stop` may be called from any thread."""

    def __init__(self, start: Start | None) -> None:
        """Nothing to follow with yet.

        Args:
            start: to make with the first frame.
        """
        self.search = ""  # steps done / all of the last search
        self.is_searching = False
        self._localizer: SequenceLocalizer | None = None
        self._lock = threading.Lock()
        self._requested = start  # to be made with the next frame
        self._last_start: tuple[Start, int] | None = None  # the last one, and the stamp of its frame
        self._started = False
        self._stopping = False

    @property
    def is_ready(self) -> bool:
        """Whether there is a sequence localizer."""
        return self._localizer is not None

    @property
    def has_start(self) -> bool:
        """Whether one was made or asked for."""
        return self._started or self._requested is not None

    @property
    def state(self) -> StartState:
        """What it is doing."""
        requested = self._requested
        if self.is_searching or (requested is not None and requested.map_from_base is None):
            return "searching"
        if not self._started or self._localizer is None:
            return "waiting"
        return "lost" if self._localizer.state == "lost" else "following"

    def use(self, localizer: SequenceLocalizer) -> None:
        """Follow with this from now on; another map begins with a start of its own."""
        if self._localizer is not None:
            self._started, self._last_start = False, None
        self._localizer = localizer

    def request(self, start: Start) -> None:
        """Start there with the next frame."""
        with self._lock:
            self._requested = start
        place = start.map_from_base
        log.info("start %s", "anywhere" if place is None else f"at x {place.x_m:.1f} m, y {place.y_m:.1f} m")

    def rewind(self, stamp_ns: int) -> bool:
        """The clock went back to this moment: forget the vehicle; True: it is known where it starts again.

        A log that begins again finds it where it began; after any other jump it may be anywhere.
        """
        self._started = False
        if self._requested is None and self._last_start is not None and stamp_ns <= self._last_start[1] + REPLAYED_NS:
            self._requested = self._last_start[0]
        return self._requested is not None

    def step(self, frame: Frame, base_from_ego: SE2) -> PoseEstimate | None:
        """The estimate of a frame, after the start that was asked for; None: waiting, lost or doubtful.

        Args:
            frame: in ego axes.
            base_from_ego: where the LiDAR sits on the vehicle; starts are of the vehicle.

        Raises:
            SearchStopped: if the node stops in the middle of a search.
        """
        if self._localizer is None:
            return None
        with self._lock:
            start, self._requested = self._requested, None
        try:
            if start is not None:
                self._last_start, self._started = (start, frame.stamp_ns), True
                self._begin(self._localizer, start, base_from_ego)
            return self._localizer.step(frame) if self._started else None
        finally:
            self.is_searching = False

    def stop(self) -> None:
        """End a search that is under way."""
        self._stopping = True

    def _begin(self, localizer: SequenceLocalizer, start: Start, base_from_ego: SE2) -> None:
        self.search = ""
        if start.map_from_base is None:
            self.is_searching = True
            localizer.start_anywhere(self._on_step)
        elif start.offset_rad >= math.pi:  # which way the LiDAR is off the vehicle's middle is not known either
            reach_m = math.hypot(base_from_ego.x_m, base_from_ego.y_m)
            localizer.start(start.map_from_base, start.offset_m + reach_m, math.pi)
        else:
            localizer.start(start.map_from_base @ base_from_ego, start.offset_m, start.offset_rad)

    def _on_step(self, done: int, count: int) -> None:
        if self._stopping:
            raise SearchStopped
        self.is_searching = done < count
        self.search = f"{done}/{count}"
