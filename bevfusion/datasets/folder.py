"""A drive as a folder of scan files, with poses or fixes in text beside them, or none.

* DRIVE/*.pcd, .ply, .bin, .npy, .las or .laz, or the same in one of `SCAN_FOLDERS`; in the order of their stamps or
  numbers. What is named otherwise than the rest (map.pcd, poses.npy) is no scan.
* stamps: the names of the scans where they are times (1700000000.123456789.pcd, or whole ns), else a line a scan in
  timestamps.txt or times.txt, else those of a pose file with a row a scan, else ten scans a second
* truth.csv, poses.csv: lat, lon and a heading of the LiDAR; gnss.csv, gps.csv: lat, lon
* odometry.csv, odometry.tum, odometry.txt, poses.tum, poses.txt, trajectory.txt: x, y and a heading, TUM lines, or
  KITTI's matrices of 12 numbers

Where a pose file has stamps, it is interpolated at those of the scans; without, it has a row for each scan, or for each
number up to that of the last scan.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.pose_files import PoseTable, read_pose_file
from bevfusion.datasets.scan_files import CLOUD_READERS, ScanReader, scan_suffix
from bevfusion.datasets.side_files import is_hidden, name_of, read_lines, ways_to
from bevfusion.datasets.stamps import dates_in_names, leap_of_spans, stamps_from_text, whole_numbers_are_stamps
from bevfusion.datasets.tracks import GeoTrack, PoseTrack, course_rad
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

SCAN_FOLDERS = (
    *("scans", "clouds", "points", "pointclouds", "lidar", "velodyne"),
    *("pcd", "ply", "bin", "las", "laz", "npy"),
)
STAMP_FILES = ("timestamps.txt", "times.txt", "timestamps.csv", "times.csv")
GLOBE_TRUTH = ("truth.csv", "ground_truth.csv", "poses.csv")
FIXES = ("gnss.csv", "gps.csv")
LOCAL = (
    *("odometry.csv", "odometry.tum", "odometry.txt", "poses.csv", "poses.tum", "poses.txt"),
    *("trajectory.tum", "trajectory.txt", "trajectory.csv"),
)
PERIOD_NS = 100_000_000
MAX_BAD_SHARE = 0.1
MAX_NUMBER_STEP = 10  # the usual one of files that count frames: beyond, numbers say nothing about time
# what is made of scans, or goes with them
_NO_SCAN = re.compile(r"map|pose|traj|odom|truth|merged|accumul|global|stamp|times|label|calib|extrinsic|intrinsic")
# a time in the name of a scan: with a decimal point, two whole numbers for s and ns, or one
STAMP_IN_NAME = re.compile(r"-?[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]{9,10}[_-][0-9]{1,9}|[0-9]+")


class ScanFiles:
    """Scan files with their stamps."""

    def __init__(self, files: list[Path], stamps_ns: list[int], reader: ScanReader) -> None:
        self.files = files
        self.stamps_ns = stamps_ns
        self._reader = reader

    def __len__(self) -> int:
        return len(self.files)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a file.

        Raises:
            DataError: if it is broken.
        """
        return self.stamps_ns[position], self._reader.read(self.files[position])


@dataclass(frozen=True, slots=True)
class _ScanSet:
    """The scans of a folder in their order, with the numbers in their names and what else lies there."""

    folder: Path
    files: list[Path]
    ignored: list[Path]

    @property
    def numbers(self) -> list[int] | None:
        """The number in each name, where that is all that differs, and no two are the same."""
        found = [re.findall("[0-9]+", _stem(file)) for file in self.files]
        if any(len(words) != 1 or len(words[0]) > 9 for words in found):
            return None
        numbers = [int(words[0]) for words in found]
        return numbers if len(set(numbers)) == len(numbers) else None


def is_scan_folder(path: Path) -> bool:
    """Whether a path is a folder with scan files in it, or in a folder for them."""
    return path.is_dir() and bool(_scan_sets(path))


def open_scan_folder(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive in a folder.

    Raises:
        DataError: if there are several sets of scans, stamps or a pose file are malformed, or do not belong to the
            scans.
    """
    summary = InputSummary(name_of(path))
    scan_set = _chosen(path, summary)
    beside = _folders_beside(path, scan_set.folder)
    tables = _tables(beside, summary)
    files, stamps_ns = _with_stamps(scan_set, beside, tables, summary)
    columns = () if options is None else options.columns
    scans = ScanFiles(files, stamps_ns, ScanReader(files, columns, summary))
    tracks = _tracks(tables, scan_set, scans, summary)
    in_order_ns = np.array(stamps_ns, dtype=np.int64)
    return LoggedDrive(name_of(path), scans, tracks, options, summary=summary, stamps_ns=in_order_ns)


def _stem(file: Path) -> str:
    return file.name[: -len(scan_suffix(file))]


def _natural(file: Path) -> list[int | str]:
    """Sorts scan_9 before scan_10."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"([0-9]+)", file.name)]


def _letters(file: Path) -> str:
    """What is left of a name without its numbers: the same for all scans of a sensor."""
    return re.sub(r"[0-9]+(?:[eE][+-]?[0-9]+)?|[^a-z]", "", _stem(file).lower())


def _scan_sets(path: Path) -> list[_ScanSet]:
    """The folders with scans: those that are made for them, then the folder itself."""
    found = (_scan_set(folder) for folder in (*(path / name for name in SCAN_FOLDERS), path) if folder.is_dir())
    return [scan_set for scan_set in found if scan_set is not None]


def _scan_set(folder: Path) -> _ScanSet | None:
    """The scans of one folder.

    Raises:
        DataError: if there are several sets of them.
    """
    files = [file for file in folder.iterdir() if scan_suffix(file) in CLOUD_READERS and not is_hidden(file)]
    files = sorted((file for file in files if file.is_file()), key=_natural)
    if not files:
        return None
    groups = Counter((scan_suffix(file), _letters(file)) for file in files)
    kind, count = groups.most_common(1)[0]
    if count == 1:  # no two are named alike: no rule, as long as they are of one type
        types = sorted({suffix for suffix, _ in groups})
        if len(types) > 1 and len(files) > 1:
            raise DataError(f"{folder}: scans of several types ({', '.join(types)}), expected one")
        return _ScanSet(folder, files, [])
    rest = [file for file in files if (scan_suffix(file), _letters(file)) != kind]
    # in doubt are others that might be scans, too: of another type, or several of one name
    doubtful = [
        file
        for file in rest
        if not _NO_SCAN.search(_stem(file).lower())
        and (scan_suffix(file) != kind[0] or groups[scan_suffix(file), _letters(file)] > 1)
    ]
    if len(doubtful) > MAX_BAD_SHARE * len(files):
        types = sorted({scan_suffix(file) for file in (*doubtful, files[0])} | {kind[0]})
        what = f"scans of several types ({', '.join(types)})" if len(types) > 1 else "several sets of scans"
        usual = next(file for file in files if file not in rest)
        raise DataError(f"{folder}: {what}, expected one: {count} like {usual.name}, but also {doubtful[0].name}")
    return _ScanSet(folder, [file for file in files if (scan_suffix(file), _letters(file)) == kind], rest)


def _chosen(path: Path, summary: InputSummary) -> _ScanSet:
    """The scans that are meant.

    Raises:
        DataError: if there are none, or several sets.
    """
    found = _scan_sets(path)
    if not found:
        raise DataError(f"{path}: no scan files in it; read are: {', '.join(CLOUD_READERS)}")
    *named, last = found
    own = last if last.folder == path else None
    named = named if own is not None else found
    # a single cloud above a folder of scans is a map, or what was made of them; so are those whose names say so
    scans_of_own = [] if own is None else [file for file in own.files if not _NO_SCAN.search(_stem(file).lower())]
    several = [*named, own] if own is not None and (len(scans_of_own) > 1 or not named) else named
    if len(several) > 1:
        shown = ", ".join(f"{len(one.files)} {scan_suffix(one.files[0])} in {one.folder}" for one in several)
        raise DataError(f"{path}: several sets of scans ({shown}): give the folder that is meant")
    scan_set = several[0]
    summary.add("used", "scans", f"{scan_set.files[0].name} and so on in {scan_set.folder}", count=len(scan_set.files))
    left = [*scan_set.ignored, *(own.files if own is not None and own is not scan_set else [])]
    if left:
        shown = ", ".join(file.name for file in left[:5])
        text = f"{len(left)} files that are named unlike the scans: {shown}{' ...' if len(left) > 5 else ''}"
        summary.add("ignored", "scans", text, count=len(left))
    return scan_set


def _folders_beside(path: Path, scans: Path) -> list[Path]:
    """Where stamps and poses may lie: the drive's folder, that of the scans, and the one above a folder of scans."""
    ways = ways_to(path) if scans == path else ()
    above = [way.parent for way in ways if way.name in SCAN_FOLDERS]
    return list(dict.fromkeys((path, scans, *above)))


def _tables(folders: Sequence[Path], summary: InputSummary) -> dict[str, PoseTable]:
    """The pose files that are there, by their names."""
    tables = {}
    for name in dict.fromkeys((*GLOBE_TRUTH, *FIXES, *LOCAL)):
        found = [folder / name for folder in folders if (folder / name).is_file()]
        if found:
            tables[name] = read_pose_file(found[0], summary)
    return tables


def _with_stamps(
    scan_set: _ScanSet, folders: Sequence[Path], tables: dict[str, PoseTable], summary: InputSummary
) -> tuple[list[Path], list[int]]:
    """The files in order of time, with ascending stamps."""
    named = _stamps_in_names(scan_set, summary)
    if named is not None:
        order = sorted(range(len(named)), key=lambda at: named[at])
        return [scan_set.files[at] for at in order], [named[at] for at in order]
    for folder in folders:
        for name in STAMP_FILES:
            if (folder / name).is_file():
                return _in_order(scan_set, _stamps_of_file(scan_set, folder / name, summary), name, summary)
    for name, table in tables.items():
        rows = _rows(len(table.places), scan_set)
        if table.stamps_ns is not None and rows is not None:
            summary.add("assumed", "stamps", f"those of {name}, which has a row for each scan")
            return _in_order(scan_set, [table.stamps_ns[row] for row in rows], name, summary)
    numbers = _frame_numbers(scan_set)
    text = "ten scans a second, there are no stamps"
    if numbers is None:
        summary.add("assumed", "stamps", text)
        return scan_set.files, [at * PERIOD_NS for at in range(len(scan_set.files))]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    summary.add("assumed", "stamps", f"{text}; by the numbers in their names, of which {missing} are missing")
    return scan_set.files, [(number - numbers[0]) * PERIOD_NS for number in numbers]


def _in_order(
    scan_set: _ScanSet, stamps_ns: list[int], name: str, summary: InputSummary
) -> tuple[list[Path], list[int]]:
    """Files and stamps in order of time.

    Raises:
        DataError: if more than one stamp in ten does not come after the one before it.
    """
    wrong = sum(after <= before for before, after in pairwise(stamps_ns))
    if wrong > MAX_BAD_SHARE * len(stamps_ns):
        raise DataError(f"{name}: expected ascending stamps, {wrong} of {len(stamps_ns)} do not come after the last")
    if wrong:
        text = f"{name}: {wrong} of {len(stamps_ns)} do not come after the last: scans are put in order of time"
        summary.add("warning", "stamps", text, count=wrong, total=len(stamps_ns))
    order = sorted(range(len(stamps_ns)), key=lambda at: stamps_ns[at])
    return [scan_set.files[at] for at in order], [stamps_ns[at] for at in order]


def _stamps_in_names(scan_set: _ScanSet, summary: InputSummary) -> list[int] | None:
    """The stamps that are the names of the scans, or None where those only number them."""
    dates = dates_in_names([_stem(file) for file in scan_set.files])
    if dates is not None:
        summary.add("assumed", "stamps", f"the dates in the names of the scans, as {scan_set.files[0].name}, in UTC")
        return dates
    found = [STAMP_IN_NAME.findall(_stem(file)) for file in scan_set.files]
    if any(len(words) == 0 for words in found):
        return None
    words = [max(words, key=len) for words in found]
    if all(word.isdecimal() for word in words) and not whole_numbers_are_stamps([int(word[:30]) for word in words]):
        return None
    stamps = stamps_from_text(words, f"names in {scan_set.folder}", summary, in_order=False, each="file")
    known = [stamp_ns for stamp_ns in stamps if stamp_ns is not None]
    if len(known) < len(stamps) or len(set(known)) < len(known):
        return None
    summary.add("used", "stamps", f"the names of the scans, as {scan_set.files[0].name}")
    return known


def _stamps_of_file(scan_set: _ScanSet, path: Path, summary: InputSummary) -> list[int]:
    """A stamp for each scan, from a file with a line for each scan or for each number up to the last."""
    lines = [line for line in read_lines(path) if line.strip() and not line.lstrip().startswith("#")]
    words = _stamp_words(lines)
    numbers = _frame_numbers(scan_set)
    rows = _rows(len(words), scan_set)
    if rows is None:
        reach = "" if numbers is None else f" or for each number up to {numbers[-1]}"
        raise DataError(f"{path}: expected a stamp for each of {len(scan_set.files)} scans{reach}, got {len(words)}")
    stamps = stamps_from_text(words, str(path), summary)
    chosen = [stamps[row] for row in rows]
    if None in chosen:
        at = chosen.index(None)
        raise DataError(f"{path}: {words[rows[at]][:60]!r} is no stamp of {scan_set.files[at].name}")
    summary.add("used", "stamps", path.name)
    return [stamp_ns for stamp_ns in chosen if stamp_ns is not None]


def _stamp_words(lines: Sequence[str]) -> list[str]:
    """The stamps of a list of times: alone in its line, or beside the number or the name of the scan."""
    if lines and not re.search("[0-9]", lines[0]):
        lines = lines[1:]  # a header
    split = [[word for word in re.split(r"[,;\t]+|\s+", line.strip()) if word] for line in lines]
    if not split or any(len(words) != 2 for words in split):
        return list(lines)
    for here, other in ((0, 1), (1, 0)):
        if all(re.search("[a-zA-Z]", words[here]) and scan_suffix(Path(words[here])) for words in split):
            return [words[other] for words in split]  # a name
    firsts = [words[0] for words in split]
    if all(word.isdecimal() for word in firsts) and all(
        int(after) == int(before) + 1 for before, after in pairwise(firsts)
    ):
        return [words[1] for words in split]  # a number
    return [" ".join(words) for words in split]


def _frame_numbers(scan_set: _ScanSet) -> list[int] | None:
    """The numbers in the names, ascending, where they count frames."""
    numbers = scan_set.numbers
    if numbers is None:
        return None
    steps = sorted(after - before for before, after in pairwise(numbers))
    return numbers if not steps or 0 < steps[len(steps) // 2] <= MAX_NUMBER_STEP else None


def _rows(count: int, scan_set: _ScanSet) -> list[int] | None:
    """Which of so many rows belongs to each scan: they are as many, or the numbers of the scans count them."""
    if count == len(scan_set.files):
        return list(range(count))
    numbers = _frame_numbers(scan_set)
    if numbers is None or count < len(numbers):
        return None
    first = 1 if numbers[-1] == count and numbers[0] >= 1 else 0
    return [number - first for number in numbers] if numbers[-1] - first < count else None


def _tracks(tables: dict[str, PoseTable], scan_set: _ScanSet, scans: ScanFiles, summary: InputSummary) -> Tracks:
    truth = gnss = None
    odometry = None
    for name in (*GLOBE_TRUTH, *FIXES):
        table = tables.get(name)
        if table is None or not table.on_globe:
            continue
        is_truth = name in GLOBE_TRUTH and table.yaw_rad is not None
        if name in GLOBE_TRUTH and table.yaw_rad is None:
            summary.add("lost", "truth", f"{name} has no heading: its places serve as GNSS fixes")
        if (truth if is_truth else gnss) is not None:
            summary.add("ignored", name, f"another file is taken for {'truth' if is_truth else 'GNSS'}")
            continue
        stamps_ns, rows = _row_stamps(table, scan_set, scans, name, summary)
        yaw_rad = None if table.yaw_rad is None else table.yaw_rad[rows]
        track = GeoTrack.from_degrees(stamps_ns, table.places[rows], yaw_rad)
        summary.add("used", "truth" if is_truth else "GNSS", name, count=len(rows))
        if is_truth:
            truth = track
        else:  # places without a heading are no pose
            gnss = track
    for name in LOCAL:
        table = tables.get(name)
        if table is None or table.on_globe:
            continue
        if odometry is not None:
            summary.add("ignored", name, "another file is taken for odometry")
            continue
        stamps_ns, rows = _row_stamps(table, scan_set, scans, name, summary)
        places = table.places[rows]
        if table.yaw_rad is None:
            summary.add("assumed", "odometry", f"{name} has no heading: that of the way is taken")
        yaw_rad = course_rad(places) if table.yaw_rad is None else table.yaw_rad[rows]
        odometry = PoseTrack.sorted(stamps_ns, places, yaw_rad)
        summary.add("used", "odometry", name, count=len(rows))
    return Tracks(truth, gnss, odometry)


def _row_stamps(
    table: PoseTable, scan_set: _ScanSet, scans: ScanFiles, name: str, summary: InputSummary
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Stamps of rows, and which rows they are: all with their own, or those that belong to a scan."""
    if table.stamps_ns is not None:
        stamps_ns = np.array(table.stamps_ns, dtype=np.int64)
        if stamps_ns.max() < scans.stamps_ns[0] or stamps_ns.min() > scans.stamps_ns[-1]:
            gap_s = max(scans.stamps_ns[0] - int(stamps_ns.max()), int(stamps_ns.min()) - scans.stamps_ns[-1]) / 1e9
            summary.add("warning", name, f"its stamps lie {gap_s:.1f} s before or after those of all scans")
        leap = leap_of_spans((scans.stamps_ns[0], scans.stamps_ns[-1]), (int(stamps_ns.min()), int(stamps_ns.max())))
        if leap is not None:
            summary.add("warning", name, f"its stamps begin and end {leap} of those of the scans: of another clock?")
        return stamps_ns, np.arange(len(stamps_ns))
    by_file = dict(zip(scans.files, scans.stamps_ns, strict=True))
    ordered = np.array([by_file[file] for file in scan_set.files], dtype=np.int64)
    numbers = scan_set.numbers
    if table.numbers is not None and numbers is not None:
        row_of = {number: row for row, number in enumerate(table.numbers)}
        known = [at for at, number in enumerate(numbers) if number in row_of]
        if known:
            return ordered[known], np.array([row_of[numbers[at]] for at in known], dtype=np.int64)
    rows = _rows(len(table.places), scan_set)
    if rows is None:
        count = len(scans)
        raise DataError(f"{name}: without stamps, expected a row for each of {count} scans, got {len(table.places)}")
    return ordered, np.array(rows, dtype=np.int64)
