"""Scenes of nuScenes, by its JSON tables; no devkit.

ROOT/v1.0-*/{scene,sample,sample_data,ego_pose,calibrated_sensor,sensor,log}.json and the sweeps that they name. The
path to give is ROOT/SCENE (scene-0061: the name need not exist as a folder), or ROOT where there is only one scene.
All sweeps of LIDAR_TOP that are there are read, not only the annotated ones. The ego frame has the vehicle's axes and
lies at the LiDAR. Truth is the pose of the vehicle, on the map by the published origins.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.bare_files import Layout, read_bare
from bevfusion.datasets.cloud import Cloud
from bevfusion.datasets.logged import LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.rigid import rotations, transform, yaws_rad
from bevfusion.datasets.scan_files import nuscenes_layout
from bevfusion.datasets.tracks import GeoTrack
from bevfusion.geometry.geodesy import degrees_from_mercator
from bevfusion.parsing import read_json
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

CHANNEL = "LIDAR_TOP"
MAX_TABLE_BYTES = 1 << 32
# latitude and longitude of the maps' south-western corners, from which the poses count
ORIGINS_DEG = {
    "boston-seaport": (42.336849169438615, -71.05785369873047),
    "singapore-onenorth": (1.2882100868743724, 103.78475189208984),
    "singapore-hollandvillage": (1.2993652317780957, 103.78217697143555),
    "singapore-queenstown": (1.2782562240223188, 103.76741409301758),
}


class NuscenesSweeps:
    """Sweep files with their stamps, turned into the vehicle's axes."""

    def __init__(
        self, files: list[Path], stamps_ns: list[int], ego_from_lidar: Float[np.ndarray, "3 3"], layout: Layout
    ) -> None:
        self._files = files
        self._stamps_ns = stamps_ns
        self._turn = ego_from_lidar
        self._layout = layout

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a sweep.

        Raises:
            DataError: if it is broken.
        """
        file = self._files[position]
        cloud = read_bare(file, self._layout).usable(str(file))
        return self._stamps_ns[position], cloud.turned(self._turn)


def is_nuscenes(path: Path) -> bool:
    """Whether a path is a root of nuScenes, or names a scene in one."""
    return _tables(path) is not None or (path.name.startswith("scene-") and _tables(path.parent) is not None)


def open_nuscenes(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a scene.

    Raises:
        DataError: if no scene or several are meant, or a table is missing or malformed.
    """
    root = path if _tables(path) is not None else path.parent
    tables = _tables(root)
    if tables is None:
        raise DataError(f"{path}: no folder v1.0-* with sample_data.json")
    try:
        return _open(root, tables, None if root == path else path.name, options)
    except DataError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(f"{tables}: its tables are damaged ({type(error).__name__}: {str(error)[:60]})") from error


def _open(root: Path, tables: Path, name: str | None, options: LogOptions | None) -> LoggedDrive:
    scene = _scene(root, _table(tables, "scene"), name)
    location = {row["token"]: row["location"] for row in _table(tables, "log")}[scene["log_token"]]
    samples = {row["token"] for row in _table(tables, "sample") if row["scene_token"] == scene["token"]}
    channels = {row["token"]: row["channel"] for row in _table(tables, "sensor")}
    mounts = {
        row["token"]: row for row in _table(tables, "calibrated_sensor") if channels[row["sensor_token"]] == CHANNEL
    }
    sweeps = [
        row
        for row in _table(tables, "sample_data")
        if row["sample_token"] in samples and row["calibrated_sensor_token"] in mounts
    ]
    listed = len(sweeps)
    sweeps = sorted((row for row in sweeps if _file(root, row).is_file()), key=lambda row: int(row["timestamp"]))
    if not sweeps:
        raise DataError(f"{root}: no sweep of {CHANNEL} of {scene['name']} is there")
    mount = mounts[sweeps[0]["calibrated_sensor_token"]]
    ego_from_lidar = transform([float(value) for value in mount["translation"]], _xyzw(mount["rotation"]))
    stamps_ns = [int(row["timestamp"]) * 1000 for row in sweeps]
    wanted = {row["ego_pose_token"] for row in sweeps}
    poses = {row["token"]: row for row in _table(tables, "ego_pose") if row["token"] in wanted}
    truth = None
    if location in ORIGINS_DEG:
        map_from_ego = rotations(np.array([_xyzw(poses[row["ego_pose_token"]]["rotation"]) for row in sweeps], float))
        places_m = np.array([poses[row["ego_pose_token"]]["translation"] for row in sweeps], dtype=np.float64)
        places_m = places_m + map_from_ego @ ego_from_lidar[:3, 3]
        places_deg = degrees_from_mercator(places_m[:, :2], *ORIGINS_DEG[location])
        truth = GeoTrack.from_degrees(np.array(stamps_ns, dtype=np.int64), places_deg, yaws_rad(map_from_ego))
    files = [_file(root, row) for row in sweeps]
    name = str(scene["name"])
    summary = InputSummary(name)
    summary.add("used", "scans", f"sweeps of {CHANNEL}, {len(sweeps)} of {listed} are there", count=len(sweeps))
    if truth is None:
        summary.add("lost", "truth", f"the origin of {location[:40]} is not known")
    layout = nuscenes_layout(files, () if options is None else options.columns, summary)
    clouds = NuscenesSweeps(files, stamps_ns, ego_from_lidar[:3, :3], layout)
    tracks = Tracks(truth=truth)
    in_order_ns = np.array(stamps_ns, dtype=np.int64)
    return LoggedDrive(name, clouds, tracks, options, summary=summary, stamps_ns=in_order_ns)


def _scene(root: Path, scenes: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    found = [row for row in scenes if name in (None, row["name"])]
    if len(found) != 1:
        names = ", ".join(sorted(row["name"] for row in scenes)[:10])
        what = "no scene" if name is not None else f"{len(scenes)} scenes, name one, as in {root}/scene-0061"
        raise DataError(f"{root}: {what} {name or ''}; there are {names}{' ...' if len(scenes) > 10 else ''}")
    return found[0]


def _tables(root: Path) -> Path | None:
    found = sorted(file.parent for file in root.glob("v1.0-*/sample_data.json")) if root.is_dir() else []
    return found[0] if found else None


def _table(folder: Path, name: str) -> list[dict[str, Any]]:
    file = folder / f"{name}.json"
    if not file.is_file():
        raise DataError(f"{file}: no such table")
    rows = read_json(file, MAX_TABLE_BYTES)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file}: expected a list of rows")
    return rows


def _file(root: Path, row: dict[str, Any]) -> Path:
    """A sweep's file; a name that leads out of the root is refused."""
    name = PurePosixPath(str(row["filename"]))
    if name.is_absolute() or ".." in name.parts:  # a folder of sweeps may be a link to another disk
        raise DataError(f"{root}: {str(name)[:60]!r} lies outside")
    return root / name


def _xyzw(wxyz: list[Any]) -> list[float]:
    w, x, y, z = (float(value) for value in wxyz)
    return [x, y, z, w]
