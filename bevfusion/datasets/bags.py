"""Drives in ROS 1 bags, ROS 2 bags (sqlite3 or MCAP) and bare MCAP files, of ROS messages or protobuf; no ROS needed.

Scans are put into the axes of the vehicle about the LiDAR itself, odometry, GNSS and truth are those of
`bag_tracks`, and all have stamps of one clock (`stamps`). Whatever is decided is decided once, for the whole bag, and
told by the drive's summary.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.bag import Bag, Topic, bag_files
from bevfusion.datasets.bag_tracks import (
    TRANSFORM_TYPES,
    BagFrames,
    Messages,
    fix_row,
    fix_spread,
    geo_tracks,
    gravity_deg,
    has_orientation,
    is_world,
    odometry_track,
    orientation_row,
    pose_row,
    read_frames,
)
from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.drive import MAX_BAD_SHARE
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.pointcloud2 import header_stamp_ns
from bevfusion.datasets.ros_messages import (
    DECODERS,
    FOXGLOVE_FIX,
    FOXGLOVE_POSE,
    HEAD_BYTES,
    IMU,
    NAV_SAT_FIX,
    ODOMETRY,
    PACKETS,
    POSE,
    POSE_COVARIANCE,
    Decode,
    driver_of,
    read_head,
)
from bevfusion.datasets.side_files import name_of
from bevfusion.datasets.stamps import TopicTimes, settled_stamps
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

PARTS: dict[str, tuple[str, ...]] = {
    "lidar": tuple(DECODERS),
    "gnss": (NAV_SAT_FIX, FOXGLOVE_FIX),
    "imu": (IMU,),
    "odometry": (ODOMETRY, POSE, POSE_COVARIANCE, FOXGLOVE_POSE),
}
ROWS: dict[str, tuple[Callable[[Any], list[float]], int]] = {
    "gnss": (fix_row, 5),
    "imu": (orientation_row, 8),
    "odometry": (pose_row, 7),
}
PERIOD_NS = 20_000_000  # between two poses that are read: more say no more
# topics of poses that somebody asked for, not of where the vehicle is
WANTED = (
    *("goal", "initialpose", "initial_pose", "clicked", "target", "waypoint", "way_point", "setpoint", "set_pose"),
    *("desired", "plan", "cmd", "command", "lookahead", "look_ahead", "checkpoint", "destination", "landmark"),
    *("object", "marker", "apriltag", "pedestrian"),
)
LEAST_COVERED = 0.5  # of the time of the scans, by what is taken for odometry
TILTED_DEG = 30.0
LOOKED_AT = 10  # messages of a topic whose frame or content decides whether it is taken


class BagClouds:
    """The scans of a bag, turned into the vehicle's axes."""

    def __init__(
        self,
        bag: Bag,
        topic: Topic,
        header_ns: Int[np.ndarray, " n"],
        stamps_ns: Int[np.ndarray, " n"],
        decode: Decode,
        ego_from_lidar: Float[np.ndarray, "3 3"],
    ) -> None:
        """Of the messages of a topic.

        Args:
            bag: holds the topic.
            topic: in order of time, what is no scan left out.
            header_ns: stamps as the headers have them, which absolute times of points count from; 0 where not set.
            stamps_ns: of the scans, on the clock of the drive.
            decode: reads a message's points.
            ego_from_lidar: rotation.
        """
        self._bag = bag
        self._topic = topic
        self._header_ns = header_ns
        self.stamps_ns = stamps_ns
        self._decode = decode
        steps_s = np.diff(np.unique(stamps_ns)) / 1e9
        self._period_s = float(np.median(steps_s)) if len(steps_s) else None
        self._turn = None if np.array_equal(ego_from_lidar, np.eye(3)) else ego_from_lidar

    def __len__(self) -> int:
        return len(self._topic)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a message.

        Raises:
            DataError: if it is damaged.
        """
        source = f"{self._bag.path}: scan {position} of {self._topic.name}"
        message = self._bag.message(self._topic, position)
        stamp_ns = int(self.stamps_ns[position])
        try:
            cloud = self._decode(message, int(self._header_ns[position]) or stamp_ns, self._period_s)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
        cloud = cloud.usable(source)
        return stamp_ns, cloud if self._turn is None else cloud.turned(self._turn)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag file, or a folder of some."""
    return bool(bag_files(path))


def open_bag(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive in a bag.

    Raises:
        DataError: if it cannot be read, has no scans, or several LiDARs and none is named.
    """
    options = options or LogOptions()
    name = name_of(path).removesuffix(path.suffix) if path.is_file() else name_of(path)
    summary = InputSummary(name)
    bag = Bag(path, summary)
    chosen = choose_topics(bag, dict(options.topics), summary)
    lidar = chosen["lidar"]
    if lidar is None:
        raise DataError(f"{path}: {_why_no_scans(bag)}; its topics are {_listed(bag.topics.values())}")
    heads, poses = _read_through(bag, lidar, chosen, summary)
    parts = list(poses)
    settled = settled_stamps([heads.times(lidar), *(poses[part].times() for part in parts)], summary)
    messages = {part: poses[part].messages(stamps_ns) for part, stamps_ns in zip(parts, settled[1:], strict=True)}
    scans = _scans(bag, lidar, heads, settled[0], summary)
    children = [poses["odometry"].child] if "odometry" in poses else []
    frames = read_frames(bag, heads.frame, children, options.extrinsics, summary)
    truth, gnss = geo_tracks(messages.get("gnss"), messages.get("imu"), frames, summary)
    odometry = odometry_track(messages.get("odometry"), frames, summary)
    _check_gravity(messages.get("imu"), frames, summary)
    turn = frames.ego_from_lidar[:3, :3]
    decode = DECODERS[lidar.msgtype]
    clouds = BagClouds(bag, lidar.rows(scans), heads.header_ns[scans], settled[0][scans], decode, turn)
    return LoggedDrive(
        name,
        clouds,
        Tracks(truth, gnss, odometry, fix_spread(messages.get("gnss"))),
        options,
        summary=summary,
        stamps_ns=clouds.stamps_ns,
    )


# which topics


def choose_topics(bag: Bag, named: dict[str, str], summary: InputSummary) -> dict[str, Topic | None]:
    """The topic of each part of `PARTS`: the one named, or the only (for all but the LiDAR: the fullest) of its type.

    Raises:
        DataError: if a name is not in the bag or of another type, or if LiDARs compete.
    """
    unknown = set(named) - set(PARTS)
    if unknown:
        raise DataError(f"topics can be named for {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    chosen: dict[str, Topic | None] = {}
    for part, msgtypes in PARTS.items():
        topics = bag.of_type(*msgtypes)
        if part in named:
            topics = [topic for topic in topics if topic.name.strip("/") == named[part].strip("/")]
            if not topics:
                known = _listed(bag.of_type(*msgtypes))
                raise DataError(f"{bag.path}: no {part} topic {named[part]}; topics of its type are {known}")
        elif part == "lidar":
            topics = _sensors(bag, topics, summary)
        elif part == "odometry":
            topics = _of_the_vehicle(topics, chosen["lidar"], summary)
        elif part == "imu":
            topics = sorted(topics, key=lambda topic: not _measures_orientation(bag, topic))
        if part == "lidar" and len(topics) > 1:
            raise DataError(f"{bag.path}: several LiDARs, name one as the topic of lidar: {_listed(topics)}")
        for other in topics[1:]:
            summary.add("ignored", other.name, f"{topics[0].name} is taken for {part}", count=len(other))
        if topics:
            kind = topics[0].msgtype.split("/")[-1]
            summary.add("used", topics[0].name, f"{part}, {len(topics[0])} messages of {kind}", count=len(topics[0]))
        chosen[part] = topics[0] if topics else None
    taken = {topic.name for topic in chosen.values() if topic is not None}
    taken |= {topic.name for topic in bag.of_type(*TRANSFORM_TYPES)}  # told of by their frames
    left = [topic for topic in bag.topics.values() if topic.name not in taken]
    if left:
        summary.add("ignored", "other topics", _listed(left), count=len(left))
    return chosen


def _sensors(bag: Bag, topics: Sequence[Topic], summary: InputSummary) -> list[Topic]:
    """Clouds about their sensor: those that somebody moved into the world are no scans.

    Raises:
        DataError: if there are clouds, and all are of the world.
    """
    worlds = [_frame(bag, topic) for topic in bag.of_type(ODOMETRY)]
    found, worldly = [], []
    for topic in topics:
        frame = _frame(bag, topic)
        if is_world(frame, worlds):
            summary.add("ignored", topic.name, f"its clouds lie in the frame {frame!r} of a world, not about a sensor")
            worldly.append(f"{topic.name} in {frame!r}")
        else:
            found.append(topic)
    if worldly and not found:
        raise DataError(f"{bag.path}: no scan about its sensor: clouds are of a world's frame ({', '.join(worldly)})")
    clouds = [topic for topic in found if topic.msgtype not in PACKETS]
    for topic in found:
        if clouds and topic not in clouds:
            summary.add("ignored", topic.name, f"{clouds[0].name} holds the clouds that were made of such packets")
    return clouds or found


def _of_the_vehicle(topics: Sequence[Topic], lidar: Topic | None, summary: InputSummary) -> list[Topic]:
    """Poses that follow the vehicle: Odometry first, and never what somebody asked it to do."""
    found = []
    for topic in topics:
        words = topic.name.lower()
        if any(word in words for word in WANTED) and topic.msgtype != ODOMETRY:
            summary.add("ignored", topic.name, "poses that the vehicle was asked for, no odometry", count=len(topic))
            continue
        if lidar is not None and len(lidar) > 1 and topic.msgtype != ODOMETRY:
            span_ns = lidar.stamps_ns[-1] - lidar.stamps_ns[0]
            share = float(topic.stamps_ns[-1] - topic.stamps_ns[0]) / max(1.0, float(span_ns))
            if len(topic) < 2 or share < LEAST_COVERED:
                told = f"{len(topic)} poses over {100.0 * share:.0f} % of the time of the scans: no odometry"
                summary.add("ignored", topic.name, told, count=len(topic))
                continue
        found.append(topic)
    return sorted(found, key=lambda topic: (topic.msgtype != ODOMETRY, -len(topic)))


def _frame(bag: Bag, topic: Topic) -> str:
    for number in range(min(LOOKED_AT, len(topic))):
        try:
            return read_head(*bag.raw(topic, number, HEAD_BYTES), str(bag.path)).frame
        except DataError:
            continue
    return ""


def _measures_orientation(bag: Bag, topic: Topic) -> bool:
    for number in range(min(LOOKED_AT, len(topic))):
        try:
            rows = np.array([orientation_row(bag.message(topic, number))], dtype=np.float64)
        except DataError:
            continue
        return bool(has_orientation(rows)[0])
    return False


def _why_no_scans(bag: Bag) -> str:
    types = sorted({topic.msgtype for topic in bag.topics.values()})
    packets = [f"{msgtype} by {driver}" for msgtype in types if (driver := driver_of(msgtype)) is not None]
    told = "no PointCloud2 messages in this bag"
    return told + (f" (make clouds of its raw packets first: {', '.join(packets)})" if packets else "")


# one way through the bag


@dataclass
class _Heads:
    """What the headers of the scans say, one row a message."""

    header_ns: Int[np.ndarray, " n"]
    points: Int[np.ndarray, " n"]  # -1 where not known
    digest: Int[np.ndarray, " n"]  # of the first bytes behind the header
    good: np.ndarray
    frame: str = ""
    frames: dict[str, int] = field(default_factory=dict)

    def times(self, topic: Topic) -> TopicTimes:
        return TopicTimes(topic.name, topic.stamps_ns, self.header_ns)


class _Poses:
    """Values of the messages of a topic, as they come."""

    def __init__(self, part: str, topic: Topic) -> None:
        self._topic = topic
        self._row, self._columns = ROWS[part]
        self._found: dict[int, tuple[int, list[float]]] = {}
        self._frames: dict[str, int] = {}
        self.child = ""

    def add(self, number: int, message: Any) -> None:
        self._found[number] = header_stamp_ns(message), self._row(message)
        child = str(getattr(message, "child_frame_id", ""))
        frame = child or ("" if self._topic.msgtype in PARTS["odometry"] else str(message.header.frame_id))
        self.child = self.child or child
        if frame:
            self._frames[frame] = self._frames.get(frame, 0) + 1

    def __len__(self) -> int:
        return len(self._found)

    def times(self) -> TopicTimes:
        numbers = sorted(self._found)
        header_ns = np.array([self._found[number][0] for number in numbers], dtype=np.int64)
        return TopicTimes(self._topic.name, self._topic.stamps_ns[numbers], header_ns)

    def messages(self, stamps_ns: Int[np.ndarray, " n"]) -> Messages:
        rows = np.array([self._found[number][1] for number in sorted(self._found)], dtype=np.float64)
        frame = max(self._frames, key=lambda name: self._frames[name], default="")
        return Messages(self._topic.name, stamps_ns, frame, rows.reshape(-1, self._columns))


def _read_through(
    bag: Bag, lidar: Topic, chosen: dict[str, Topic | None], summary: InputSummary
) -> tuple[_Heads, dict[str, _Poses]]:
    """Headers of the scans and values of the other parts; each chunk of the bag is unpacked once.

    Raises:
        DataError: if too many of the scans cannot be read at all.
    """
    count = len(lidar)
    header_ns, points, digest = np.zeros((3, count), dtype=np.int64)
    heads = _Heads(header_ns, points, digest, np.zeros(count, dtype=bool))
    thinned = {part: topic.thinned(PERIOD_NS) for part, topic in chosen.items() if topic is not None and part in ROWS}
    poses = {part: _Poses(part, topic) for part, topic in thinned.items()}
    part_of = {topic.name: part for part, topic in thinned.items()}
    damaged: dict[str, int] = {}
    problems: list[DataError] = []
    for topic, number in bag.in_order_of_file([lidar, *thinned.values()]):
        source = f"{bag.path}: message {number} of {topic.name}"
        try:
            if topic is lidar:
                head = read_head(*bag.raw(lidar, number, HEAD_BYTES), source)
                heads.header_ns[number], heads.points[number] = max(0, head.stamp_ns), head.points
                heads.digest[number], heads.good[number] = zlib.crc32(head.content), True
                heads.frames[head.frame] = heads.frames.get(head.frame, 0) + 1
            else:
                poses[part_of[topic.name]].add(number, bag.message(topic, number))
        except DataError as error:
            damaged[topic.name] = damaged.get(topic.name, 0) + 1
            problems += [error] if topic is lidar else []
    for topic in (lidar, *thinned.values()):
        if topic.name in damaged:
            told = f"{damaged[topic.name]} of {len(topic)} messages are damaged and left out"
            summary.add("lost", topic.name, told, count=damaged[topic.name], total=len(topic))
    if len(problems) > MAX_BAD_SHARE * count:
        raise DataError(f"{bag.path}: {len(problems)} of {count} scans cannot be read: {problems[0]}")
    heads.frame = max(heads.frames, key=lambda name: heads.frames[name], default="")
    if len(heads.frames) > 1:
        shares = ", ".join(f"{name!r} ({number})" for name, number in sorted(heads.frames.items()))
        summary.add("warning", lidar.name, f"clouds of several frames: {shares}; all are taken as {heads.frame!r}")
    return heads, {part: found for part, found in poses.items() if len(found)}


def _scans(
    bag: Bag, lidar: Topic, heads: _Heads, stamps_ns: Int[np.ndarray, " n"], summary: InputSummary
) -> Int[np.ndarray, " m"]:
    """Numbers of the messages that are scans, in order of time: none empty, none twice.

    Raises:
        DataError: if none is left.
    """
    good = heads.good.copy()
    empty = good & (heads.points == 0)
    if empty.any():
        told = f"{int(empty.sum())} of {len(good)} clouds are empty and left out"
        summary.add("lost", lidar.name, told, count=int(empty.sum()), total=len(good))
        good &= ~empty
    twice = [number for number in _repeated(bag, lidar, heads, good) if heads.header_ns[number] > 0]
    if twice:
        told = f"{len(twice)} of {len(good)} scans come twice, with the same stamp and points: left out"
        summary.add("warning", lidar.name, told, count=len(twice), total=len(good))
        good[twice] = False
    if not good.any():
        raise DataError(f"{bag.path}: all {len(good)} clouds of {lidar.name} are empty")
    numbers = np.flatnonzero(good)
    order = np.argsort(stamps_ns[numbers], kind="stable")
    back = int((np.diff(stamps_ns[numbers]) < 0).sum())
    if back:
        told = f"{back} scans are stamped earlier than the scan recorded before them: put in order"
        summary.add("warning", lidar.name, told, count=back, total=len(numbers))
    numbers = numbers[order]
    same = np.concatenate([[False], np.diff(stamps_ns[numbers]) == 0])
    if same.any():
        told = f"{int(same.sum())} of {len(numbers)} scans have the stamp of another: the first of each counts"
        summary.add("warning", lidar.name, told, count=int(same.sum()), total=len(numbers))
    numbers = np.asarray(numbers[~same])
    doubled = sum(1 for _ in _doubled(bag, lidar, heads, numbers))
    if doubled:
        told = f"{doubled} of {len(numbers)} scans have the very points of the scan before, under another stamp"
        summary.add("warning", lidar.name, told, count=doubled, total=len(numbers))
    return numbers


def _repeated(bag: Bag, lidar: Topic, heads: _Heads, good: np.ndarray) -> Iterator[int]:
    """Messages that are byte by byte one before them, header and all."""
    first: dict[tuple[int, int], int] = {}
    for number in np.flatnonzero(good).tolist():
        key = int(heads.header_ns[number]), int(heads.digest[number])
        if key not in first:
            first[key] = number
        elif _same(bag, lidar, first[key], number):
            yield number


def _doubled(bag: Bag, lidar: Topic, heads: _Heads, numbers: Int[np.ndarray, " m"]) -> Iterator[int]:
    """Scans whose points are those of the scan before, whatever their stamps."""
    for before, number in zip(numbers[:-1].tolist(), numbers[1:].tolist(), strict=True):
        if heads.digest[before] == heads.digest[number] and _same(bag, lidar, before, number):
            yield number


def _same(bag: Bag, lidar: Topic, first: int, second: int) -> bool:
    """Whether two messages are equal but for the stamps in their headers."""
    try:
        raw = [bag.raw(lidar, number) for number in (first, second)]
    except DataError:
        return False
    contents = [data[12:] if described.encoding != "protobuf" else data for data, described in raw]
    return contents[0] == contents[1]


def _check_gravity(imu: Messages | None, frames: BagFrames, summary: InputSummary) -> None:
    if imu is None or not len(imu.rows) or frames.tree.lookup(frames.lidar, imu.frame) is None:
        return
    tilted_deg = gravity_deg(imu.rows, frames.ego_from(imu.frame, "the IMU")[:3, :3])
    if tilted_deg is not None and tilted_deg > TILTED_DEG:
        told = f"{imu.topic} measures gravity {tilted_deg:.0f} degrees off the vehicle's z axis: its mounting is wrong?"
        summary.add("warning", "gravity", told)


def _listed(topics: Iterable[Topic]) -> str:
    found = [f"{topic.name} ({topic.msgtype.split('/')[-1]}, {len(topic)})" for topic in topics]
    shown = ", ".join(found[:20]) or "none"
    return shown + (f" and {len(found) - 20} more" if len(found) > 20 else "")
