"""Scans in files of their own: the type is known by the suffix, and what it leaves open is decided for all together."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from bevfusion.datasets.bare_files import (
    HINT,
    KITTI,
    Layout,
    find_array_columns,
    find_layout,
    layout_in_words,
    read_array_cloud,
    read_bare,
)
from bevfusion.datasets.cloud import Cloud, IntensityScale, intensity_sample
from bevfusion.datasets.las import read_las
from bevfusion.datasets.pcd import read_pcd
from bevfusion.datasets.ply import read_ply
from bevfusion.lidar.packed import SUFFIX as PACKED
from bevfusion.lidar.packed import read_packed_scan
from bevfusion.structures import DataError, Scan
from bevfusion.summary import InputSummary

NUSCENES = ".pcd.bin"
NUSCENES_LAYOUT: Layout = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity", "ring")])
# nuScenes' LIDAR_TOP looks to the right with its x axis: what is ahead lies along y
FORWARD_FROM_NUSCENES = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


class ScanReader:
    """Reads scan files that belong together: what the numbers of .bin and .npy mean is decided for all of them once.

    Args:
        files: those that are there are looked into.
        columns: of .bin and .npy, as of `columns_from_names`; empty: they are found.
        summary: is told what was found.

    Raises:
        DataError: if the columns are in doubt, or were named for files that have names of their own.
    """

    def __init__(self, files: Sequence[Path], columns: Sequence[str] = (), summary: InputSummary | None = None) -> None:
        summary = InputSummary("scans") if summary is None else summary
        there: dict[str, list[Path]] = {}
        for file in files:
            if file.is_file():
                there.setdefault(scan_suffix(file), []).append(file)
        self._readers = dict(CLOUD_READERS)
        for suffix, some in there.items():
            if columns and suffix not in NAMED_BY_USER:
                raise DataError(f"{some[0]}: --columns is for {', '.join(NAMED_BY_USER)}; {suffix} says what it holds")
            if suffix == ".bin":
                self._readers[suffix] = partial(read_bare, layout=find_layout(some, columns, summary))
            elif suffix == NUSCENES:
                layout = nuscenes_layout(some, columns, summary)
                self._readers[suffix] = partial(_read_nuscenes, layout=layout)
            elif suffix == ".npy":
                names = find_array_columns(some, columns, summary)
                self._readers[suffix] = partial(read_array_cloud, columns=names)

    def read(self, path: Path) -> Cloud:
        """The points of a scan file.

        Raises:
            DataError: if the file is missing, of an unknown type, broken, or holds no scan.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such scan file")
        suffix = scan_suffix(path)
        if suffix not in self._readers:
            known = ", ".join(CLOUD_READERS)
            raise DataError(f"{path}: scans of type {suffix or '(none)'} are not read; read are: {known}")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty scan file")
        return self._readers[suffix](path).usable(str(path))


class SingleScans:
    """Scans that somebody names one by one; those of one folder and type are decided on together.

    Args:
        paths: all of them, whether they are there or not.
        columns: as of `ScanReader`.

    Attributes:
        summary: what was found out about them, as far as they were read.
    """

    def __init__(self, paths: Sequence[Path], columns: Sequence[str] = ()) -> None:
        self._paths = paths
        self._columns = columns
        self._readers: dict[tuple[Path, str], tuple[ScanReader, IntensityScale]] = {}
        self.summary = InputSummary("scans")

    def read(self, path: Path) -> Scan:
        """One of the scans.

        Raises:
            DataError: if the file is missing, of an unknown type, broken, or its columns are in doubt.
        """
        group = (path.parent, scan_suffix(path))
        if group not in self._readers:
            alike = [other for other in self._paths if (other.parent, scan_suffix(other)) == group]
            reader = ScanReader(alike or [path], self._columns, self.summary)
            samples = []
            for at in sorted({0, len(alike) // 2, len(alike) - 1}) if alike else ():
                with suppress(DataError):  # told when it is asked for
                    samples.append(intensity_sample(reader.read(alike[at]).intensity))
            scale = IntensityScale.of(samples)
            self._readers[group] = reader, scale
            self.summary.add("used", "intensity", f"{group[1]} in {path.parent}: {scale.describe()}")
        reader, scale = self._readers[group]
        return reader.read(path).scan(scale)


def read_cloud(path: Path) -> Cloud:
    """The points of a scan file that belongs to no other; raises as `ScanReader` does."""
    return ScanReader([path]).read(path)


def scan_suffix(path: Path) -> str:
    """What tells the type of a scan file."""
    return NUSCENES if path.name.lower().endswith(NUSCENES) else path.suffix.lower()


def nuscenes_layout(files: Sequence[Path], columns: Sequence[str], summary: InputSummary) -> Layout:
    """That of nuScenes' sweeps, unless the user names another.

    Raises:
        DataError: if the numbers of some files tell of another.
    """
    if columns:
        return find_layout(files, columns, summary)
    whole = [file for file in files if file.stat().st_size % NUSCENES_LAYOUT.itemsize == 0]
    try:
        found = find_layout(whole, (), InputSummary("sweeps"), NUSCENES_LAYOUT)
    except DataError:  # nothing clear is told: the name of the files is
        return NUSCENES_LAYOUT
    if found.itemsize != NUSCENES_LAYOUT.itemsize:
        expected = layout_in_words(NUSCENES_LAYOUT)
        raise DataError(f"{files[0]}: rows of {layout_in_words(found)}, expected nuScenes' {expected}; {HINT}")
    return NUSCENES_LAYOUT


def _read_nuscenes(path: Path, layout: Layout) -> Cloud:
    return read_bare(path, layout).turned(FORWARD_FROM_NUSCENES)


def _read_packed(path: Path) -> Cloud:
    scan = read_packed_scan(path)
    return Cloud(scan.xyz, scan.intensity)


# what each type needs to know of a file by itself
CLOUD_READERS: dict[str, Callable[[Path], Cloud]] = {
    ".bin": partial(read_bare, layout=KITTI),
    PACKED: _read_packed,  # of our own simulation
    NUSCENES: partial(_read_nuscenes, layout=NUSCENES_LAYOUT),
    ".pcd": read_pcd,
    ".ply": read_ply,
    ".npy": read_array_cloud,
    ".las": read_las,
    ".laz": read_las,
}
NAMED_BY_USER = (".bin", NUSCENES, ".npy")
