"""Bags of messages, of one file or several: which files belong together, topics, and reading by number."""

import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from bevfusion.datasets.container import MAX_CHUNK_BYTES, Connection, Container, unpack
from bevfusion.datasets.mcap import Mcap
from bevfusion.datasets.ros_messages import deserialized
from bevfusion.datasets.rosbag1 import Rosbag1
from bevfusion.datasets.rosbag2_sqlite import Rosbag2Sqlite
from bevfusion.datasets.side_files import ways_to
from bevfusion.parsing import read_yaml
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

log = logging.getLogger(__name__)

CONTAINERS: dict[str, Callable[[Path], Container]] = {".bag": Rosbag1, ".mcap": Mcap, ".db3": Rosbag2Sqlite}
COMPRESSED = ".zstd"  # a file of a ROS 2 bag compressed as a whole
UNFINISHED = ".active"  # a ROS 1 bag that its recorder never closed
BACKUP = ".orig"  # what `rosbag reindex` and `rosbag fix` leave beside the bag that they wrote
WRITE_AHEAD = "-wal"  # messages that a recorder of sqlite3 bags had not yet moved into the file when it ended
MAX_PAUSE_S = 3600.0  # between the files of one recording
SAME_SHARE = 0.9  # of the messages of a file that another has, too: then it is a copy


@dataclass(frozen=True)
class Topic:
    """All messages of a topic, in order of recording."""

    name: str
    msgtype: str
    stamps_ns: Int[np.ndarray, " n"]  # when they were recorded
    places: Int[np.ndarray, "n 4"]  # file, connection, position, offset

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def thinned(self, period_ns: int) -> "Topic":
        """At most one message a period, the first of each; all, where times of recording do not tell them apart."""
        if len(np.unique(self.stamps_ns)) < 0.5 * len(self):
            return self
        _, first = np.unique(self.stamps_ns // period_ns, return_index=True)
        return self.rows(first)

    def rows(self, rows: Int[np.ndarray, " m"]) -> "Topic":
        """Some of its messages, by their numbers."""
        return Topic(self.name, self.msgtype, self.stamps_ns[rows], self.places[rows])


class Bag:
    """Messages of a bag file, or of a folder of the files that a recorder split a bag into.

    Opening builds the index once; a message is read from disk when asked for, and none is kept.

    Args:
        path: of the file or folder.
        summary: is told which files were taken, left and lost.

    Raises:
        DataError: if no file can be read at all, or a folder holds several recordings.
    """

    def __init__(self, path: Path, summary: InputSummary | None = None) -> None:
        self.path = path
        self.summary = InputSummary(path.name) if summary is None else summary
        self._files: list[Container] = []
        self._names: list[str] = []
        files = bag_files(path, self.summary)
        for file in files:
            try:
                container = self._open_container(file)
            except DataError as error:
                if len(files) == 1:
                    raise
                self._note("lost", file.name, f"left out, {error}")
                continue
            self._files.append(container)
            self._names.append(file.name)
            if container.broken is not None:
                self._note("lost", file.name, f"read in part, {container.broken}; {_extent(container)}")
            for topic, described in container.foreign.items():
                self.summary.add("ignored", topic, f"{described}, which is not read")
        if not self._files:
            raise DataError(f"{path}: none of its {len(files)} bag files can be read")
        self._leave_copies_out()
        self._refuse_several_recordings()
        self.topics = self._topics()
        if not self.topics:
            broken = [container.broken for container in self._files if container.broken]
            raise DataError(f"{path}: no messages in this bag" + (f" ({broken[0]})" if broken else ""))

    def of_type(self, *msgtypes: str) -> list[Topic]:
        """Topics of these types, those with most messages first."""
        found = [topic for topic in self.topics.values() if topic.msgtype in msgtypes]
        return sorted(found, key=lambda topic: (-len(topic), topic.name))

    def raw(self, topic: Topic, number: int, limit: int = MAX_CHUNK_BYTES) -> tuple[bytes, Connection]:
        """A message as it was serialized, or its first `limit` bytes (of protobuf all), and how.

        Raises:
            DataError: if it is damaged.
        """
        file, connection, position, offset = (int(value) for value in topic.places[number])
        container = self._files[file]
        described = container.connections[connection]
        limit = MAX_CHUNK_BYTES if described.encoding == "protobuf" else limit
        return container.read(position, offset, limit), described

    def message(self, topic: Topic, number: int) -> Any:
        """The message at a position in 0 .. len - 1 of a topic.

        Raises:
            DataError: if it is damaged.
        """
        return deserialized(*self.raw(topic, number), f"{self.path}: message {number} of {topic.name}")

    def in_order_of_file(self, topics: Sequence[Topic]) -> Iterator[tuple[Topic, int]]:
        """Topic and number of every message of some topics, so that each chunk of a file is unpacked once."""
        which = np.concatenate(
            [np.full(len(topic), number) for number, topic in enumerate(topics)] or [np.zeros(0, int)]
        )
        row = np.concatenate([np.arange(len(topic)) for topic in topics] or [np.zeros(0, int)])
        places = np.concatenate([topic.places for topic in topics] or [np.zeros((0, 4), int)])
        order = np.lexsort((places[:, 3], places[:, 2], places[:, 0]))
        for at, number in zip(which[order].tolist(), row[order].tolist(), strict=True):
            yield topics[at], number

    def messages(self, topics: Sequence[Topic]) -> Iterator[tuple[Topic, int, Any]]:
        """Topic, number and message of all of some topics, in the order of the files.

        What is damaged is left out, and the summary says how much.
        """
        damaged: dict[str, int] = {}
        for topic, number in self.in_order_of_file(topics):
            try:
                message = self.message(topic, number)
            except DataError:
                damaged[topic.name] = damaged.get(topic.name, 0) + 1
                continue
            yield topic, number, message
        for topic in topics:
            if topic.name in damaged:
                count = damaged[topic.name]
                told = f"{count} of {len(topic)} messages are damaged and left out"
                self.summary.add("lost", topic.name, told, count=count, total=len(topic))

    def _open_container(self, file: Path) -> Container:
        if file.stat().st_size == 0:
            raise DataError(f"{file}: an empty file")
        packed = file.name.lower().endswith(COMPRESSED)
        beside = (way.with_name(way.name + WRITE_AHEAD) for way in ways_to(file))  # also where the file is a link
        ahead = next((log for log in beside if log.is_file()), file.with_name(file.name + WRITE_AHEAD))
        unmoved = _suffix(file) == ".db3" and not packed and ahead.is_file() and ahead.stat().st_size > 0
        if not packed and not unmoved:
            return CONTAINERS[_suffix(file)](file)
        folder = Path(tempfile.mkdtemp(prefix="bevfusion-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        if packed:
            plain = folder / file.name[: -len(COMPRESSED)]
            unpack(file, plain)
            return CONTAINERS[_suffix(file)](plain)
        # sqlite would write beside the log to read both: it does so beside a copy
        shutil.copyfile(file, folder / file.name)
        shutil.copyfile(ahead, folder / (file.name + WRITE_AHEAD))
        self._note("used", file.name, f"with {ahead.stat().st_size} bytes that were never moved out of {ahead.name}")
        return Rosbag2Sqlite(folder / file.name, merge_log=True)

    def _note(self, kind: Any, subject: str, text: str) -> None:
        self.summary.add(kind, subject, text)

    def _stamps(self, number: int) -> Int[np.ndarray, " n"]:
        return np.array(self._files[number].index.stamp_ns, dtype=np.int64)

    def _leave_copies_out(self) -> None:
        """Of files with the same messages one counts: the one that is whole, or the larger, or the first."""
        tables = [self._keys(number) for number in range(len(self._files))]
        ranked = sorted(range(len(tables)), key=lambda at: (self._files[at].broken is not None, -len(tables[at]), at))
        kept: list[int] = []
        for at in ranked:
            copied = next(
                (
                    other
                    for other in kept
                    if tables[at] and len(tables[at] & tables[other]) >= SAME_SHARE * len(tables[at])
                ),
                None,
            )
            if copied is None:
                kept.append(at)
            else:
                self._note("ignored", self._names[at], f"its messages are those of {self._names[copied]}")
        self._files = [self._files[at] for at in sorted(kept)]
        self._names = [self._names[at] for at in sorted(kept)]

    def _keys(self, number: int) -> set[tuple[str, int]]:
        """What tells the messages of a file from others: topic and moment of recording."""
        if len(self._files) == 1:
            return set()
        container = self._files[number]
        names = {key: described.topic for key, described in container.connections.items()}
        pairs = zip(container.index.connection, container.index.stamp_ns, strict=True)
        return {(names.get(connection, ""), stamp_ns) for connection, stamp_ns in pairs}

    def _refuse_several_recordings(self) -> None:
        spans = sorted(
            (int(stamps_ns.min()), int(stamps_ns.max()), name)
            for stamps_ns, name in zip(map(self._stamps, range(len(self._files))), self._names, strict=True)
            if len(stamps_ns)
        )
        until_ns = spans[0][1] if spans else 0
        for (_, _, before), (first_ns, last_ns, after) in pairwise(spans):
            pause_s = (first_ns - until_ns) / 1e9
            if pause_s > MAX_PAUSE_S:
                told = (
                    f"{before} ends {_utc(until_ns)}, {after} begins {_utc(first_ns)}, {pause_s / 3600.0:.1f} h later"
                )
                raise DataError(f"{self.path}: several recordings in one folder ({told}): name one of its files")
            until_ns = max(until_ns, last_ns)

    def _topics(self) -> dict[str, Topic]:
        columns: dict[tuple[str, str], list[np.ndarray]] = {}
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
                columns.setdefault((described.topic, described.msgtype), []).append(np.insert(rows, 1, number, axis=1))
        topics = {}
        for (name, msgtype), parts in columns.items():
            rows = np.concatenate(parts)
            if len(rows):
                rows = rows[np.argsort(rows[:, 0], kind="stable")]
                topics[name] = Topic(name, msgtype, rows[:, 0], rows[:, 1:])
        return topics


def bag_files(path: Path, summary: InputSummary | None = None) -> list[Path]:
    """The bag files that a path stands for: itself, or those in the folder, in the order of their numbers.

    Of a file and the same compressed, and of a bag and the backup of it, one is taken.

    Args:
        path: of a file or folder.
        summary: is told what was left, and which of the files that a folder's metadata.yaml lists is missing.
    """
    if not path.is_dir():
        return [path] if _suffix(path) in CONTAINERS else []
    files = {
        file.name: file
        for file in path.iterdir()
        if _suffix(file) in CONTAINERS and file.is_file() and not file.name.startswith("._")
    }
    notes = InputSummary(path.name) if summary is None else summary
    for name in sorted(files):
        whole = name.removesuffix(COMPRESSED).removesuffix(UNFINISHED)
        stem, suffix = Path(whole).stem, Path(whole).suffix
        if whole != name and whole in files and files[whole].stat().st_size > 0:
            notes.add("ignored", name, f"{whole} is there, too")
            del files[name]
        elif stem.endswith(BACKUP) and stem.removesuffix(BACKUP) + suffix in files:
            notes.add("ignored", name, f"a backup of {stem.removesuffix(BACKUP) + suffix}")
            del files[name]
    for missing in _gaps(sorted(files)):
        notes.add("warning", missing, "the numbers of the files skip it: it may be missing")
    for name in _listed_in_metadata(path):
        if name not in files and name.removesuffix(COMPRESSED) not in files:
            notes.add("lost", name, "metadata.yaml lists it, but it is not there")
    return sorted(
        files.values(),
        key=lambda file: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", file.name)],
    )


def _gaps(names: Sequence[str]) -> list[str]:
    """Names that numbered files of one recording skip: run_0.bag and run_2.bag leave out run_1.bag."""
    numbered: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        matched = re.fullmatch(r"(.*[^0-9])([0-9]{1,4})((?:\.[a-z0-9]+)+)", name)
        if matched:
            numbered.setdefault((matched[1], matched[3]), {})[int(matched[2])] = matched[2]
    skipped = []
    for (before, behind), found in numbered.items():
        first, last = min(found), max(found)
        if first <= 1 and len(found) > 1 and last < 2 * len(found) + 2:  # else they are no numbers of parts
            width = len(found[first]) if found[first].startswith("0") and len(found[first]) > 1 else 1
            skipped += [f"{before}{number:0{width}d}{behind}" for number in range(first, last) if number not in found]
    return skipped


def _listed_in_metadata(path: Path) -> list[str]:
    """Names of the files of a ROS 2 bag, as its recorder wrote them down; none where that cannot be read."""
    file = path / "metadata.yaml"
    try:
        content = read_yaml(file) if file.is_file() else None
        names = content["rosbag2_bagfile_information"]["relative_file_paths"] if content else []
        return [Path(str(name)).name for name in names]
    except (ValueError, KeyError, TypeError):
        return []


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(COMPRESSED).removesuffix(UNFINISHED)
    return Path(name).suffix


def _utc(stamp_ns: int) -> str:
    try:
        return datetime.fromtimestamp(stamp_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{stamp_ns} ns"


def _extent(container: Container) -> str:
    """How far a broken file was read."""
    stamps_ns = container.index.stamp_ns
    if not len(stamps_ns):
        return "no messages before that"
    first_ns, last_ns = min(stamps_ns), max(stamps_ns)
    return f"{len(stamps_ns)} messages, {(last_ns - first_ns) / 1e9:.1f} s, up to {_utc(last_ns)}"
