"""Poses and fixes in text, and true poses from such a file beside any log.

CSV with a header, TUM trajectories and KITTI's rows of matrices are read. The kind of the file, its columns and their
units are decided for the file as a whole. Rows that do not fit are left out and counted; more than one in ten of them
are an error.

Truth is of the LiDAR. CSV with latitude, longitude and heading stands on the globe. TUM, KITTI's poses and CSV with x
and y are metres in a frame of their own: they are laid onto the GNSS of the log, by the rigid motion of the plane that
fits best (Umeyama 1991, without scale). Rows without stamps belong to the scans in order, one each.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mode

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.drive import Derived, Drive
from bevfusion.datasets.rigid import rotations, yaws_rad
from bevfusion.datasets.side_files import read_lines
from bevfusion.datasets.stamps import NUMBER, leap_of_spans, stamps_from_text
from bevfusion.datasets.tracks import GeoTrack, PoseTrack, course_rad
from bevfusion.geometry.geodesy import GeoPose, LocalFrame
from bevfusion.structures import DataError, Frame
from bevfusion.summary import InputSummary

STAMP_NAMES = ("header_stamp", "stamp", "timestamp", "time", "t", "utc", "time_utc")
SECOND_NAMES, NANOSECOND_NAMES = ("sec", "secs", "seconds"), ("nsec", "nsecs", "nanosec", "nanosecs", "nanoseconds")
NUMBER_NAMES = ("frame", "index", "frame_id", "frame_index", "number", "scan", "seq", "id")
LAT_NAMES, LON_NAMES = ("lat", "latitude"), ("lon", "lng", "long", "longitude")
# p_RS_R_x, q_RS_w: as EuRoC's ground truth has them
X_NAMES = ("x", "tx", "east", "easting", "px", "pos_x", "p_rs_r_x")
Y_NAMES = ("y", "ty", "north", "northing", "py", "pos_y", "p_rs_r_y")
QUATERNION = ("qx", "qy", "qz", "qw")
W_NAMES = ("qw", "q_w", "q_rs_w")
MOST_TILT = 0.2  # of a vehicle, as x and y of its quaternion
# counter-clockwise from east (or from x); compass bearings; and what people mean either by
YAW_NAMES, BEARING_NAMES, HEADING_NAMES = ("yaw", "theta"), ("bearing", "azimuth", "course", "cog"), ("heading",)
UNITS = {"nanoseconds": "ns", "microseconds": "us", "milliseconds": "ms", "seconds": "s", "sec": "s", "secs": "s"}
UNITS |= {"degrees": "deg", "degree": "deg", "\N{DEGREE SIGN}": "deg", "radians": "rad", "radian": "rad", "metres": "m"}
UNITS |= {unit: unit for unit in ("ns", "us", "ms", "s", "deg", "rad", "m")}
MATRIX_COLUMNS = {12: (0, 12), 13: (1, 12), 16: (0, 16), 17: (1, 16)}  # numbers in a row -> before, in the matrix
MAX_BAD_SHARE = 0.1
FULL_TURN_RAD = 2.0 * math.pi
MOVING_STEP_M = 0.2
MIN_MOVING_ROWS = 3
MAX_COURSE_ERROR_RAD = math.radians(30.0)
MIN_AHEAD = 0.7  # mean cosine between the way and an axis that looks along it
FITTED_FRAMES = 60
LEAST_SPREAD_M = 5.0  # of the places that a direction is found by
TOLD_APART_M = 10.0  # from the GNSS
MAX_REST_M = 5.0  # median distance between fixes and fitted poses, beyond which they are of different drives


@dataclass(frozen=True, slots=True)
class PoseTable:
    """The rows of a pose file; `places` are latitude and longitude in degrees if `on_globe`, else metres."""

    on_globe: bool
    stamps_ns: list[int] | None
    places: Float[np.ndarray, "n 2"]
    yaw_rad: Float[np.ndarray, " n"] | None  # counter-clockwise from east, or from x
    numbers: list[int] | None = None  # of the frames, where the file has a column of them


@dataclass(frozen=True, slots=True)
class _Column:
    """A column by its name, without the unit that is part of it."""

    name: str
    unit: str | None
    at: int


def read_pose_file(path: Path, summary: InputSummary | None = None) -> PoseTable:
    """The poses of a CSV file with a header that names its columns, a TUM trajectory, or rows of KITTI's matrices.

    A CSV has either lat, lon or x, y, and perhaps a stamp and a heading: yaw (counter-clockwise from east or x),
    bearing (of a compass), or qx, qy, qz, qw. Units are part of names, as in `yaw_deg`, `stamp_ns` or `time [s]`.
    A yaw without a unit is in degrees or radians as its range and the way that was driven tell. TUM rows are
    `stamp x y z qx qy qz qw`. Rows of 12 or 16 numbers are matrices, of 13 or 17 with a stamp before them.

    Args:
        path: of the file.
        summary: is told what was assumed and left out.

    Raises:
        DataError: if it is none of these, a heading is ambiguous, or more than one row in ten is malformed.
    """
    summary = InputSummary(path.name) if summary is None else summary
    lines = [line for line in read_lines(path) if line.strip()]
    rows = [line for line in lines if not line.lstrip().startswith("#")]
    if not rows:
        raise DataError(f"{path}: no poses in it")
    if not _all_numbers(rows[0]):
        return _read_csv(rows, path, summary)
    count = mode(len(_words(line)) for line in rows)
    before = [line.lstrip("# ") for line in lines[: lines.index(rows[0])]]
    if count == 8:
        names = [_column(word, at).name for at, word in enumerate(_split(before[-1]))] if before else []
        if len(names) == 8 and names[4] in W_NAMES:
            return _read_csv([before[-1], *rows], path, summary)
        return _read_tum(rows, path, summary)
    if count in MATRIX_COLUMNS:
        return _read_matrices(rows, count, path, summary)
    if before and len(_split(before[-1])) == len(_split(rows[0])) and not _all_numbers(before[-1]):
        return _read_csv([before[-1], *rows], path, summary)  # as numpy.savetxt writes a header
    raise DataError(
        f"{path}: expected CSV with a header, TUM lines of 8 numbers or matrices of 12; its lines have {count}"
    )


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[,;\s]+", line.strip()) if word]


def _all_numbers(line: str) -> bool:
    return all(_is_number(word) for word in _words(line))


def _is_number(word: str) -> bool:
    return NUMBER.fullmatch(word) is not None or word.lower() in ("nan", "inf", "-inf")


def _left_out(bad: int, total: int, example: str, expected: str, path: Path, summary: InputSummary) -> None:
    """Tell of rows that are left out.

    Raises:
        DataError: if they are more than one in ten.
    """
    if bad > MAX_BAD_SHARE * total:
        raise DataError(f"{path}: {bad} of {total} rows are not {expected}, as {example.strip()[:60]!r}")
    if bad:
        summary.add("lost", path.name, f"{bad} of {total} rows are not {expected}", count=bad, total=total)


def _number_rows(lines: Sequence[str], count: int, expected: str, path: Path, summary: InputSummary) -> list[list[str]]:
    """The words of the rows that hold so many numbers."""
    rows = [_words(line) for line in lines]
    good = [len(row) == count and all(_is_number(word) for word in row) for row in rows]
    example = next((line for line, fits in zip(lines, good, strict=True) if not fits), "")
    _left_out(good.count(False), len(rows), example, expected, path, summary)
    return [row for row, fits in zip(rows, good, strict=True) if fits]


def _read_tum(lines: Sequence[str], path: Path, summary: InputSummary) -> PoseTable:
    rows = _number_rows(lines, 8, "stamp x y z qx qy qz qw", path, summary)
    stamps = stamps_from_text([row[0] for row in rows], str(path), summary)
    known = [at for at, stamp_ns in enumerate(stamps) if stamp_ns is not None]
    table = np.array([[float(word) for word in rows[at][1:]] for at in known])
    stamps_ns = [stamp_ns for stamp_ns in stamps if stamp_ns is not None]
    quaternions = table[:, 3:]
    if _begins_with_w(quaternions):
        summary.add("assumed", path.name, "quaternions have w first: else the vehicle would lie on its side")
        quaternions = quaternions[:, [1, 2, 3, 0]]
    return PoseTable(False, stamps_ns, table[:, :2], yaws_rad(rotations(quaternions)))


def _begins_with_w(quaternions: Float[np.ndarray, "n 4"]) -> bool:
    """Whether only (w, x, y, z) is a vehicle on its wheels: (x, y, z, w) is TUM's order, but not everybody's."""
    tilt = np.abs(quaternions[np.isfinite(quaternions).all(axis=1)])
    upright_by_tum = tilt[:, :2].max(axis=1, initial=0.0) < MOST_TILT
    upright_by_w = tilt[:, 1:3].max(axis=1, initial=0.0) < MOST_TILT
    turning = tilt[:, 3].max(initial=0.0) > MOST_TILT
    return bool(len(tilt) and upright_by_w.mean() > 0.95 and upright_by_tum.mean() < 0.5 and turning)


def _read_matrices(lines: Sequence[str], count: int, path: Path, summary: InputSummary) -> PoseTable:
    """Rows of a 3 x 4 or 4 x 4 matrix each, perhaps after a stamp or the number of the frame."""
    before, size = MATRIX_COLUMNS[count]
    rows = _number_rows(lines, count, f"a matrix of {size} numbers", path, summary)
    matrices = np.array([[float(word) for word in row[before:]] for row in rows])[:, :12].reshape(-1, 3, 4)
    stamps_ns: list[int] | None = None
    numbers: list[int] | None = None
    if before and all(row[0].isdecimal() for row in rows) and int(rows[-1][0]) < 10**7:
        numbers = [int(row[0]) for row in rows]
    elif before:
        stamps = stamps_from_text([row[0] for row in rows], str(path), summary)
        keep = np.array([stamp_ns is not None for stamp_ns in stamps])
        matrices, stamps_ns = matrices[keep], [stamp_ns for stamp_ns in stamps if stamp_ns is not None]
    rotation, places_m = matrices[:, :, :3], matrices[:, :, 3]
    finite = np.isfinite(matrices).all(axis=(1, 2))
    if not finite.any() or not np.allclose((rotation @ rotation.transpose(0, 2, 1))[finite], np.eye(3), atol=0.05):
        raise DataError(f"{path}: its matrices do not begin with rotations")
    if _ahead(rotation, places_m) == "z":  # a camera's axes: x to the right, y down, z ahead
        summary.add("assumed", path.name, "poses of a camera that looks ahead (x right, y down), by the way it moves")
        forward = rotation[:, :, 2]
        # the plane of the ground is x and z of the first camera
        return PoseTable(
            False,
            stamps_ns,
            np.stack([places_m[:, 2], -places_m[:, 0]], axis=1),
            np.arctan2(-forward[:, 0], forward[:, 2]),
            numbers,
        )
    return PoseTable(False, stamps_ns, places_m[:, :2], yaws_rad(rotation), numbers)


def _ahead(rotation: Float[np.ndarray, "n 3 3"], places_m: Float[np.ndarray, "n 3"]) -> str:
    """The axis that looks along the way: x, or z where it clearly does."""
    steps_m = np.diff(places_m, axis=0)
    length_m = np.linalg.norm(steps_m, axis=1)
    moving = length_m > MOVING_STEP_M
    if moving.sum() < MIN_MOVING_ROWS:
        return "x"
    along = np.einsum("nji,nj->ni", rotation[:-1][moving], steps_m[moving] / length_m[moving, None]).mean(axis=0)
    return "z" if along[2] > MIN_AHEAD and along[2] > along[0] else "x"


def _split(line: str) -> list[str]:
    delimiter = next((mark for mark in ",;\t" if mark in line), None)
    return [word.strip() for word in (line.split() if delimiter is None else line.split(delimiter))]


def _read_csv(lines: Sequence[str], path: Path, summary: InputSummary) -> PoseTable:
    header, *rows = _cells(lines, path)
    columns = [_column(name, at) for at, name in enumerate(header)]
    lat, lon = _first(columns, LAT_NAMES), _first(columns, LON_NAMES)
    x, y = _first(columns, X_NAMES), _first(columns, Y_NAMES)
    on_globe = lat is not None and lon is not None
    places = (lat, lon) if on_globe else (x, y)
    if places[0] is None or places[1] is None or not rows:
        told = ", ".join(header)[:120]
        raise DataError(f"{path}: expected columns lat, lon or x, y and at least one row, got {told}")
    usual = mode(len(row) for row in rows)
    if usual != len(header):
        raise DataError(f"{path}: its header names {len(header)} columns, its rows have {usual}")
    wanted = [column for column in (*places, *_heading_columns(columns)) if column is not None]
    stamp, second, nanosecond, number = (
        _first(columns, names) for names in (STAMP_NAMES, SECOND_NAMES, NANOSECOND_NAMES, NUMBER_NAMES)
    )
    good = [
        len(row) == usual and all(row[column.at] == "" or _is_number(row[column.at]) for column in wanted)
        for row in rows
    ]
    fault = next((row for row, fits in zip(rows, good, strict=True) if not fits), [])
    names = ", ".join(header[column.at] for column in wanted)
    _left_out(good.count(False), len(rows), ",".join(fault), f"{usual} fields with numbers in {names}", path, summary)
    rows = [row for row, fits in zip(rows, good, strict=True) if fits]
    stamps: list[int | None] | None = None
    if stamp is not None:
        unit = stamp.unit if stamp.unit in ("ns", "us", "ms", "s") else None
        stamps = stamps_from_text(
            [row[stamp.at] for row in rows], f"{path} column {header[stamp.at]}", summary, unit=unit, each="row"
        )
    elif second is not None and nanosecond is not None:
        words = [f"{row[second.at]}_{row[nanosecond.at]}" for row in rows]
        stamps = stamps_from_text(words, f"{path} columns {second.name}, {nanosecond.name}", summary, each="row")
    if stamps is not None and None in stamps:
        summary.add("lost", path.name, f"{stamps.count(None)} of {len(rows)} rows have no stamp")
        rows = [row for row, stamp_ns in zip(rows, stamps, strict=True) if stamp_ns is not None]
    numbers: list[int] | None = None
    if stamps is None and number is not None and all(re.fullmatch("[0-9]{1,9}", row[number.at]) for row in rows):
        numbers = [int(row[number.at]) for row in rows]
    places_read = np.stack([_place(rows, column, on_globe) for column in places if column is not None], axis=1)
    return PoseTable(
        on_globe,
        None if stamps is None else [stamp_ns for stamp_ns in stamps if stamp_ns is not None],
        places_read,
        _yaw_rad(rows, columns, places_read, on_globe, path, summary),
        numbers,
    )


def _cells(lines: Sequence[str], path: Path) -> list[list[str]]:
    """The fields of every row; a comma that stands for the decimal point becomes one."""
    delimiter = next((mark for mark in ",;\t" if mark in lines[0]), " ")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    width = len(rows[0])
    cells = [[word.strip().strip('"') for word in row] for row in rows if row]
    if delimiter != ",":
        cells[1:] = [[re.sub(r"(?<=[0-9]),(?=[0-9])", ".", word) for word in row] for row in cells[1:]]
    # a separator at the end of each row makes an empty field, also where the header has none
    return [row[:-1] if len(row) == width + 1 and row[-1] == "" else row for row in cells]


def _column(text: str, at: int) -> _Column:
    """A column's name and unit: `yaw_deg`, `yaw [deg]` and `Yaw (degrees)` are the same."""
    words = [word for word in re.split(r"[\s_./()\[\]%#]+", text.strip().lower()) if word]
    words = words[1:] if words[:1] == ["field"] else words  # as `rostopic echo -p` writes them
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    return _Column("_".join(words[:-1] if unit is not None else words), unit, at)


def _first(columns: Sequence[_Column], wanted: Sequence[str]) -> _Column | None:
    return next((column for name in wanted for column in columns if column.name == name), None)


def _heading_columns(columns: Sequence[_Column]) -> list[_Column]:
    """Where the heading stands: in one column, or in four."""
    one = _first(columns, (*YAW_NAMES, *BEARING_NAMES, *HEADING_NAMES))
    if one is not None:
        return [one]
    four = [_first(columns, (name, f"q_{name[1]}", f"q_rs_{name[1]}")) for name in QUATERNION]
    return [column for column in four if column is not None] if None not in four else []


def _numbers(rows: Sequence[Sequence[str]], column: _Column) -> Float[np.ndarray, " n"]:
    """A column; an empty field is NaN."""
    return np.array([float(row[column.at] or "nan") for row in rows], dtype=np.float64)


def _place(rows: Sequence[Sequence[str]], column: _Column, on_globe: bool) -> Float[np.ndarray, " n"]:
    """A column of places, in degrees or in metres."""
    values = _numbers(rows, column)
    degrees: np.ndarray = np.degrees(values) if on_globe and column.unit == "rad" else values
    return degrees


def _yaw_rad(
    rows: Sequence[Sequence[str]],
    columns: Sequence[_Column],
    places: Float[np.ndarray, "n 2"],
    on_globe: bool,
    path: Path,
    summary: InputSummary,
) -> Float[np.ndarray, " n"] | None:
    """Headings counter-clockwise from east (or x), or None where the file has none."""
    found = _heading_columns(columns)
    if not found:
        return None
    if len(found) == 4:
        return yaws_rad(rotations(np.stack([_numbers(rows, column) for column in found], axis=1)))
    column, values = found[0], _numbers(rows, found[0])
    if not np.isfinite(values).any():
        return None
    units = [column.unit] if column.unit in ("deg", "rad") else ["rad", "deg"]
    compass = [column.name in BEARING_NAMES]
    if column.name in HEADING_NAMES:  # degrees of a compass by custom, but said of a yaw as well
        compass = [True] if column.unit == "deg" else [True, False]
    readings = {(unit, bearing): _as_yaw_rad(values, unit, bearing) for bearing in compass for unit in units}
    if len(readings) == 1:
        return next(iter(readings.values()))
    meant = _meant(readings, values, places, on_globe)
    if meant is None:
        raise DataError(
            f"{path}: its column {column.name} may be a compass bearing or a yaw, and the way does not tell: "
            f"name it heading_deg (compass), yaw_deg or yaw_rad (counter-clockwise from east)"
        )
    unit, bearing = meant
    kind = "a compass bearing" if bearing else "counter-clockwise from east"
    low, high = np.nanmin(values), np.nanmax(values)
    name = "degrees" if unit == "deg" else "radians"
    summary.add("assumed", "heading", f"{path.name} column {column.name}: {name}, {kind} ({low:.4g} to {high:.4g})")
    return readings[meant]


def _as_yaw_rad(values: Float[np.ndarray, " n"], unit: str, bearing: bool) -> Float[np.ndarray, " n"]:
    angle_rad = np.deg2rad(values) if unit == "deg" else values
    return 0.5 * math.pi - angle_rad if bearing else angle_rad


def _meant(
    readings: dict[tuple[str, bool], Float[np.ndarray, " n"]],
    values: Float[np.ndarray, " n"],
    places: Float[np.ndarray, "n 2"],
    on_globe: bool,
) -> tuple[str, bool] | None:
    """Which reading of a column without a unit is meant: by its range, then by the way that was driven."""
    if float(np.nanmax(np.abs(values), initial=0.0)) > FULL_TURN_RAD + 0.01:
        readings = {meant: yaw_rad for meant, yaw_rad in readings.items() if meant[0] == "deg"}
    errors = _course_errors_rad(readings, places, on_globe)
    if errors:
        best = min(errors, key=lambda meant: errors[meant])
        if errors[best] < MAX_COURSE_ERROR_RAD:
            return best
    kinds = {bearing for _, bearing in readings}
    if len(readings) == 1 or kinds == {False}:
        return next(iter(readings))  # of radians and degrees, radians: degrees beyond a turn are left alone above
    return None


def _course_errors_rad(
    readings: dict[tuple[str, bool], Float[np.ndarray, " n"]], places: Float[np.ndarray, "n 2"], on_globe: bool
) -> dict[tuple[str, bool], float]:
    """How far each reading is off the way that was driven, in the median; none where too little of it is known."""
    good = np.isfinite(places).all(axis=1)
    xy_m = places
    if on_globe:
        lat_deg, lon_deg = places[:, 0], places[:, 1]
        east = np.cos(np.deg2rad(np.nanmedian(lat_deg))) * 111_200.0
        xy_m = np.stack([(lon_deg - np.nanmedian(lon_deg)) * east, (lat_deg - np.nanmedian(lat_deg)) * 111_200.0], 1)
    xy_m = xy_m[good]
    if len(xy_m) == 0 or float(np.ptp(xy_m, axis=0).max()) < 5.0:
        return {}
    moving = np.linalg.norm(np.gradient(xy_m, axis=0), axis=1) > MOVING_STEP_M
    if moving.sum() < MIN_MOVING_ROWS:
        return {}
    course = course_rad(xy_m)[moving]
    off_rad = {meant: np.abs(np.angle(np.exp(1j * (yaw[good][moving] - course)))) for meant, yaw in readings.items()}
    return {meant: float(np.nanmedian(off)) for meant, off in off_rad.items() if np.isfinite(off).any()}


class WithTruth(Derived):
    """Another drive with true poses of its own."""

    def __init__(self, drive: Drive, track: GeoTrack) -> None:
        super().__init__(drive)
        self._track = track

    def __getitem__(self, position: int) -> Frame:
        """The drive's frame, with its truth.

        Raises:
            IndexError: past the end.
            DataError: if its scan is broken.
        """
        frame = self._drive[position]
        return replace(frame, truth=self._track.at(frame.stamp_ns))

    def truths(self) -> Mapping[int, GeoPose]:
        """None but those of the frames: the log's own are not the truth here."""
        return {}


def with_truth(drive: Drive, path: Path) -> Drive:
    """The drive with the true poses of a file, whatever truth it had.

    Raises:
        DataError: if the file is no pose file, does not belong to the drive, or cannot be placed on the globe.
    """
    table = read_pose_file(path, drive.summary)
    if table.yaw_rad is None:
        raise DataError(f"{path}: has no heading (yaw_rad, yaw_deg, heading_deg or a quaternion), so it is no truth")
    frames = _some_frames(drive, path)
    stamps_ns = _stamps_ns(table, drive, path)
    scans_ns = frames[0].stamp_ns, frames[-1].stamp_ns
    leap = leap_of_spans(scans_ns, (int(stamps_ns.min()), int(stamps_ns.max())))
    if leap is not None:
        told = f"{path.name}: its stamps begin and end {leap} of those of the scans: of another clock?"
        drive.summary.add("warning", "truth", told)
    if stamps_ns.max() < frames[0].stamp_ns or stamps_ns.min() > frames[-1].stamp_ns:
        spans = [
            f"{first / 1e9:.3f} to {last / 1e9:.3f} s"
            for first, last in ((int(stamps_ns.min()), int(stamps_ns.max())), scans_ns)
        ]
        why = "" if leap is None else f"; {leap}?"
        raise DataError(f"{path}: its stamps span {spans[0]}, the scans {spans[1]}: never at once{why}")
    if table.on_globe:
        track, how = GeoTrack.from_degrees(stamps_ns, table.places, table.yaw_rad), "on the globe"
    else:
        track, how = _placed(PoseTrack.sorted(stamps_ns, table.places, table.yaw_rad), frames, path)
    _check_against_gnss(track, frames, path, drive)
    known = sum(track.at(frame.stamp_ns) is not None for frame in frames)
    if not known:
        raise DataError(f"{path}: has a pose for none of {len(frames)} frames that were looked at")
    told = f"{path.name}, {len(table.places)} poses {how}, which reach {known} of {len(frames)} frames looked at"
    drive.summary.add("used", "truth", told, count=known, total=len(frames))
    return WithTruth(drive, track)


def _check_against_gnss(track: GeoTrack, frames: list[Frame], path: Path, drive: Drive) -> None:
    apart_m = []
    for frame in frames:
        true = track.at(frame.stamp_ns)
        if true is not None and frame.gnss is not None:
            place = LocalFrame(true.lat_deg, true.lon_deg).metres_from_degrees(frame.gnss.lat_deg, frame.gnss.lon_deg)
            apart_m.append(float(np.hypot(*place)))
    if apart_m and float(np.median(apart_m)) > TOLD_APART_M:
        told = f"{path.name} lies {np.median(apart_m):.1f} m from the GNSS of the log (median): another clock or drive?"
        drive.summary.add("warning", "truth", told)


def _some_frames(drive: Drive, path: Path) -> list[Frame]:
    frames = []
    for position in np.unique(np.linspace(0, len(drive) - 1, FITTED_FRAMES).astype(int)) if len(drive) else ():
        try:
            frames.append(drive[int(position)])
        except DataError:  # told when it is asked for
            continue
    if not frames:
        raise DataError(f"{path}: {drive.name} has no scan that can be read")
    return frames


def _stamps_ns(table: PoseTable, drive: Drive, path: Path) -> Int[np.ndarray, " n"]:
    if table.stamps_ns is not None:
        return np.array(table.stamps_ns, dtype=np.int64)
    if len(table.places) != len(drive):
        rows, scans = len(table.places), len(drive)
        raise DataError(f"{path}: without stamps, expected a row for each of {scans} scans, got {rows}")
    return np.array([frame.stamp_ns for frame in drive], dtype=np.int64)


def _placed(track: PoseTrack, frames: list[Frame], path: Path) -> tuple[GeoTrack, str]:
    """Poses in metres laid onto the fixes of the frames, and how well they fit."""
    pairs = [(pose, frame.gnss) for frame in frames if frame.gnss is not None and (pose := track.at(frame.stamp_ns))]
    remedy = "give latitude, longitude and heading (CSV: stamp_ns,lat,lon,yaw_rad)"
    if len(pairs) < 3:
        raise DataError(f"{path}: metres in a frame of its own, and the log has no GNSS to place them by: {remedy}")
    origin = pairs[0][1]
    frame = LocalFrame(origin.lat_deg, origin.lon_deg)
    own_m = np.array([(pose.x_m, pose.y_m) for pose, _ in pairs])
    fixes_m = np.array([frame.metres_from_degrees(fix.lat_deg, fix.lon_deg) for _, fix in pairs])
    if float(np.ptp(own_m, axis=0).max()) < LEAST_SPREAD_M:
        raise DataError(f"{path}: metres of a drive that hardly moves cannot be laid onto its GNSS: {remedy}")
    turn_rad, shift_m = fitted_motion(own_m, fixes_m)
    rotation = _rotation(turn_rad)
    rest_m = float(np.median(np.linalg.norm(own_m @ rotation.T + shift_m - fixes_m, axis=1)))
    if rest_m > MAX_REST_M:
        raise DataError(f"{path}: lies {rest_m:.1f} m beside the GNSS of the log where it fits best: another drive?")
    moved = PoseTrack(track.stamps_ns, track.xy_m @ rotation.T + shift_m, track.yaw_rad + turn_rad)
    return GeoTrack(frame, moved), f"laid onto the GNSS of the log, {rest_m:.2f} m beside it (median)"


def fitted_motion(
    source_m: Float[np.ndarray, "n 2"], target_m: Float[np.ndarray, "n 2"]
) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Turn in radians and shift that lay points onto others with the least sum of squares."""
    source, target = source_m - source_m.mean(axis=0), target_m - target_m.mean(axis=0)
    along = float((source * target).sum())
    across = float((source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum())
    turn_rad = float(np.arctan2(across, along))
    shift_m: np.ndarray = target_m.mean(axis=0) - _rotation(turn_rad) @ source_m.mean(axis=0)
    return turn_rad, shift_m


def _rotation(turn_rad: float) -> Float[np.ndarray, "2 2"]:
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.array([[cos, -sin], [sin, cos]])
