"""Scan files that are nothing but numbers: .bin files, and NumPy arrays (.npy) in rows, in columns or as named records.

KITTI's float32 x, y, z, reflectance is but one of many layouts of .bin files. How many numbers make a row is what the
place of a number in its row tells most about its value for (mutual information of place and value); whether they are of
32 or 64 bits, and what the columns hold, is read off their ranges. Columns of arrays without names are told likewise.
All of it is decided once for the files of a drive, and refused where it is in doubt.
"""

import struct
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt32

from bevfusion.datasets.cloud import MAX_POINTS, TIME_UNITS_S, Cloud, cloud_from_fields
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

Layout = np.dtype[Any]  # of one point: its columns by name; those that are not used are called _, _4 and so on
KITTI: Layout = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])
LABEL_BYTES = 4  # uint32: the lower half is the class, the upper numbers the instance
TYPES = {"f4": 4, "f8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8, "i1": 1, "i2": 2, "i4": 4, "i8": 8}
COLUMNS = range(3, 17)
LEAST_NUMBERS = 512  # fewer tell nothing of their rows
MOST_NUMBERS = 1 << 22
BLOCK, BLOCKS = 2000, 100  # of neighbouring numbers, spread over a file
BINS = 32
CLEAR_NATS = 0.05  # of mutual information; less is chance, or columns that are alike
SAME_SIGN, MAX_SIZE_RATIO = 0.9, 20.0  # of a coordinate of one beam and the next: near ground, far wall
SAME_SHARE = 0.95  # of the most: rows of twice the length tell as much as the right ones
ABSURD = (1e-12, 1e12)  # beyond, bytes are no numbers of that type, but for times in ns
MOST_NS = 3e18
MAX_COORDINATE_M = 1000.0
MIN_EXTENT_M = 0.5  # of nine tenths of the points, along x and along y
MAX_RING = 300
MAX_TAGS = 8
LONGEST_NORMAL = 1.05
LONGEST_TURN_S, SHORTEST_TURN_S = 0.6, 0.005
EXPLAINED = 0.9  # of a column's variance, by the azimuth of its points (time) or the other way round (ring)
HINT = "name its columns: --columns x,y,z,intensity,... (_ for one that is not used, NAME:u2 for another type)"
MAGIC = b"\x93NUMPY"
# numpy parses the header as Python text, and lets through what goes wrong there
UNREADABLE = (
    *(ValueError, OSError, EOFError, TypeError, OverflowError, MemoryError, RecursionError, KeyError, AttributeError),
    *(SyntaxError, tokenize.TokenError, struct.error),
)
LEAST_POINTS = 128  # fewer tell nothing of their columns
USUAL = ("x", "y", "z", "intensity")


def columns_from_names(names: Sequence[str]) -> list[tuple[str, str | None]]:
    """Name and type of each column, as `x`, `time:f8` or `_`; the type is None where it is not said.

    Raises:
        DataError: if x, y or z is missing, a name comes twice or a type is unknown.
    """
    columns = []
    for at, text in enumerate(names):
        name, _, kind = text.strip().partition(":")
        if kind and kind not in TYPES:
            raise DataError(f"--columns: {text!r} has an unknown type, known are {', '.join(TYPES)}")
        columns.append((name if name not in ("", "_") else f"_{at}", kind or None))
    known = [name for name, _ in columns]
    missing = [name for name in ("x", "y", "z") if name not in known]
    if missing or len(set(known)) < len(known):
        raise DataError(f"--columns: expected x, y, z and other columns once each, got {','.join(names)}")
    return columns


def find_layout(files: Sequence[Path], names: Sequence[str], summary: InputSummary, usual: Layout = KITTI) -> Layout:
    """The columns of the .bin files of a drive.

    Args:
        files: all of them; three are looked into.
        names: what the user says of the columns, as of `columns_from_names`; empty: nothing.
        summary: is told what was found.
        usual: the layout of files that hold too few points to tell.

    Raises:
        DataError: if the numbers leave it in doubt, or contradict the names.
    """
    filled = [file for file in files if file.stat().st_size > 0]
    judged = [filled[at] for at in sorted({0, len(filled) // 2, len(filled) - 1})] if filled else []
    if names:
        layout = _named_layout(columns_from_names(names), judged)
        summary.add("used", "columns", f"as they were named: {layout_in_words(layout)}")
        return layout
    layouts: list[Layout] = []
    doubts: list[DataError] = []
    for file in judged:
        try:
            told = _told_layout(file)
        except DataError as error:
            doubts.append(error)
        else:
            layouts += [] if told is None else [told]
    if not layouts and not doubts:
        if filled:
            summary.add("assumed", "columns", f"too few points to tell them: {layout_in_words(usual)}")
        return usual
    sizes = [(one.itemsize, len(one.names or ())) for one in layouts]
    usual_size = max(sizes, key=sizes.count) if sizes else (0, 0)
    if 2 * sizes.count(usual_size) <= len(sizes) + len(doubts):  # one odd file among three is no drive
        if doubts:
            raise doubts[0]
        raise _differ(judged[0].parent, layouts)
    layout = _together([one for one, size in zip(layouts, sizes, strict=True) if size == usual_size], judged[0].parent)
    if layout != usual:
        summary.add("assumed", "columns", f"as the numbers tell: {layout_in_words(layout)}")
    return layout


def _together(layouts: Sequence[Layout], folder: Path) -> Layout:
    """What most files say of each column; of a tie, what it holds if one of them knows.

    Raises:
        DataError: if files tell different things of a column.
    """
    names: list[str] = []
    for told in zip(*(layout.names or () for layout in layouts), strict=True):
        known = sorted({name for name in told if not name.startswith("_")}, key=told.count, reverse=True)
        if len(known) > 1 and told.count(known[0]) == told.count(known[1]):
            raise _differ(folder, layouts)
        nothing = sum(name.startswith("_") for name in told)
        names.append(known[0] if known and told.count(known[0]) >= nothing else f"_{len(names)}")
    if len(set(names)) < len(names):
        raise _differ(folder, layouts)
    return np.dtype([(name, layouts[0][at]) for at, name in enumerate(names)])


def _differ(folder: Path, layouts: Sequence[Layout]) -> DataError:
    shown = " or ".join(dict.fromkeys(map(layout_in_words, layouts)))
    return DataError(f"{folder}: columns differ from file to file ({shown}): {HINT}")


def read_bare(path: Path, layout: Layout, labels: Path | None = None) -> Cloud:
    """The points of a .bin file, all of them, with the class of each where `labels` is a folder that has it.

    Raises:
        DataError: if the size is wrong, there is nothing in it, or the labels do not match.
        OSError: if a file cannot be read.
    """
    size = path.stat().st_size
    if size % layout.itemsize:
        raise DataError(
            f"{path}: {size} bytes is not a multiple of {layout.itemsize} ({layout_in_words(layout)}): "
            "truncated, or another format"
        )
    if size == 0:
        raise DataError(f"{path}: empty scan file")
    if size > MAX_POINTS * layout.itemsize:
        raise DataError(f"{path}: {size // layout.itemsize} points, at most {MAX_POINTS} are read")
    count = size // layout.itemsize
    classes = None if labels is None else _read_labels(labels / f"{path.stem}.label", count)
    if layout == KITTI:
        points = np.fromfile(path, dtype="<f4").astype(np.float32, copy=False).reshape(-1, 4)
        return Cloud(points[:, :3], points[:, 3], labels=classes)
    records = np.fromfile(path, dtype=layout)
    return named_cloud({name: records[name] for name in layout.names or ()}, str(path), classes)


def named_cloud(columns: dict[str, np.ndarray], source: str, labels: UInt32[np.ndarray, " n"] | None = None) -> Cloud:
    """The cloud of columns; those whose names begin with _ are not used."""
    used = {name: values for name, values in columns.items() if not name.startswith("_")}
    cloud = cloud_from_fields(used, None, source)
    return Cloud(cloud.xyz, cloud.intensity, cloud.ring, cloud.time_s, labels)


def name_columns(table: Float[np.ndarray, "n k"], source: str) -> list[str]:
    """What each column of a table of points holds: x, y, z, intensity, ring, time, or _ for nothing that is used.

    Raises:
        DataError: if the first three are no coordinates, or it is in doubt which one is the intensity.
    """
    table = _blocks(table, BLOCK // 2)
    reason = _no_coordinates(table[:, :3])
    if reason is not None:
        raise DataError(f"{source}: rows of {table.shape[1]} numbers that do not begin with x, y, z ({reason}): {HINT}")
    returns = np.isfinite(table[:, :3]).all(axis=1) & (table[:, :3] != 0.0).any(axis=1)
    points = table[returns].astype(np.float64)
    kinds = [_kind(points[:, at], points[:, :3]) for at in range(3, table.shape[1])]
    signed = [at for at, kind in enumerate(kinds, start=3) if kind == "signed"]
    if signed:
        raise DataError(f"{source}: column {signed[0] + 1} of {table.shape[1]} may be a coordinate, too: {HINT}")
    strengths = [at for at, kind in enumerate(kinds, start=3) if kind == "intensity"]
    if len(strengths) > 2 or (len(strengths) == 2 and strengths[0] > 3):
        shown = ", ".join(str(at + 1) for at in strengths)
        raise DataError(f"{source}: columns {shown} of {table.shape[1]} may each be the intensity: {HINT}")
    names = ["x", "y", "z"]
    for at, kind in enumerate(kinds, start=3):
        names.append(kind if kind in ("intensity", "ring", "time") and kind not in names else f"_{at}")
    if not strengths and kinds[:1] in (["tags"], ["zeros"]):
        names[3] = "intensity"  # weak in this scan, or not measured
    return names


def _blocks(rows: np.ndarray, length: int) -> np.ndarray:
    """Some of many rows: stretches of neighbouring ones, spread over all."""
    if len(rows) <= BLOCKS * length:
        return rows
    starts = np.linspace(0, len(rows) - length, BLOCKS).astype(int)
    chosen: np.ndarray = rows[(starts[:, None] + np.arange(length)).ravel()]
    return chosen


def layout_in_words(layout: Layout) -> str:
    """A layout in words, as `float32 x, y, z, intensity`."""
    kinds = {layout[name].name for name in layout.names or ()}
    names = ["_" if name.startswith("_") else name for name in layout.names or ()]
    if len(kinds) == 1:
        return f"{kinds.pop()} {', '.join(names)}"
    return ", ".join(f"{name} {layout[real].name}" for name, real in zip(names, layout.names or (), strict=True))


def _named_layout(columns: Sequence[tuple[str, str | None]], judged: Sequence[Path]) -> Layout:
    """The layout that the user names; columns without a type are float32 or float64, as the coordinates tell."""
    tried = []
    for kind in ("f4", "f8"):
        layout = np.dtype([(name, f"<{said or kind}") for name, said in columns])
        reasons = [_no_fit(file, layout) for file in judged]
        tried += [reason for reason in reasons if reason is not None]
        if reasons.count(None) > len(reasons) // 2:
            return layout
    raise DataError(f"{judged[0] if judged else '--columns'}: does not hold the columns that were named: {tried[0]}")


def _no_fit(file: Path, layout: Layout) -> str | None:
    size = file.stat().st_size
    if size % layout.itemsize:
        return f"{size} bytes is not a multiple of {layout.itemsize} ({layout_in_words(layout)})"
    records = np.fromfile(file, layout, count=MOST_NUMBERS // len(layout.names or ()))
    with np.errstate(all="ignore"):
        xyz = np.stack([records[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
    return _absurd_coordinates(xyz)


def _told_layout(file: Path) -> Layout | None:
    """The layout that a file's numbers tell; None where they are too few.

    Raises:
        DataError: if it is in doubt.
    """
    size = file.stat().st_size
    if size < 4 * LEAST_NUMBERS:
        return None
    doubts: list[str] = []
    for kind in ("f4", "f8"):
        values = np.fromfile(file, f"<{kind}", count=MOST_NUMBERS)
        if _share_absurd(values) > 0.03:
            continue
        count = _columns_in_row(values)
        if count is None:
            doubts.append(f"nothing tells the rows of its {np.dtype(kind).name}")
            continue
        table = values[: len(values) // count * count].reshape(-1, count)
        try:
            names = name_columns(table, str(file))
        except DataError as error:
            doubts.append(str(error).removeprefix(f"{file}: ").removesuffix(f": {HINT}"))
            continue
        return np.dtype([(name, f"<{kind}") for name in names])
    if not doubts:
        doubts.append("neither its float32 nor its float64 are coordinates: not a LiDAR scan about its sensor")
    raise DataError(f"{file}: {doubts[0]}: {HINT}")


def _share_absurd(values: np.ndarray) -> float:
    """How many of the finite numbers no sensor writes."""
    with np.errstate(all="ignore"):
        size = np.abs(values[np.isfinite(values)].astype(np.float64))
    if len(size) < len(values) // 10:
        return 1.0
    most = MOST_NS if values.dtype.itemsize == 8 else ABSURD[1]
    return float(((size > most) | ((size > 0) & (size < ABSURD[0]))).mean())


def _columns_in_row(values: np.ndarray) -> int | None:
    """How many numbers make a row, or None where nothing tells.

    It is what the place of a number in its row tells most of its value for: their mutual information (Cover & Thomas,
    eq. 2.28), less its bias (Miller 1955). Beams that fire in turn make rows of several points tell more, as of even
    and odd rings; but those have an x and a y each, in about one direction. Where the part of the file tells far more
    than the place in a row, columns lie one after the other.
    """
    index: Int[np.ndarray, " m"] = _blocks(np.arange(len(values)), BLOCK)
    chosen = values[index]
    finite = np.isfinite(chosen)
    edges = np.unique(np.quantile(chosen[finite], np.linspace(0, 1, BINS + 1)[1:-1]))
    binned = np.where(finite, np.searchsorted(edges, chosen, side="right") + 1, 0)
    told = {count: _information(index % count, binned) for count in COLUMNS}
    most = max(told.values())
    by_part = max(_information(index * count // len(values), binned) for count in COLUMNS)
    if most < max(CLEAR_NATS, 0.5 * by_part):
        return None
    count = min(count for count in told if told[count] >= SAME_SHARE * most)
    rows = values[: len(values) // count * count].reshape(-1, count)
    shorter = (least for least in COLUMNS if least < count and count % least == 0)
    return next((least for least in shorter if _repeats(_blocks(rows, BLOCK // count), least)), count)


def _repeats(rows: np.ndarray, count: int) -> bool:
    """Whether the first two numbers of rows are coordinates that come again so many places later, and again."""
    with np.errstate(all="ignore"):
        pairs = [(rows[:, at], rows[:, at + later]) for at in (0, 1) for later in range(count, rows.shape[1], count)]
        return all(_same_direction(one, other) for one, other in pairs)


def _same_direction(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two coordinates have the same sign in nearly all rows, both signs occur, and their sizes are alike."""
    seen = np.isfinite(one) & np.isfinite(other) & (one != 0) & (other != 0)
    if seen.sum() < LEAST_NUMBERS // 16:
        return False
    one, other = one[seen], other[seen]
    sizes = sorted((float(np.median(np.abs(one))), float(np.median(np.abs(other)))))
    agree = float((np.sign(one) == np.sign(other)).mean())
    both = 0.02 < float((one > 0).mean()) < 0.98 or float(np.corrcoef(one, other)[0, 1]) > EXPLAINED
    return agree > SAME_SIGN and both and sizes[0] > sizes[1] / MAX_SIZE_RATIO and sizes[1] > 1.0


def _information(places: Int[np.ndarray, " m"], binned: Int[np.ndarray, " m"]) -> float:
    """Mutual information of the place of numbers and the bin of their values, in nats."""
    bins = int(binned.max()) + 1
    table = np.bincount(places * bins + binned, minlength=(int(places.max()) + 1) * bins).reshape(-1, bins)
    used = int((table.sum(axis=0) > 0).sum())
    bias = (len(table) - 1) * (used - 1) / (2 * len(places))
    return _entropy(table.sum(axis=0)) + _entropy(table.sum(axis=1)) - _entropy(table.ravel()) - bias


def _entropy(counts: Int[np.ndarray, " n"]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _absurd_coordinates(xyz: Float[np.ndarray, "n 3"]) -> str | None:
    """Why numbers cannot be coordinates of points about a sensor; None if they can."""
    finite = np.isfinite(xyz).all(axis=1)
    if not finite.any():
        return None  # nothing came back: told of the frame, not of the layout
    size = np.abs(xyz[finite])
    if ((size > MAX_COORDINATE_M) | ((size > 0) & (size < ABSURD[0]))).any(axis=1).mean() > 0.03:
        return f"they reach {np.percentile(size, 99):.3g}"
    return None


def _no_coordinates(xyz: Float[np.ndarray, "n 3"]) -> str | None:
    """The same, also of what could be coordinates and is hardly: whole numbers, or all in one place."""
    with np.errstate(all="ignore"):
        reason = _absurd_coordinates(xyz.astype(np.float64))
    if reason is not None:
        return reason
    returns = xyz[np.isfinite(xyz).all(axis=1) & (xyz != 0.0).any(axis=1)]
    if len(returns) < LEAST_NUMBERS // 8:
        return None
    low, high = np.percentile(returns, (5, 95), axis=0)
    if min(high[:2] - low[:2]) < MIN_EXTENT_M:
        return f"x and y extend over {high[0] - low[0]:.2g} and {high[1] - low[1]:.2g}"
    whole = (returns == np.round(returns)).mean(axis=0) > 0.99
    if whole[:2].any() and not whole[:2].all():
        return "one of them holds whole numbers"
    return None


def _kind(values: Float[np.ndarray, " n"], xyz: Float[np.ndarray, "n 3"]) -> str | None:
    """What a further column is: intensity, ring, time, tags, zeros, signed (a coordinate, too?) or None."""
    finite = np.isfinite(values)
    values, xyz = values[finite], xyz[finite]
    if len(values) == 0 or values.min() == values.max():
        return None if values[:1].any() else "zeros"
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).mean() > 0.999)
    ordered = bool((np.diff(values) >= 0).mean() > 0.99)
    if whole and low >= 0 and high <= MAX_RING and _is_ring(values, xyz, ordered):
        return "ring"
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    if _fits_a_turn(high - low) and (ordered or _explained(values - low, azimuth) > EXPLAINED):
        return "time"
    if (values < 0).mean() > 0.001:
        return "signed" if np.percentile(np.abs(values), 95) > LONGEST_NORMAL else None
    distance_m = np.linalg.norm(xyz, axis=1)
    if np.percentile(np.abs(values - distance_m), 90) < 0.01 * np.median(distance_m):
        return None
    # a few whole numbers count returns
    return "tags" if whole and len(np.unique(values)) <= MAX_TAGS else "intensity"


def _is_ring(values: Float[np.ndarray, " n"], xyz: Float[np.ndarray, "n 3"], ordered: bool) -> bool:
    """Whether whole numbers count beams: each looks at one elevation, or they come in order, or round and round."""
    numbers, count = np.unique(values, return_counts=True)
    if len(numbers) < 2 or len(numbers) < 0.8 * (values.max() - values.min() + 1):
        return False
    even = count.max() < 20 * np.median(count)
    round_and_round = bool((np.diff(values) == 1).mean() > 0.8)
    groups = np.searchsorted(numbers, values)
    elevation = np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))
    mean = np.bincount(groups, elevation) / count
    explained = float(np.var(mean[groups]) / max(np.var(elevation), 1e-12))
    return bool(even and (ordered or round_and_round or explained > EXPLAINED))


def _fits_a_turn(span: float) -> bool:
    return any(SHORTEST_TURN_S <= span * unit_s <= LONGEST_TURN_S for unit_s in TIME_UNITS_S)


def _explained(values: Float[np.ndarray, " n"], azimuth: Float[np.ndarray, " n"]) -> float:
    """Share of the variance that the direction of a point explains: of a turning LiDAR's time, nearly all."""
    sector = ((azimuth + np.pi) * (72 / (2 * np.pi))).astype(int).clip(0, 71)
    count = np.maximum(np.bincount(sector, minlength=72), 1)
    mean = np.bincount(sector, values, minlength=72) / count
    return float(np.var(mean[sector]) / max(np.var(values), 1e-300))


def _read_labels(path: Path, count: int) -> UInt32[np.ndarray, " n"] | None:
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size != LABEL_BYTES * count:
        raise DataError(f"{path}: expected {LABEL_BYTES * count} bytes (uint32 a point of the scan), got {size}")
    labels: np.ndarray = np.fromfile(path, dtype="<u4").astype(np.uint32, copy=False) & np.uint32(0xFFFF)
    return labels


def find_array_columns(files: Sequence[Path], names: Sequence[str], summary: InputSummary) -> tuple[str, ...]:
    """What the columns of the arrays of a drive hold; nothing for arrays whose fields have names.

    Args:
        files: all of them; three are looked into.
        names: what the user says of the columns, as of `columns_from_names`; empty: nothing.
        summary: is told what was found.

    Raises:
        DataError: if it is in doubt.
    """
    if names:
        summary.add("used", "columns", f"as they were named: {', '.join(names)}")
        return tuple(name for name, _ in columns_from_names(names))
    found: list[tuple[str, ...]] = []
    doubts: list[DataError] = []
    for file in [files[at] for at in sorted({0, len(files) // 2, len(files) - 1})]:
        try:
            array = _read_array(file)
            if array.dtype.names is None:
                table = _points_in_rows(array, file)
                found.append(tuple(_told_names(table, file)))
        except DataError as error:
            doubts.append(error)
    if not found:
        return ()  # of records; or each file is told of by itself
    columns = max(found, key=found.count)
    if 2 * found.count(columns) <= len(found) + len(doubts):
        if doubts:
            raise doubts[0]
        shown = " or ".join(", ".join(_shown(one)) for one in dict.fromkeys(found))
        raise DataError(f"{files[0].parent}: columns differ from file to file ({shown}): {HINT}")
    if columns not in (USUAL, USUAL[:3]):
        summary.add("assumed", "columns", f"as the numbers tell: {', '.join(_shown(columns))}")
    return columns


def read_array_cloud(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """The points of an array: floats of shape (N, k) or (k, N), also of an image of points, or records.

    Args:
        path: of the file.
        columns: what its columns hold; empty: x, y, z, intensity, and others that are not used.

    Raises:
        DataError: if it is no such array, or has another number of columns.
    """
    array = _read_array(path)
    if array.dtype.names is not None:
        fields: dict[str, np.ndarray] = {}
        for name in array.dtype.names:
            values = np.array(array[name])
            if values.ndim == array.ndim + 1 and values.shape[-1] == 3 and name.lower() in ("xyz", "position", "point"):
                fields |= {axis: values[..., at].ravel() for at, axis in enumerate("xyz")}
            elif values.ndim == array.ndim:
                fields[name] = values.ravel()
        return cloud_from_fields(fields, None, str(path))
    table = _points_in_rows(array, path)
    names = columns or _usual(table.shape[1])
    if len(names) != table.shape[1]:
        raise DataError(f"{path}: {table.shape[1]} columns, expected {', '.join(_shown(names))}")
    return named_cloud({name: np.array(table[:, at]) for at, name in enumerate(names)}, str(path))


def _usual(count: int) -> tuple[str, ...]:
    return (*USUAL[:count], *(f"_{at}" for at in range(len(USUAL), count)))


def _shown(names: Sequence[str]) -> list[str]:
    return ["_" if name.startswith("_") else name for name in names]


def _told_names(table: Float[np.ndarray, "n k"], path: Path) -> Sequence[str]:
    count = table.shape[1]
    return _usual(count) if count == 3 or len(table) < LEAST_POINTS else name_columns(table, str(path))


def _read_array(path: Path) -> np.ndarray:
    """The array of a file, which stays on disk."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:  # numpy would try archives and pickles
            raise DataError(f"{path}: not an .npy array, it does not begin with \\x93NUMPY")
    try:
        # mapped: a header that lies about its size is found out before memory is asked for
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        told = (str(error).splitlines() or ["damaged"])[0][:80]
        raise DataError(f"{path}: cannot be read as an array ({told})") from error
    if not isinstance(array, np.ndarray) or array.size > 16 * MAX_POINTS:
        raise DataError(f"{path}: expected one array of points")
    if array.size == 0:
        raise DataError(f"{path}: no points")
    return array


def _points_in_rows(array: np.ndarray, path: Path) -> Float[np.ndarray, "n k"]:
    """The same with a point in each row, whichever way it was written.

    Raises:
        DataError: if neither the last nor the first axis can be that of the columns.
    """
    shape = array.shape
    if array.dtype.kind == "f" and array.ndim in (2, 3):
        if shape[-1] in COLUMNS:
            return array.reshape(-1, shape[-1])
        if shape[0] in COLUMNS:
            return np.moveaxis(array, 0, -1).reshape(-1, shape[0])
    raise DataError(f"{path}: expected floats of shape (N, 3), (N, 4) or (4, N), got {array.dtype} of {shape}")
