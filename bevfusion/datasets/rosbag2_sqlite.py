"""The sqlite3 files of ROS 2 bags (.db3), whole or damaged."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from bevfusion.datasets.container import MAX_CHUNK_BYTES, Connection, MessageIndex, decompressed_head, ros_type
from bevfusion.structures import DataError

MAGIC = b"SQLite format 3\0"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # no CDR message begins so: theirs begin with a zero


class Rosbag2Sqlite:
    """A .db3 file; its index is built when it is opened, message by message nothing is read until asked for.

    Attributes:
        connections: by number of the topic.
        foreign: topics of other encodings, and which.
        index: `position` is the number of the message's row, `offset` is not used.
        broken: what ended the reading before the end of the file, or None.

    Raises:
        DataError: if it is no such file, or its tables cannot be read.
    """

    def __init__(self, path: Path, *, merge_log: bool = False) -> None:
        """Of a file.

        Args:
            path: of the file, which is not written to.
            merge_log: first move what the file's `-wal` holds into it; only for a copy.
        """
        self._path = path
        self.connections: dict[int, Connection] = {}
        self.foreign: dict[str, str] = {}
        self.index = MessageIndex()
        self.broken: str | None = None
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        if head != MAGIC:
            raise DataError(f"{path}: not an sqlite3 file (it begins with {head!r})")
        try:
            if merge_log:
                with closing(sqlite3.connect(path)) as database:
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with closing(self._open()) as database:
                for number, topic, msgtype, encoding in database.execute(
                    "SELECT id, name, type, serialization_format FROM topics"
                ):
                    if not isinstance(number, int):
                        continue
                    if encoding == "cdr":
                        self.connections[number] = Connection(str(topic), ros_type(str(msgtype)), "cdr")
                    else:
                        self.foreign[str(topic)] = f"{msgtype} serialized as {encoding}"
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot be read as a ROS 2 bag ({error})") from error
        try:
            with closing(self._open()) as database:
                self._build_index(database)
        except sqlite3.Error as error:
            self.broken = str(error)
            self._drop_unreadable_end()

    def read(self, position: int, offset: int, limit: int = MAX_CHUNK_BYTES) -> bytes:
        """One message as it was serialized, or its first `limit` bytes.

        Raises:
            DataError: if it is damaged.
        """
        data = self._stored(position, limit)
        if not data.startswith(ZSTD_MAGIC):
            return data
        if len(data) == limit < MAX_CHUNK_BYTES:  # compressed message by message: the head may take more than that
            data = self._stored(position, MAX_CHUNK_BYTES)
        return decompressed_head(data, limit, f"{self._path}: message {position}")

    def _stored(self, position: int, limit: int) -> bytes:
        """The first bytes of a message as the file holds them."""
        # by rowid, another name of `id`; where damage has made it none, each row would take a search through all
        query = "SELECT substr(data, 1, ?) FROM messages WHERE rowid = ? AND length(data) <= ?"
        try:
            with closing(self._open()) as database:
                row = database.execute(query, (limit, position, MAX_CHUNK_BYTES)).fetchone()
        except (sqlite3.Error, OverflowError) as error:
            raise DataError(f"{self._path}: message {position} cannot be read ({error})") from error
        if row is None or not isinstance(row[0], bytes):
            raise DataError(f"{self._path}: message {position} is missing, too large or no bytes")
        data: bytes = row[0]
        return data

    def _build_index(self, database: sqlite3.Connection) -> None:
        before: int | None = None
        rows = database.execute("SELECT rowid, topic_id, timestamp FROM messages ORDER BY rowid")
        for number, topic, stamp_ns in rows:
            if not all(isinstance(value, int) for value in (number, topic, stamp_ns)):
                self.broken = f"row {number!r} of its messages is damaged"
                return
            if before is not None and number <= before:  # a page that points back: this could go on for ever
                self.broken = f"row {number} of its messages comes after row {before}"
                return
            self.index.add(topic, stamp_ns, number, 0)
            before = number

    def _drop_unreadable_end(self) -> None:
        """Rows whose bytes lay behind the break: the table lists them, but they are gone.

        The last readable row is sought in growing steps from the end, then by halving: one by one takes hours.
        """
        gone, step = len(self.index), 1  # from `gone` on, nothing is readable
        while gone > 0 and not self._is_readable(max(0, gone - step)):
            gone, step = max(0, gone - step), 2 * step
        kept = max(0, gone - step + 1) if gone > 0 else 0  # so many rows are kept at least
        while kept < gone:
            middle = (kept + gone) // 2
            if self._is_readable(middle):
                kept = middle + 1
            else:
                gone = middle
        self.index.cut(kept)

    def _is_readable(self, row: int) -> bool:
        try:
            self._stored(self.index.position[row], MAX_CHUNK_BYTES)
        except DataError:
            return False
        return True

    def _open(self) -> sqlite3.Connection:
        # immutable: logs lie on read-only disks, where a journal cannot be made
        database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro&immutable=1", uri=True)
        # nothing can be written; without it, sqlite refuses a file that is shorter than it was
        database.execute("PRAGMA writable_schema = ON")
        database.text_factory = lambda text: text.decode("utf-8", "replace")
        return database
