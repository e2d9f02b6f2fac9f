"""Small inputs of every kind that people give the package, and what reads each to its end."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from bevfusion.checkpoint import read_checkpoint, save_checkpoint
from bevfusion.config import Config, load_config
from bevfusion.datasets import odometry
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.open import open_drive, read_scan
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.evaluation import result_cache
from bevfusion.evaluation.comparison import compare_runs, read_run
from bevfusion.evaluation.results import DriveResult, ScoredEstimate, write_csv
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.packed import pack_scan, unpack_scan
from bevfusion.maps.source import open_map
from bevfusion.maps.tiled import tile_extract
from bevfusion.structures import DataError, Scan
from tests.datasets.bag_writing import FIX, IMU, Messages, SmallDrive, drive_messages, single_file, write_ros1
from tests.datasets.bag_writing import KINDS as BAGS
from tests.datasets.drive_writing import as_kitti_raw, as_pcd_folder
from tests.datasets.kitti_writing import TR, ahead, scans, square, text
from tests.datasets.scan_writing import records, write_pcd, write_ply
from tests.maps.dialects import document, town
from tests.maps.osm_text import OsmText

SMALL = SmallDrive(frames=3, points=120)
STAMP_NS = 315_966_265_259_836_000  # as Argoverse 2 counts
LOG = "log.bag"  # beside a file of truth; a folder may have such a name, too
MOST_FRAMES = 12  # of a drive whose damaged index lists more


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Args:
        write: makes a whole one in a folder, and gives its path.
        use: reads all of it; raises DataError or ConfigError where that cannot be.
        exact: what is read of a damaged one must be what is read of a whole one, or nothing.
        share: of all mutations, where 1 is usual; less where reading takes long.
        needs: a package without which it is not written or read.
    """

    write: Callable[[Path], Path]
    use: Callable[[Path], object]
    exact: bool = False
    share: float = 1.0
    needs: str = ""


# what reads


def use_drive(path: Path) -> None:
    drive = open_drive(path)
    for position in range(min(len(drive), MOST_FRAMES)):
        try:
            frame = drive[position]
        except DataError:
            continue
        assert np.isfinite(frame.scan.xyz).all()
        for pose in (frame.truth, frame.gnss):
            assert pose is None or math.isfinite(pose.lat_deg + pose.lon_deg + pose.yaw_rad)
    json.dumps(drive.summary.as_dict())


def use_scan(path: Path) -> None:
    scan = read_scan(path)
    assert np.isfinite(scan.xyz).all()
    assert ((scan.intensity >= 0.0) & (scan.intensity <= 1.0)).all()


def use_truth(path: Path) -> None:
    drive = open_drive(path.parent / LOG, LogOptions(truth=path))
    for position in range(min(len(drive), MOST_FRAMES)):
        truth = drive[position].truth
        assert truth is None or math.isfinite(truth.lat_deg + truth.lon_deg + truth.yaw_rad)


def use_map(path: Path) -> None:
    source = open_map(path)
    x0_m, y0_m, x1_m, y1_m = source.bounds_m
    middle = SE2(0.5 * (x0_m + x1_m), 0.5 * (y0_m + y1_m), 0.3)
    source.draw(Grid(64, 64, 0.5), middle)
    json.dumps(source.summary.as_dict())


def use_tiles(path: Path) -> bytes:
    source = open_map(path)
    return source.draw(Grid(64, 64, 0.5), SE2(3.0, 4.0)).tobytes() + repr(source.bounds_m).encode()


def use_checkpoint(path: Path) -> str:
    loaded = read_checkpoint(path)
    return repr([loaded.config, loaded.provenance, {name: value.tolist() for name, value in loaded.weights.items()}])


def use_old_checkpoint(path: Path) -> None:
    read_checkpoint(path)


def use_results(path: Path) -> bytes | None:
    found = result_cache.load(path, 0)
    return None if found is None else result_cache.encode(found)


def use_odometry(path: Path) -> str | None:
    track = odometry._load(path, 3)
    return None if track is None else repr((track.stamps_ns.tolist(), track.xy_m.tolist(), track.yaw_rad.tolist()))


def use_run(path: Path) -> None:
    run = read_run(path)
    compare_runs(run, run, resamples=20)


def use_packed(path: Path) -> None:
    unpack_scan(path.read_bytes(), str(path))


# what writes


def bag(kind: str) -> Callable[[Path], Path]:
    return lambda folder: Path(BAGS[kind](folder, lambda messages: drive_messages(SMALL, messages)))


def bare_sqlite(folder: Path) -> Path:
    return single_file(bag("ros2 sqlite3 zstd")(folder))


def frames() -> list[Any]:
    from bevfusion.geometry.geodesy import GeoPose
    from bevfusion.structures import Frame

    return [
        Frame(
            number,
            SMALL.stamp_ns(number),
            Scan(SMALL.xyzi[number][:, :3], SMALL.xyzi[number][:, 3]),
            truth=GeoPose(*SMALL.place_deg(number), SMALL.yaw_rad),
        )
        for number in range(SMALL.frames)
    ]


def kitti_odometry(folder: Path) -> Path:
    path = folder / "sequences" / "07"
    scans(path / "velodyne")
    (path / "calib.txt").write_text(f"P0: {text(np.eye(4))}\nTr: {text(TR)}\n")
    (path / "times.txt").write_text("".join(f"{0.1 * n:e}\n" for n in range(5)))
    poses = [square(TR) @ ahead(n) @ np.linalg.inv(square(TR)) for n in range(5)]
    (path / "poses.txt").write_text("".join(text(pose) + "\n" for pose in poses))
    return path


def kitti360(folder: Path) -> Path:
    name = "2013_05_28_drive_0000_sync"
    path = folder / "data_3d_raw" / name
    scans(path / "velodyne_points/data", digits=10)
    stamps = "".join(f"2013-05-28 08:46:02.{n}00000000\n" for n in range(5))
    (path / "velodyne_points/timestamps.txt").write_text(stamps)
    (folder / "calibration").mkdir()
    velo_from_camera = np.linalg.inv(square(TR))
    pose_from_velo = np.diag([1.0, -1.0, -1.0, 1.0])
    (folder / "calibration/calib_cam_to_velo.txt").write_text(text(velo_from_camera))
    (folder / "calibration/calib_cam_to_pose.txt").write_text(f"image_00: {text(pose_from_velo @ velo_from_camera)}\n")
    (folder / "data_poses" / name).mkdir(parents=True)
    rows = [f"{number} {text(ahead(number))}\n" for number in range(5)]
    (folder / "data_poses" / name / "poses.txt").write_text("".join(rows))
    return path


def nuscenes(folder: Path) -> Path:
    tables, sweeps = folder / "v1.0-mini", folder / "sweeps/LIDAR_TOP"
    tables.mkdir()
    sweeps.mkdir(parents=True)
    data, poses = [], []
    for number, xyzi in enumerate(SMALL.xyzi):
        np.column_stack([xyzi[:, :3], 255 * xyzi[:, 3], np.zeros(len(xyzi))]).astype("<f4").tofile(
            sweeps / f"{number}.pcd.bin"
        )
        data.append({"token": f"d{number}", "sample_token": "s", "calibrated_sensor_token": "c"})
        data[-1] |= {"ego_pose_token": f"p{number}", "filename": f"sweeps/LIDAR_TOP/{number}.pcd.bin"}
        data[-1] |= {"timestamp": 1_532_402_927_000_000 + number * 50_000}  # type: ignore[dict-item]
        poses.append({"token": f"p{number}", "translation": [300, 500 + number, 0], "rotation": [0.7, 0, 0, 0.7]})
    content: dict[str, Any] = {
        "scene": [{"token": "a", "name": "scene-0061", "log_token": "l"}],
        "log": [{"token": "l", "location": "singapore-onenorth"}],
        "sample": [{"token": "s", "scene_token": "a"}],
        "sensor": [{"token": "t", "channel": "LIDAR_TOP"}],
        "calibrated_sensor": [
            {"token": "c", "sensor_token": "t", "translation": [0.9, 0, 1.8], "rotation": [0.7, 0, 0, -0.7]}
        ],
        "sample_data": data,
        "ego_pose": poses,
    }
    for name, rows in content.items():
        (tables / f"{name}.json").write_text(json.dumps(rows))
    return folder


def argoverse2(folder: Path) -> Path:
    import pyarrow
    from pyarrow import feather

    (folder / "sensors/lidar").mkdir(parents=True)
    (folder / "calibration").mkdir()
    (folder / "map").mkdir()
    (folder / "map/log_map_archive_x____PIT_city_1.json").write_text("{}")
    for number, xyzi in enumerate(SMALL.xyzi):
        columns = {name: xyzi[:, at] for at, name in enumerate("xyz")} | {
            "intensity": (255 * xyzi[:, 3]).astype(np.uint8)
        }
        feather.write_feather(pyarrow.table(columns), folder / f"sensors/lidar/{STAMP_NS + number}.feather")
    pose = {"qx": 0.0, "qy": 0.0, "qz": 0.0, "qw": 1.0, "tx_m": 1.0, "ty_m": 2.0, "tz_m": 1.5}
    mounts = pyarrow.table({"sensor_name": ["up_lidar"]} | {name: [value] for name, value in pose.items()})
    feather.write_feather(mounts, folder / "calibration/egovehicle_SE3_sensor.feather")
    stamps = [STAMP_NS + number for number in range(SMALL.frames)]
    poses = pyarrow.table({"timestamp_ns": stamps} | {name: [value] * len(stamps) for name, value in pose.items()})
    feather.write_feather(poses, folder / "city_SE3_egovehicle.feather")
    return folder


def pcd(storage: str) -> Callable[[Path], Path]:
    return lambda folder: Path(write_pcd(folder / "a.pcd", records(SMALL.xyzi[0]), storage))


def ply(storage: str) -> Callable[[Path], Path]:
    return lambda folder: Path(write_ply(folder / "a.ply", records(SMALL.xyzi[0]), storage))


def numpy_scan(folder: Path) -> Path:
    np.save(folder / "a.npy", SMALL.xyzi[0])
    return folder / "a.npy"


def bare_scan(folder: Path) -> Path:
    SMALL.xyzi[0].astype("<f4").tofile(folder / "a.bin")
    return folder / "a.bin"


def las(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import laspy  # type: ignore[import-untyped]

        made = laspy.LasData(laspy.LasHeader(point_format=1, version="1.2"))
        made.x, made.y, made.z = SMALL.xyzi[0][:, :3].astype(float).T
        made.intensity = (65535 * SMALL.xyzi[0][:, 3]).astype(np.uint16)
        made.gps_time = np.linspace(0.0, 0.1, SMALL.points)
        made.write(folder / name)
        return folder / name

    return write


def packed_scan(folder: Path) -> Path:
    path = folder / "a.packed"
    path.write_bytes(pack_scan(Scan(SMALL.xyzi[0][:, :3], SMALL.xyzi[0][:, 3])))
    return path


def truth_csv(folder: Path) -> Path:
    as_pcd_folder(folder, frames()).rename(folder / LOG)
    rows = ["stamp_ns,lat,lon,yaw_rad"]
    for number in range(SMALL.frames):
        lat, lon = SMALL.place_deg(number)
        rows.append(f"{SMALL.stamp_ns(number)},{lat!r},{lon!r},1.0")
    (folder / "true.csv").write_text("\n".join(rows))
    return folder / "true.csv"


def truth_tum(folder: Path) -> Path:
    """Metres in a frame of their own, beside a log whose GNSS places them."""
    drive = SmallDrive(frames=30, points=20)
    written = [item for item in drive_messages(drive, Messages(ros1=True)) if item[0] != IMU]
    for topic, _, message in written:
        if topic == FIX:
            message.status.status = 0
    write_ros1(folder / "written.bag", written).rename(folder / LOG)
    lines = [f"{drive.stamp_ns(n) / 1e9:.9f} {n} 0 0 0 0 0 1\n" for n in range(drive.frames)]
    (folder / "true.tum").write_text("".join(lines))
    return folder / "true.tum"


def josm(folder: Path) -> Path:
    path = folder / "town.osm"
    path.write_text(document(town("visible='true' action='modify'", sign=-1)))
    return path


def overpass_json(folder: Path) -> Path:
    elements = [
        {"type": "way", "id": 21, "nodes": [1, 2], "tags": {"highway": "residential"}},
        {"type": "node", "id": 1, "lat": 49.0, "lon": 8.4, "tags": {"natural": "tree"}},
        {"type": "node", "id": 2, "lat": 49.0008, "lon": 8.4011},
        {"type": "way", "id": 22, "geometry": [{"lat": 49.0, "lon": 8.4}, {"lat": 49.0005, "lon": 8.4001}],
         "tags": {"barrier": "wall"}},
    ]  # fmt: skip
    (folder / "town.osm.json").write_text(json.dumps({"version": 0.6, "elements": elements}))
    return folder / "town.osm.json"


def pbf(folder: Path) -> Path:
    import osmium

    plain = osm_packed("")(folder)
    with osmium.SimpleWriter(str(folder / "town.osm.pbf")) as writer:
        for element in osmium.FileProcessor(str(plain)):
            writer.add(element)
    plain.unlink()
    return folder / "town.osm.pbf"


def town_text() -> OsmText:
    town = OsmText()
    town.line([(0, 0), (150, 40)], {"highway": "residential", "oneway": "yes"})
    town.box(10, 20, 30, 40, {"building": "yes"})
    town.node(5, 9, {"natural": "tree"})
    return town


def osm_packed(suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import bz2
        import gzip
        import lzma

        from bevfusion.datasets.container import zstd

        packers: dict[str, Callable[[bytes], bytes]] = {
            "": bytes,
            ".gz": gzip.compress,
            ".bz2": bz2.compress,
            ".xz": lzma.compress,
            ".zst": zstd.compress,
        }
        path = folder / f"town.osm{suffix}"
        path.write_bytes(packers[suffix](str(town_text()).encode()))
        return path

    return write


def tiles(folder: Path) -> Path:
    path = osm_packed("")(folder)
    tile_extract(path, folder / "town.tiles")
    return folder / "town.tiles"


def geojson(folder: Path) -> Path:
    line = {"type": "LineString", "coordinates": [[8.4, 49.0], [8.401, 49.0], [8.402, 49.001]]}
    ring = [[[8.4, 49.0005], [8.4003, 49.0005], [8.4003, 49.0008], [8.4, 49.0005]]]
    features = [
        {"type": "Feature", "geometry": line, "properties": {"highway": "residential"}},
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": ring},
            "properties": {"building": "yes"},
        },
    ]
    path = folder / "town.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def picture(folder: Path) -> Path:
    import cv2

    pixels = np.zeros((80, 80), np.uint8)
    pixels[40, :] = 1
    pixels[10:20, 30:50] = 2
    cv2.imwrite(str(folder / "town.png"), pixels)
    (folder / "town.pgw").write_text("0.5\n0.0\n0.0\n-0.5\n456000.25\n5427999.75\n")
    legend = {"crs": "EPSG:25832", "legend": {"1": "road", "2": "building"}}
    (folder / "town.json").write_text(json.dumps(legend))
    return folder / "town.png"


def checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(folder / "m.safetensors", nn.Linear(6, 5), Config(), {"commit": "abc", "seed": "0"})
    return folder / "m.safetensors"


def old_checkpoint(folder: Path) -> Path:
    metadata = {"format": "bevfusion-2", "config": Config().model_dump_json(), "provenance": "{}"}
    save_file({"weight": torch.ones(2)}, folder / "m.safetensors", metadata=metadata)
    return folder / "m.safetensors"


def config(folder: Path) -> Path:
    path = folder / "c.yaml"
    path.write_text(
        "name: mine\nseed: 3\nbev: {range_m: 40.0, slices_m: [0.3, 1.0, 2.0]}\n"
        "model:\n  channels: 32\n  fusion: {attention: cbam, options: {reduction: 4}}\n"
        "train: {steps: 600, learning_rate: 2e-3, validate_every: 200}\n"
        "simulation: {train: ['town:1'], sensors: [vlp16]}\n"
    )
    return path


def estimates() -> list[ScoredEstimate]:
    return [
        ScoredEstimate(
            drive_index=0,
            drive="drive",
            frame_index=n,
            frame=n,
            stamp_ns=SMALL.stamp_ns(n),
            draw=0,
            map_index=0,
            map_name="town",
            prior=SE2(float(n), 0.0),
            truth=SE2(float(n), 0.5),
            estimate=SE2(float(n), 0.4, 0.1),
            covariance=np.diag([1.0, 2.0, 0.1]),
            confidence=0.7,
            runtime_ms=12.0,
            credible_mass=0.5,
            nll=None,
        )
        for n in range(3)
    ]


def results(folder: Path) -> Path:
    result = DriveResult("drive", "none")
    result.estimates = estimates()
    result.done = 3
    result_cache.save(folder / "0-abc.npz", result)
    return folder / "0-abc.npz"


def run(folder: Path) -> Path:
    protocol = {"mode": "single", "offset_m": 20.0, "offset_deg": 10.0, "draws": 1, "seed": 0}
    (folder / "metrics.json").write_text(json.dumps({"protocol": protocol, "lost": {"drive": 0}}))
    write_csv(folder / "predictions.csv", estimates())
    return folder


def odometry_cache(folder: Path) -> Path:
    stamps_ns = np.array([SMALL.stamp_ns(n) for n in range(3)])
    track = PoseTrack(stamps_ns, np.arange(6.0).reshape(3, 2), np.zeros(3))
    odometry._save(folder / "a.npz", track, 3)
    return folder / "a.npz"


KINDS: dict[str, Kind] = {
    **{f"bag, {kind}": Kind(bag(kind), use_drive, share=0.6) for kind in BAGS},
    "bag, bare .db3 of zstd messages": Kind(bare_sqlite, use_drive, share=0.6),
    "KITTI raw": Kind(lambda folder: as_kitti_raw(folder, frames()), use_drive),
    "KITTI odometry": Kind(kitti_odometry, use_drive),
    "KITTI-360": Kind(kitti360, use_drive),
    "nuScenes": Kind(nuscenes, use_drive),
    "Argoverse 2": Kind(argoverse2, use_drive, needs="pyarrow"),
    "folder of PCD": Kind(lambda folder: as_pcd_folder(folder, frames()), use_drive),
    **{f"PCD, {storage}": Kind(pcd(storage), use_scan) for storage in ("ascii", "binary", "binary_compressed")},
    **{f"PLY, {storage}": Kind(ply(storage), use_scan) for storage in ("ascii", "binary_little_endian")},
    "scan .npy": Kind(numpy_scan, use_scan),
    "scan .bin": Kind(bare_scan, use_scan),
    "LAS": Kind(las("a.las"), use_scan, needs="laspy"),
    "LAZ": Kind(las("a.laz"), use_scan, share=0.05, needs="laspy"),
    "packed scan": Kind(packed_scan, use_packed),
    "truth, CSV": Kind(truth_csv, use_truth),
    "truth, TUM": Kind(truth_tum, use_truth, share=0.5),
    "OpenStreetMap, JOSM": Kind(josm, use_map, share=0.5),
    "OpenStreetMap, JSON": Kind(overpass_json, use_map, share=0.5),
    "OpenStreetMap, PBF": Kind(pbf, use_map, share=0.5),
    **{
        f"OpenStreetMap, .osm{suffix}": Kind(osm_packed(suffix), use_map, share=0.5)
        for suffix in ("", ".gz", ".bz2", ".xz", ".zst")
    },
    "tiles": Kind(tiles, use_tiles, exact=True),
    "GeoJSON": Kind(geojson, use_map, share=0.5, needs="pyogrio"),
    "picture": Kind(picture, use_map),
    "checkpoint": Kind(checkpoint, use_checkpoint, exact=True),
    "checkpoint without a digest": Kind(old_checkpoint, use_old_checkpoint),
    "configuration": Kind(config, lambda path: load_config(path)),
    "kept results": Kind(results, use_results, exact=True),
    "kept odometry": Kind(odometry_cache, use_odometry, exact=True),
    "evaluation run": Kind(run, use_run),
}
