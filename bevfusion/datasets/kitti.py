"""KITTI drives in their three forms: raw (and our own simulation), sequences of the odometry benchmark, KITTI-360.

KITTI raw, with SemanticKITTI labels where they are there:

* DRIVE/velodyne_points/data/0000000000.bin: float32 x, y, z, reflectance, LiDAR frame; or, of our own simulation,
  0000000000.scan: packed, labels and all (`lidar/packed.py`)
* DRIVE/velodyne_points/timestamps.txt: one line a frame number
* DRIVE/oxts/data/0000000000.txt: 30 numbers: lat, lon, alt, roll, pitch, yaw, ...
* DRIVE/oxts/timestamps.txt
* DRIVE/labels/0000000000.label: uint32 a point, low 16 bits the class (optional)
* calib_imu_to_velo.txt: in DRIVE or up to three folders above it

The KITTI odometry benchmark, with SemanticKITTI labels where they are there:

* SEQUENCE/velodyne/000000.bin and SEQUENCE/labels/000000.label, as in KITTI raw
* SEQUENCE/times.txt: seconds, one line a scan
* SEQUENCE/calib.txt: among others `Tr:` (3 x 4), from the LiDAR to the first camera
* SEQUENCE/poses.txt or ../../poses/SEQUENCE.txt (3 x 4 a line): the first camera's pose, in that of its first frame;
  they are truth, but of no place on the globe, so they serve as odometry, named "truth"
* a GPS/IMU side file, for the truth: SEQUENCE/oxts.txt (a packet of KITTI raw a line) or SEQUENCE/oxts/data/*.txt, and
  calib_imu_to_velo.txt there or above it

KITTI-360:

* ROOT/data_3d_raw/DRIVE (the path to give): velodyne_points/data/0000000000.bin, velodyne_points/timestamps.txt
* ROOT/data_poses/DRIVE/poses.txt: frame number and 3 x 4 pose of the GPS/IMU, in Mercator metres about a lake
* ROOT/calibration/calib_cam_to_velo.txt, calib_cam_to_pose.txt
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.bare_files import KITTI, Layout, find_layout, read_bare
from bevfusion.datasets.cloud import AS_IT_IS, Cloud, IntensityScale
from bevfusion.datasets.drive import readable_frames
from bevfusion.datasets.logged import SAMPLED_SCANS, LoggedDrive, LogOptions, Tracks
from bevfusion.datasets.plausibility import ScanFacts, check_motion, check_scans, check_stamps, facts_of
from bevfusion.datasets.rigid import inverse, yaws_rad
from bevfusion.datasets.side_files import folders_above, name_of, read_lines, ways_to
from bevfusion.datasets.stamps import stamps_by_line
from bevfusion.datasets.tracks import GeoTrack, PoseTrack
from bevfusion.geometry.geodesy import GeoPose, LocalFrame, degrees_from_mercator
from bevfusion.geometry.se2 import SE2
from bevfusion.lidar.packed import SUFFIX, read_packed_scan
from bevfusion.structures import DataError, Frame, Scan
from bevfusion.summary import InputSummary

CALIBRATION = "calib_imu_to_velo.txt"
PARENTS_SEARCHED = 3
OXTS_POSE_VALUES = 6  # lat, lon, alt, roll, pitch, yaw lead the packet; the rest is not used
PERIOD_NS = 100_000_000
CALIBRATION_360 = "calibration/calib_cam_to_velo.txt"
ORIGIN_DEG = (48.9843445, 8.4295857)  # of the poses, by the data set's own scripts


class KittiRawDrive:
    """A KITTI raw drive; only frames with a scan file count, and scans are read when asked for.

    Args:
        path: the drive's folder, e.g. .../2011_09_26/2011_09_26_drive_0005_sync.
        odometry: "none", or "truth" to derive `Frame.odom_from_ego` from GPS/IMU (the LiDAR's pose in the first frame).
        columns: of the scans, as of `bare_files.columns_from_names`; empty: they are found.

    Raises:
        DataError: if a folder, the calibration or every timestamp is missing, or one of the small files is malformed.
    """

    def __init__(self, path: Path, odometry: Literal["none", "truth"] = "none", columns: Sequence[str] = ()) -> None:
        if odometry not in ("none", "truth"):
            raise ValueError(f"odometry of a KITTI drive is none or truth, got {odometry!r}")
        self._path = path
        self._odometry = odometry
        self._summary = InputSummary(name_of(path))
        self._checked = False
        scans = _existing_folder(path, "velodyne_points/data")
        self._scans = _numbered_files(scans, ".bin") or _numbered_files(scans, SUFFIX)
        if not self._scans:
            raise DataError(f"no scans named like 0000000000.bin in {path / 'velodyne_points/data'}")
        self._oxts = _numbered_files(_existing_folder(path, "oxts/data"), ".txt")
        self._numbers = sorted(self._scans)
        self._velo_from_imu = read_calibration(find_calibration(path))
        self._stamps_ns = self._read_stamps()
        files = [self._scans[number] for number in self._numbers]
        self._packed = files[0].suffix == SUFFIX
        self._layout = KITTI if self._packed else find_layout(files, columns, self._summary)

    @property
    def name(self) -> str:
        """Name of the drive's folder."""
        return name_of(self._path)

    @property
    def odometry(self) -> str:
        """Where `Frame.odom_from_ego` comes from: none or truth."""
        return self._odometry

    @property
    def summary(self) -> InputSummary:
        """What the drive is made of; when first asked for, it is looked at as a whole."""
        if not self._checked:
            self._checked = True
            self._check()
        return self._summary

    def __len__(self) -> int:
        """Number of frames that have a scan file."""
        return len(self._numbers)

    def __getitem__(self, position: int) -> Frame:
        """The frame at a position in 0 .. len - 1; `Frame.index` is KITTI's own frame number.

        Raises:
            IndexError: past the end.
            DataError: if the scan, its labels or its GPS/IMU packet cannot be used.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"frame {position} of {len(self)} in {self._path}")
        number = self._numbers[position]
        scan = self._scan(self._scans[number])
        truth = self._truth(number)
        return Frame(
            index=number,
            stamp_ns=self._stamps_ns[number],
            scan=scan,
            odom_from_ego=self._odom_from_ego(truth),
            truth=truth,
        )

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order of time that can be read."""
        return readable_frames(self)

    def truths(self) -> dict[int, GeoPose]:
        """Poses of the LiDAR by frame number, also of frames without a scan; packets that are broken are left out."""
        found: dict[int, GeoPose] = {}
        for number in sorted(self._oxts):
            with suppress(DataError):
                found[number] = lidar_pose(read_oxts(self._oxts[number]), self._velo_from_imu)
        return found

    def _scan(self, path: Path) -> Scan:
        return read_packed_scan(path) if self._packed else self._cloud(path).scan(self._intensity_scale)

    def _cloud(self, path: Path) -> Cloud:
        return read_bare(path, self._layout, self._path / "labels").usable(str(path))

    @cached_property
    def _sampled(self) -> list[ScanFacts]:
        """What a few scans of the whole drive tell; one that is broken is told of when it is asked for."""
        facts = []
        for at in np.unique(np.linspace(0, len(self) - 1, SAMPLED_SCANS).astype(int)):
            with suppress(DataError):
                facts.append(facts_of(self._cloud(self._scans[self._numbers[at]])))
        return facts

    @cached_property
    def _intensity_scale(self) -> IntensityScale:
        """How intensities become 0 to 1."""
        return AS_IT_IS if self._packed else IntensityScale.of([facts.intensity for facts in self._sampled])

    def _check(self) -> None:
        """Look at the drive as a whole."""
        check_stamps(np.array([self._stamps_ns[number] for number in self._numbers], dtype=np.int64), self._summary)
        if not self._packed:
            check_scans(self._sampled, self._summary)
            self._summary.add("used", "intensity", self._intensity_scale.describe())
        known = sum(number in self._oxts for number in self._numbers)
        told = f"{known} of {len(self)} frames, by GPS/IMU packets"
        self._summary.add("used", "truth", told, count=known, total=len(self))
        moments, poses = [], []
        for number in self._numbers:
            with suppress(DataError):  # told when the frame is asked for
                pose = self._truth(number)
                if pose is not None:
                    moments.append(self._stamps_ns[number])
                    poses.append((pose.lat_deg, pose.lon_deg, pose.yaw_rad))
        if len(poses) > 1:
            table, stamps_ns = np.array(poses), np.array(moments, dtype=np.int64)
            check_motion("truth", GeoTrack.from_degrees(stamps_ns, table[:, :2], table[:, 2]).track, self._summary)

    def _truth(self, number: int) -> GeoPose | None:
        """Pose of the LiDAR, or None for a scan without a GPS/IMU packet."""
        if number not in self._oxts:
            return None
        return lidar_pose(read_oxts(self._oxts[number]), self._velo_from_imu)

    def _odom_from_ego(self, truth: GeoPose | None) -> SE2 | None:
        if self._odometry == "none" or truth is None or self._odom_origin is None:
            return None
        frame, odom_from_map = self._odom_origin
        return odom_from_map @ frame.map_from_ego(truth)

    @cached_property
    def _odom_origin(self) -> tuple[LocalFrame, SE2] | None:
        """Metres about the first pose of the drive, and the transform that makes that pose the origin."""
        known = [number for number in self._numbers if number in self._oxts]
        first = self._truth(known[0]) if known else None
        if first is None:
            return None
        frame = LocalFrame(first.lat_deg, first.lon_deg)
        return frame, frame.map_from_ego(first).inverse()

    def _read_stamps(self) -> dict[int, int]:
        """Stamp of every frame with a scan, in ns: the scanner's, or that of the GPS/IMU packet where it has none."""
        files = [self._path / folder / "timestamps.txt" for folder in ("velodyne_points", "oxts")]
        # KITTI leaves the line of a missing scan empty
        scanner, packets = (stamps_by_line(file, self._summary) if file.is_file() else {} for file in files)
        missing = [number for number in self._numbers if number not in scanner and number not in packets]
        if missing:
            raise DataError(f"no timestamp of frame {missing[0]} in {files[0]} or {files[1]}")
        return {number: scanner.get(number, packets.get(number, 0)) for number in self._numbers}


def is_kitti_raw(path: Path) -> bool:
    """Whether a path looks like the folder of a KITTI raw drive."""
    return (path / "velodyne_points").is_dir() or (path / "oxts").is_dir()


def read_oxts(path: Path) -> Float[np.ndarray, " n"]:
    """The numbers of one GPS/IMU packet: lat, lon (degrees), alt (m), roll, pitch, yaw (radians), and more.

    Raises:
        DataError: if the file does not begin with a pose.
    """
    return oxts_values(" ".join(read_lines(path)), str(path))


def oxts_values(text: str, source: str) -> Float[np.ndarray, " n"]:
    """The same of a packet as text; `source` is what the message of an error names.

    Raises:
        DataError: if it does not begin with a pose.
    """
    words = text.split()
    try:
        values = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{source}: expected numbers, {error}") from error
    if len(values) < OXTS_POSE_VALUES:
        raise DataError(f"{source}: expected 30 numbers beginning with lat lon alt roll pitch yaw, got {len(values)}")
    pose = values[:OXTS_POSE_VALUES]
    if not np.isfinite(pose).all() or abs(pose[0]) > 90.0 or abs(pose[1]) > 180.0:
        raise DataError(f"{source}: no place on the globe: lat {pose[0]}, lon {pose[1]}, yaw {pose[5]}")
    return values


def read_calibration(path: Path) -> Float[np.ndarray, "4 4"]:
    """`velo_from_imu` of a calib_imu_to_velo.txt: its lines R (nine numbers, by rows) and T (three, metres).

    Raises:
        DataError: if R or T is missing or malformed, or R is no rotation.
    """
    fields = dict(line.split(":", 1) for line in read_lines(path) if ":" in line)
    try:
        rotation = np.array([float(word) for word in fields["R"].split()]).reshape(3, 3)
        shift_m = np.array([float(word) for word in fields["T"].split()]).reshape(3)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: expected a line 'R:' of 9 numbers and a line 'T:' of 3") from error
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or not np.isfinite(shift_m).all():
        raise DataError(f"{path}: R is not a rotation, or T is not finite")
    velo_from_imu = np.eye(4)
    velo_from_imu[:3, :3] = rotation
    velo_from_imu[:3, 3] = shift_m
    return velo_from_imu


def lidar_pose(oxts: Float[np.ndarray, " n"], velo_from_imu: Float[np.ndarray, "4 4"]) -> GeoPose:
    """Place of the LiDAR and heading of its x axis, by the lever arm from the GPS/IMU's pose.

    Args:
        oxts: a packet as `read_oxts` returns it.
        velo_from_imu: the calibration.
    """
    lat_deg, lon_deg, _, roll_rad, pitch_rad, yaw_rad = (float(value) for value in oxts[:OXTS_POSE_VALUES])
    enu_from_imu = _rotation(roll_rad, pitch_rad, yaw_rad)
    imu_from_velo = velo_from_imu[:3, :3].T
    arm_m = enu_from_imu @ (-imu_from_velo @ velo_from_imu[:3, 3])
    forward = enu_from_imu @ imu_from_velo[:, 0]
    heading_rad = math.atan2(forward[1], forward[0])
    return LocalFrame(lat_deg, lon_deg).geo_pose(SE2(float(arm_m[0]), float(arm_m[1]), heading_rad))


def _rotation(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Float[np.ndarray, "3 3"]:
    """`enu_from_imu` of KITTI's angles: Rz(yaw) Ry(pitch) Rx(roll)."""
    cr, sr = math.cos(roll_rad), math.sin(roll_rad)
    cp, sp = math.cos(pitch_rad), math.sin(pitch_rad)
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    rotation: np.ndarray = about_z @ about_y @ about_x
    return rotation


def _existing_folder(drive: Path, folder: str) -> Path:
    if not drive.is_dir():
        raise DataError(f"{drive}: no such folder")
    if not (drive / folder).is_dir():
        raise DataError(f"{drive}: a KITTI raw drive has a folder {folder}, this one does not")
    return drive / folder


def _numbered_files(folder: Path, suffix: str) -> dict[int, Path]:
    """Files whose name is a frame number, by number."""
    pattern = re.compile(r"[0-9]{1,18}" + re.escape(suffix))
    return {int(path.stem): path for path in folder.iterdir() if pattern.fullmatch(path.name)}


def find_calibration(drive: Path) -> Path:
    """The file in a drive's folder, or up to three folders above it.

    Raises:
        DataError: if there is none.
    """
    folders = [drive, *folders_above(drive, PARENTS_SEARCHED)]
    for folder in folders:
        if (folder / CALIBRATION).is_file():
            return folder / CALIBRATION
    raise DataError(f"{CALIBRATION} not found, sought in {', '.join(str(folder) for folder in folders)}")


class KittiScans:
    """Scan files of KITTI by frame number, with the labels that lie beside them."""

    def __init__(self, files: dict[int, Path], labels: Path | None, stamps_ns: dict[int, int], layout: Layout) -> None:
        self.numbers = sorted(files)
        self._files = files
        self._labels = labels
        self._layout = layout
        self._stamps_ns = stamps_ns
        self.stamps_ns: Int[np.ndarray, " n"] = np.array([stamps_ns[number] for number in self.numbers], np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, position: int) -> tuple[int, Cloud]:
        """Stamp and points of a scan.

        Raises:
            DataError: if it or its labels are broken.
        """
        number = self.numbers[position]
        file = self._files[number]
        return self._stamps_ns[number], read_bare(file, self._layout, self._labels).usable(str(file))


def is_kitti_odometry(path: Path) -> bool:
    """Whether a path looks like the folder of a sequence."""
    return (path / "velodyne").is_dir() and (path / "calib.txt").is_file()


def open_kitti_odometry(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a sequence.

    Raises:
        DataError: if there are no scans, or times, calibration or poses are malformed or too few.
    """
    files = numbered_scans(path / "velodyne")
    name = name_of(path)
    summary = InputSummary(name)
    stamps_ns = _stamps_ns(path / "times.txt", files, summary)
    layout = find_layout(in_order(files), options.columns if options else (), summary)
    scans = KittiScans(files, path / "labels", stamps_ns, layout)
    tracks = Tracks(truth=_sequence_truth(path, stamps_ns), odometry=_sequence_odometry(path, stamps_ns))
    return LoggedDrive(name, scans, tracks, options, odometry="truth", summary=summary, stamps_ns=scans.stamps_ns)


def numbered_scans(folder: Path) -> dict[int, Path]:
    """The .bin files of a folder by the number that is their name.

    Raises:
        DataError: if there is none.
    """
    files = {int(file.stem): file for file in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}\.bin", file.name)}
    if not files:
        raise DataError(f"no scans named like 000000.bin in {folder}")
    return files


def in_order(files: dict[int, Path]) -> list[Path]:
    """The files by ascending number."""
    return [files[number] for number in sorted(files)]


def matrices(lines: list[str], path: Path) -> Float[np.ndarray, "n 4 4"]:
    """Poses of 12 numbers (3 x 4, by rows) a line.

    Raises:
        DataError: if a line is not that.
    """
    poses = np.tile(np.eye(4), (len(lines), 1, 1))
    for at, line in enumerate(lines):
        try:
            values = np.array([float(word) for word in line.split()])
        except ValueError:
            values = np.zeros(0)
        if len(values) != 12 or not np.isfinite(values).all():
            raise DataError(f"{path}: line {at + 1} is not a pose of 12 numbers: {line[:60]!r}")
        poses[at, :3] = values.reshape(3, 4)
    return poses


def _stamps_ns(path: Path, files: dict[int, Path], summary: InputSummary) -> dict[int, int]:
    if not path.is_file():
        summary.add("assumed", "stamps", f"ten scans a second, there is no {path.name}")
        return {number: number * PERIOD_NS for number in files}
    known = stamps_by_line(path, summary)
    missing = [number for number in sorted(files) if number not in known]
    if missing:
        raise DataError(f"{path}: expected a time for each of {max(files) + 1} frames, got none for {missing[0]}")
    return {number: known[number] for number in files}


def _sequence_odometry(path: Path, stamps_ns: dict[int, int]) -> PoseTrack | None:
    """The LiDAR's poses in its first frame, by the camera's."""
    beside = [way.parents[1] / "poses" / f"{way.name}.txt" for way in ways_to(path) if len(way.parents) > 1]
    found = [file for file in (path / "poses.txt", *beside) if file.is_file()]
    if not found:
        return None
    start_from_camera = matrices([line for line in read_lines(found[0]) if line.strip()], found[0])
    entries = dict(line.split(":", 1) for line in read_lines(path / "calib.txt") if ":" in line)
    if "Tr" not in entries:
        raise DataError(f"{path / 'calib.txt'}: expected a line 'Tr:' of 12 numbers, LiDAR to camera")
    camera_from_lidar = matrices([entries["Tr"]], path / "calib.txt")[0]
    start_from_lidar = inverse(camera_from_lidar) @ start_from_camera @ camera_from_lidar
    numbers = [number for number in sorted(stamps_ns) if number < len(start_from_lidar)]
    if not numbers:
        return None
    poses = start_from_lidar[numbers]
    stamps = np.array([stamps_ns[number] for number in numbers], dtype=np.int64)
    return PoseTrack.sorted(stamps, poses[:, :2, 3], yaws_rad(poses[:, :3, :3]))


def _sequence_truth(path: Path, stamps_ns: dict[int, int]) -> GeoTrack | None:
    """The LiDAR's places by the GPS/IMU side file, if there is one."""
    if (path / "oxts.txt").is_file():
        lines = [line for line in read_lines(path / "oxts.txt") if line.strip()]
        packets = {
            number: oxts_values(lines[number], f"{path / 'oxts.txt'}: line {number + 1}")
            for number in sorted(stamps_ns)
            if number < len(lines)
        }
    else:
        files = {int(file.stem): file for file in (path / "oxts/data").glob("*.txt") if file.stem.isdecimal()}
        packets = {number: read_oxts(files[number]) for number in sorted(stamps_ns) if number in files}
    if not packets:
        return None
    velo_from_imu = read_calibration(find_calibration(path))
    poses = [lidar_pose(packet, velo_from_imu) for packet in packets.values()]
    return GeoTrack.from_degrees(
        np.array([stamps_ns[number] for number in packets], dtype=np.int64),
        np.array([(pose.lat_deg, pose.lon_deg) for pose in poses]),
        np.array([pose.yaw_rad for pose in poses]),
    )


def is_kitti360(path: Path) -> bool:
    """Whether a path looks like a drive in data_3d_raw."""
    return (path / "velodyne_points").is_dir() and (_root(path) / CALIBRATION_360).is_file()


def open_kitti360(path: Path, options: LogOptions | None = None) -> LoggedDrive:
    """The drive of a folder in data_3d_raw; without data_poses it has no truth.

    Raises:
        DataError: if scans or stamps are missing, or calibration or poses are malformed.
    """
    if not (path / "velodyne_points/data").is_dir():
        raise DataError(f"{path}: a KITTI-360 drive has a folder velodyne_points/data, this one does not")
    files = numbered_scans(path / "velodyne_points/data")
    summary = InputSummary(name_of(path))
    stamps = path / "velodyne_points/timestamps.txt"
    stamps_ns = stamps_by_line(stamps, summary)
    missing = [number for number in sorted(files) if number not in stamps_ns]
    if missing:
        raise DataError(f"{stamps}: no timestamp of frame {missing[0]}")
    layout = find_layout(in_order(files), options.columns if options else (), summary)
    scans = KittiScans(files, None, stamps_ns, layout)
    tracks = Tracks(truth=_kitti360_truth(path, stamps_ns))
    return LoggedDrive(name_of(path), scans, tracks, options, summary=summary, stamps_ns=scans.stamps_ns)


def _root(path: Path) -> Path:
    """The folder with data_3d_raw and calibration, as the path is written or where its links lead."""
    roots = [way.parents[min(1, len(way.parents) - 1)] for way in ways_to(path) if len(way.parents)]
    return next((root for root in roots if (root / CALIBRATION_360).is_file()), roots[0] if roots else path)


def _kitti360_truth(path: Path, stamps_ns: dict[int, int]) -> GeoTrack | None:
    names = dict.fromkeys(way.name for way in ways_to(path))
    files = [_root(path) / "data_poses" / name / "poses.txt" for name in names]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    numbers, rows = [], []
    for at, line in enumerate(line for line in read_lines(file) if line.strip()):
        number, _, rest = line.strip().partition(" ")
        if not number.isdecimal():
            raise DataError(f"{file}: line {at + 1} does not begin with a frame number: {line[:60]!r}")
        numbers.append(int(number))
        rows.append(rest)
    known = [at for at, number in enumerate(numbers) if number in stamps_ns]
    if not known:
        return None
    world_from_pose = matrices(rows, file)[known]
    world_from_velo = world_from_pose @ _pose_from_velo(_root(path) / "calibration")
    return GeoTrack.from_degrees(
        np.array([stamps_ns[numbers[at]] for at in known], dtype=np.int64),
        degrees_from_mercator(world_from_velo[:, :2, 3], *ORIGIN_DEG),
        yaws_rad(world_from_velo[:, :3, :3]),
    )


def _pose_from_velo(folder: Path) -> Float[np.ndarray, "4 4"]:
    velo, pose = folder / "calib_cam_to_velo.txt", folder / "calib_cam_to_pose.txt"
    if not pose.is_file():
        raise DataError(f"{pose}: no such file")
    velo_from_camera = matrices([line for line in read_lines(velo) if line.strip()][:1] or [""], velo)[0]
    entries = dict(line.split(":", 1) for line in read_lines(pose) if ":" in line)
    if "image_00" not in entries:
        raise DataError(f"{pose}: expected a line 'image_00:' of 12 numbers")
    pose_from_camera = matrices([entries["image_00"]], pose)[0]
    result: np.ndarray = pose_from_camera @ inverse(velo_from_camera)
    return result
