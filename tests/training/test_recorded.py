"""Recorded drives in the place of simulated ones: which frames are taken, and that a run can be made of them."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevfusion.build import bev_grid, tile_grid
from bevfusion.checkpoint import read_checkpoint
from bevfusion.config import DriveSource, config_from_dict
from bevfusion.datasets.samples import PoseSamples, Variation
from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.run import score_drives
from bevfusion.evaluation.trained import evaluate_run
from bevfusion.maps.source import open_map
from bevfusion.simulate.drive import DriveOptions
from bevfusion.structures import DataError, Frame, Locator, PoseEstimate
from bevfusion.summary import InputSummary
from bevfusion.tracking.follow import TrackedFrame
from bevfusion.tracking.outputs import write_csv
from bevfusion.training.drives import drives_for, prepare_drives, recorded_drive
from bevfusion.training.run import train
from tests.datasets.drive_writing import as_kitti_raw, as_pcd_folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def frames(cache: Path) -> list[Frame]:
    """Six frames of a simulated drive, a second apart, as somebody might have recorded them: no labels."""
    drive = simulated_drive("town:7", DriveOptions(sensor="vlp16", frames=6, spacing_m=12.0, columns=128), cache)
    return [replace(f, stamp_ns=1_600_000_000 * 10**9 + f.index * 10**9, scan=unlabelled(f)) for f in drive]


def unlabelled(frame: Frame):
    return replace(frame.scan, labels=None)


@pytest.fixture
def town(cache: Path) -> str:
    return str(map_file("town:7", cache))


def test_frames_without_a_pose_off_the_map_or_broken_are_left_out_and_counted(frames, town, tmp_path, caplog):
    away = replace(frames[2].truth, lat_deg=frames[2].truth.lat_deg + 0.1)
    taken = [frames[0], frames[1], replace(frames[2], truth=away), *(frames[3:] + frames[3:] + frames[3:])]
    numbered = [replace(f, index=i, stamp_ns=f.stamp_ns + 20 * i * 10**9) for i, f in enumerate(taken)]
    path = as_kitti_raw(tmp_path, numbered)
    (path / "oxts/data/0000000004.txt").unlink()
    (path / "velodyne_points/data/0000000005.bin").write_bytes(b"1234567")
    with caplog.at_level(logging.WARNING):
        drive, source = recorded_drive(DriveSource(drive=str(path), map=town))
    assert drive.positions == (0, 1, 3, 6, 7, 8, 9, 10, 11)
    assert [drive[i].index for i in range(len(drive))] == list(drive.positions)
    assert source.name == open_map(town).name
    told = next(r.message for r in caplog.records if "left out" in r.message)
    assert told == f"{path}: 3 of 12 frames are left out: 1 without a true pose, 1 off {town}, 1 unreadable"


def test_poses_of_a_tracked_log_are_its_truth(frames, town, tmp_path):
    """As `track --smooth` writes them, with a stretch in which it was lost."""
    source = open_map(town)
    path = as_pcd_folder(tmp_path, frames)
    (path / "truth.csv").unlink()
    with pytest.raises(DataError, match="nothing to learn from in 6 frames: 6 without a true pose; give poses: PATH"):
        recorded_drive(DriveSource(drive=str(path), map=town))
    tracked = []
    for frame in frames:
        pose = source.frame.map_from_ego(frame.truth)
        known = frame.index not in (2, 3)
        estimate = PoseEstimate(pose, np.eye(3) * 0.01, 0.01, 0.9, pose, None) if known else None
        state, reason = ("following", "") if known else ("lost", "the scans contradict the place")
        tracked.append(TrackedFrame(frame.index, frame.stamp_ns, state, reason, estimate, None))
    write_csv(tmp_path / "poses.csv", tracked, source)
    drive, _ = recorded_drive(DriveSource(drive=str(path), map=town, poses=str(tmp_path / "poses.csv")))
    assert drive.positions == (0, 1, 4, 5)
    for frame in drive:
        true = source.frame.map_from_ego(frames[frame.index].truth)
        found = source.frame.map_from_ego(frame.truth)
        assert (found.x_m, found.y_m) == pytest.approx((true.x_m, true.y_m), abs=0.01)
        assert math.degrees(abs(found.yaw_rad - true.yaw_rad)) < 0.05


def test_some_frames_of_a_drive(frames, town, tmp_path):
    path = str(as_kitti_raw(tmp_path, frames))
    assert recorded_drive(DriveSource(drive=path, map=town, start=1, every=2))[0].positions == (1, 3, 5)
    assert recorded_drive(DriveSource(drive=path, map=town, frames=2))[0].positions == (0, 1)
    with pytest.raises(DataError, match="no frame is left of its 6 with start 6"):
        recorded_drive(DriveSource(drive=path, map=town, start=6))


def test_a_drive_off_its_map_is_refused_in_one_line(frames, cache, tmp_path):
    other = str(map_file("town:8", cache))
    path = as_kitti_raw(tmp_path, frames)
    with pytest.raises(
        DataError, match=r"lies off its map: 6 off .*of 6 frames; it passes lat .* the map spans"
    ) as told:
        recorded_drive(DriveSource(drive=str(path), map=other))
    assert "\n" not in str(told.value)


def test_topics_are_checked(town):
    with pytest.raises(DataError, match="expected PART=NAME with a part of lidar, gnss"):
        recorded_drive(DriveSource(drive="here.bag", map=town, topics=("camera=/front",)))


def test_recorded_and_simulated_drives_come_in_the_order_of_the_list(
    frames, town, cache, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("bevfusion.training.drives.make_drives", lambda requests, cache: None)  # made when opened
    path = str(as_kitti_raw(tmp_path, frames))
    simulation = {"frames": 2, "eval_frames": 2, "sensors": ["vlp16", "hdl32e"], "columns": 128, "cache": str(cache)}
    data = {
        "train": [{"simulate": "town:7"}, {"drive": path, "map": town, "frames": 4}, {"simulate": "town:7"}],
        "val": [{"drive": path, "map": town, "start": 3}],
    }
    config = config_from_dict({"data": data, "simulation": {**simulation, "test": ["town:7"]}}, "here")
    with caplog.at_level(logging.INFO):
        prepare_drives(config)
    drives = drives_for(config, "train")
    assert [len(drive) for drive, _ in drives] == [2, 4, 2]
    assert [drive.name.split("_")[2] if "town" in drive.name else drive.name for drive, _ in drives] == [
        "vlp16",
        "drive",
        "hdl32e",
    ]
    told = "\n".join(record.message for record in caplog.records)
    assert f"{path}: 1 frames are in train and in val" in told
    assert "test: simulated, on town:7 (simulation.test), for data.test is not given" in told
    assert drives_for(config, "val", roadside=0.5) == []


def test_augmentation_takes_scans_without_labels(frames, town, tmp_path):
    """Vehicles are taken out of labelled scans alone; all else happens to these, too."""
    path = str(as_kitti_raw(tmp_path, frames))
    tiny = {"bev": {"range_m": 12.0}, "search": {"offset_m": 4.0}, "model": {"map": {"levels": 2}}}
    config = config_from_dict({**tiny, "augment": {"vehicle_removal": 1.0, "scans": 3}}, "here")
    drive, source = recorded_drive(DriveSource(drive=path, map=town))
    assert drive[0].scan.labels is None

    def samples(variation: Variation) -> PoseSamples:
        return PoseSamples(
            [(drive, source)],
            bev_grid=bev_grid(config),
            tile_grid=tile_grid(config, 4.0),
            slices_m=config.bev.slices_m,
            offset_m=4.0,
            offset_rad=0.2,
            variation=variation,
            seed=1,
        )

    varied, plain = samples(Variation(**dict(config.augment))), samples(Variation())
    for i in range(6):
        assert np.isfinite(varied[i].bev.numpy()).all()
        assert (varied[i].bev != plain[i].bev).any()


def test_a_run_on_recorded_drives_trains_calibrates_and_is_evaluated(frames, town, cache, tmp_path):
    path = str(as_kitti_raw(tmp_path, frames))
    config = config_from_dict(
        {
            "name": "recorded",
            "bev": {"range_m": 12.0},
            "search": {"offset_m": 4.0},
            "model": {"channels": 8, "lidar": {"width": 4, "levels": 2}, "map": {"width": 4, "levels": 2}},
            "simulation": {"frames": 3, "sensors": ["vlp16"], "columns": 128, "cache": str(cache), "spacing_m": 12.0},
            "data": {
                "train": [{"drive": path, "map": town, "frames": 3}, {"simulate": "town:7"}],
                "val": [{"drive": path, "map": town, "start": 3, "frames": 2}],
                "test": [{"drive": path, "map": town, "start": 5}],
            },
            "train": {"steps": 2, "validate_every": 2, "batch_size": 2, "warmup_steps": 1, "workers": 0},
        },
        "here",
    )
    seen = []
    original = PoseSamples.describe
    samples = PoseSamples.__getitem__

    def noted(self, position):
        seen.append(original(self, position))
        return samples(self, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PoseSamples, "__getitem__", noted)
        train(config, tmp_path / "run", evaluate=evaluate_run)
    assert {word for word in seen if word.startswith("drive[")} <= {f"drive[{i}]" for i in range(3)}
    assert seen.count("drive[0]") + seen.count("drive[1]") >= 2 * 2  # validated and calibrated on two frames
    assert any(word.startswith("town_7_vlp16") for word in seen)
    shipped = read_checkpoint(tmp_path / "run" / "model.safetensors")
    assert shipped.config == config
    assert "sharpened" in shipped.provenance
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert metrics["frames"] == 1
    assert list(metrics["per_drive"]) == ["drive"]


def test_a_test_drive_is_asked_on_its_own_map(frames, town):
    """Though another map covers it, too."""

    class Knows(Locator):
        map_error_m = 0.0

        def locate(self, scan, prior, offset_m, offset_rad):
            return PoseEstimate(prior, np.eye(3), 0.1, 0.5, prior, None)

    drive = [(frames[0])]
    one, two = open_map(town), open_map(town)

    class Log(list):
        name, odometry, summary = "log", "none", InputSummary("log")

    results = score_drives(
        lambda source: Knows(), {"a": Log(drive), "b": Log(drive)}, [one, two], Protocol(), own_maps=True
    )
    assert [estimate.map_index for result in results for estimate in result.estimates] == [0, 1]
    results = score_drives(lambda source: Knows(), {"a": Log(drive), "b": Log(drive)}, [one, two], Protocol())
    assert [estimate.map_index for result in results for estimate in result.estimates] == [0, 0]
