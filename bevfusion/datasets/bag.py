"""Bags of ROS messages, of one file or several: topics, an index of each by time, and reading by number."""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from bevfusion.datasets.container import Connection, Container, unpack
from bevfusion.datasets.mcap import Mcap
from bevfusion.datasets.ros_messages import deserialized
from bevfusion.datasets.rosbag1 import Rosbag1
from bevfusion.datasets.rosbag2_sqlite import Rosbag2Sqlite
from bevfusion.structures import DataError

log = logging.getLogger(__name__)

CONTAINERS: dict[str, Callable[[Path], Container]] = {".bag": Rosbag1, ".mcap": Mcap, ".db3": Rosbag2Sqlite}
COMPRESSED = ".zstd"  # a file of a ROS 2 bag compressed as a whole


@dataclass(frozen=True)
class Topic:
    """All messages of a topic, in order of time."""

    name: str
    msgtype: str
    stamps_ns: Int[np.ndarray, " n"]  # when they were recorded
    places: Int[np.ndarray, "n 4"]  # file, connection, position, offset

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def thinned(self, period_ns: int) -> "Topic":
        """At most one message a period, the first of each."""
        _, first = np.unique(self.stamps_ns // period_ns, return_index=True)
        return Topic(self.name, self.msgtype, self.stamps_ns[first], self.places[first])


class Bag:
    """Messages of a bag file, or of a folder of the files that a recorder split a bag into.

    Opening builds the index once; a message is read from disk when asked for, and none is kept.

    Raises:
        DataError: if no file can be read at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: list[Container] = []
        files = bag_files(path)
        for file in files:
            try:
                container = self._open_container(file)
            except DataError as error:
                if len(files) == 1:
                    raise
                log.warning("%s (left out)", error)
                continue
            self._files.append(container)
            if container.broken is not None:
                log.warning("%s: read in part, %s; %s", file, container.broken, _extent(container))
        if not self._files:
            raise DataError(f"{path}: none of its {len(files)} bag files can be read")
        self.topics = self._topics()
        if not self.topics:
            broken = [container.broken for container in self._files if container.broken]
            raise DataError(f"{path}: no messages in this bag" + (f" ({broken[0]})" if broken else ""))

    def of_type(self, *msgtypes: str) -> list[Topic]:
        """Topics of these types, those with most messages first."""
        found = [topic for topic in self.topics.values() if topic.msgtype in msgtypes]
        return sorted(found, key=lambda topic: (-len(topic), topic.name))

    def message(self, topic: Topic, number: int) -> Any:
        """The message at a position in 0 .. len - 1 of a topic.

        Raises:
            DataError: if it is damaged.
        """
        file, connection, position, offset = (int(value) for value in topic.places[number])
        container = self._files[file]
        encoding = container.connections[connection].encoding
        source = f"{self.path}: message {number} of {topic.name}"
        return deserialized(container.read(position, offset), topic.msgtype, encoding, source)

    def messages(self, topics: Sequence[Topic]) -> Iterator[tuple[Topic, int, Any]]:
        """Topic, recording time in ns and message of all of some topics, in the order of the files.

        What is damaged is left out, with one warning for all.
        """
        which = np.concatenate(
            [np.full(len(topic), number) for number, topic in enumerate(topics)] or [np.zeros(0, int)]
        )
        row = np.concatenate([np.arange(len(topic)) for topic in topics] or [np.zeros(0, int)])
        places = np.concatenate([topic.places for topic in topics] or [np.zeros((0, 4), int)])
        # in the order of the file, so that each chunk is unpacked once
        order = np.lexsort((places[:, 3], places[:, 2], places[:, 0]))
        damaged = 0
        for topic, number in zip((topics[at] for at in which[order]), row[order].tolist(), strict=True):
            try:
                message = self.message(topic, number)
            except DataError:
                damaged += 1
                continue
            yield topic, int(topic.stamps_ns[number]), message
        if damaged:
            names = ", ".join(topic.name for topic in topics)
            log.warning("%s: %d of %d messages of %s are damaged and left out", self.path, damaged, len(order), names)

    def _open_container(self, file: Path) -> Container:
        if file.stat().st_size == 0:
            raise DataError(f"{file}: an empty file")
        if not file.name.lower().endswith(COMPRESSED):
            return CONTAINERS[_suffix(file)](file)
        folder = Path(tempfile.mkdtemp(prefix="bevfusion-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        plain = folder / file.name[: -len(COMPRESSED)]
        unpack(file, plain)
        return CONTAINERS[_suffix(file)](plain)

    def _topics(self) -> dict[str, Topic]:
        columns: dict[Connection, list[np.ndarray]] = {}
        for number, container in enumerate(self._files):
            index = container.index
            table = np.stack(
                [
                    np.array(column, dtype=np.int64).reshape(-1)
                    for column in (index.stamp_ns, index.connection, index.position, index.offset)
                ],
                axis=1,
            )
            for connection, described in container.connections.items():
                rows = table[table[:, 1] == connection]
                key = Connection(described.topic, described.msgtype, "cdr")
                columns.setdefault(key, []).append(np.insert(rows, 1, number, axis=1))
        topics = {}
        for described, parts in columns.items():
            rows = np.concatenate(parts)
            if len(rows):
                rows = rows[np.argsort(rows[:, 0], kind="stable")]
                topics[described.topic] = Topic(described.topic, described.msgtype, rows[:, 0], rows[:, 1:])
        return topics


def bag_files(path: Path) -> list[Path]:
    """The bag files that a path stands for: itself, or those in the folder, in the order of their numbers."""
    if not path.is_dir():
        return [path] if _suffix(path) in CONTAINERS else []
    files = [file for file in path.iterdir() if _suffix(file) in CONTAINERS and file.is_file()]
    return sorted(
        files, key=lambda file: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", file.name)]
    )


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(COMPRESSED)
    return Path(name).suffix


def _extent(container: Container) -> str:
    """How far a broken file was read."""
    stamps_ns = container.index.stamp_ns
    if not len(stamps_ns):
        return "no messages before that"
    first_ns, last_ns = min(stamps_ns), max(stamps_ns)
    try:
        until = datetime.fromtimestamp(last_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        until = f"{last_ns} ns"
    return f"{len(stamps_ns)} messages, {(last_ns - first_ns) / 1e9:.1f} s, up to {until}"
