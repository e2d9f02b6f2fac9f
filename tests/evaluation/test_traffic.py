import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevfusion.build import build_model
from bevfusion.config import Config
from bevfusion.datasets.augment import VEHICLE_CLASSES
from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.evaluation.protocol import Protocol, evenly_spaced
from bevfusion.evaluation.results import TrafficShift
from bevfusion.evaluation.traffic import (
    changed_share,
    done_to,
    in_words,
    only_hidden,
    summarise_shifts,
    vehicle_shifts,
    with_vehicles,
)
from bevfusion.geometry.se2 import SE2
from bevfusion.localizer import NetworkLocator
from bevfusion.maps.source import open_map
from bevfusion.structures import Locator, PoseEstimate, Scan


def tiny_localizer(source) -> NetworkLocator:
    torch.manual_seed(0)
    base = Config()
    small = {"width": 8, "levels": 2}
    model = base.model.model_validate({"channels": 8, "lidar": small, "map": small})
    config = base.model_copy(update={"bev": base.bev.model_copy(update={"range_m": 24.0}), "model": model})
    return NetworkLocator(build_model(config), config, source)


class Swayed(Locator):
    """Turns by one degree for every hundredth of the points that are labelled as vehicles."""

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        assert scan.labels is not None
        share = float(np.isin(scan.labels, VEHICLE_CLASSES).mean())
        pose = SE2(prior.x_m + share, prior.y_m, prior.yaw_rad + math.radians(100.0 * share))
        return PoseEstimate(pose, np.eye(3), 0.1, 0.5, prior)


def far_away(folder: Path) -> Path:
    """A map of one street off the coast of Africa."""
    path = folder / "elsewhere.osm"
    path.write_text(
        "<osm version='0.6'><bounds minlat='0' minlon='0' maxlat='0.01' maxlon='0.01'/>"
        "<node id='1' lat='0' lon='0'/><node id='2' lat='0.01' lon='0.01'/>"
        "<way id='3'><nd ref='1'/><nd ref='2'/><tag k='highway' v='residential'/></way></osm>"
    )
    return path


PROTOCOL = Protocol(offset_m=4.0, offset_deg=6.0)


def test_without_vehicles_nothing_moves(town_drive):
    drive, source = town_drive
    shifts = vehicle_shifts(tiny_localizer, drive, [source], counts=(0,), frames=3, protocol=PROTOCOL)
    untouched = [shift for shift in shifts if shift.vehicles == 0]
    assert len(untouched) == 3
    assert {(s.changed, s.heading_deg, s.position_m) for s in untouched} == {(0.0, 0.0, 0.0)}
    assert sum(shift.vehicles is None for shift in shifts) == 3
    assert "inserted" not in summarise_shifts(shifts)


def test_fewer_vehicles_are_the_first_of_more(town_drive):
    drive, _ = town_drive
    scan = drive[0].scan
    changed = [changed_share(scan, with_vehicles(scan, count, (0, 1))) for count in (0, 5, 10, 20, 40)]
    assert changed == sorted(changed)
    assert changed[0] == 0.0 < changed[-1]


def test_the_shift_is_that_of_the_locator(town_drive):
    drive, source = town_drive
    done = []
    shifts = vehicle_shifts(
        lambda _: Swayed(),
        drive,
        [source],
        counts=(5, 40),
        protocol=PROTOCOL,
        on_frame=lambda *count: done.append(count),
    )
    assert done[-1] == (len(drive), len(drive))
    by_count = {count: [s.heading_deg for s in shifts if s.vehicles == count] for count in (5, 40)}
    assert all(few <= many + 1e-9 for few, many in zip(by_count[5], by_count[40], strict=True))
    assert sum(by_count[40]) > sum(by_count[5]) > 0
    for shift in shifts:
        if shift.vehicles is None:  # all are gone: what they had turned is what is undone
            assert shift.heading_deg == pytest.approx(100.0 * shift.position_m, abs=1e-6)
            assert shift.changed == pytest.approx(shift.position_m, abs=1e-6)


def test_what_vehicles_hide_is_gone_and_they_are_not_seen(town_drive):
    drive, source = town_drive
    scan = drive[0].scan
    varied = with_vehicles(scan, 40, (0, 1))
    left = only_hidden(scan, varied)
    assert changed_share(scan, left) == pytest.approx(changed_share(scan, varied))
    assert 0 < len(left) < len(scan)
    kept = {tuple(row) for row in left.xyz.tolist()}
    assert kept <= {tuple(row) for row in scan.xyz.tolist()}
    assert not kept & {tuple(row) for row in varied.xyz[(varied.xyz != scan.xyz).any(axis=1)].tolist()}
    shifts = vehicle_shifts(lambda _: Swayed(), drive, [source], counts=(5, 40), hiding=(40,), protocol=PROTOCOL)
    assert {done_to(shift) for shift in shifts} == {"inserted_5", "inserted_40", "hidden_40", "removed"}


def test_each_frame_is_asked_on_the_first_map_that_covers_it(town_drive, tmp_path):
    drive, source = town_drive
    opened = []
    elsewhere = open_map(far_away(tmp_path))

    def make(one):
        opened.append(one)
        return Swayed()

    shifts = vehicle_shifts(make, drive, [elsewhere, source], counts=(5,), protocol=PROTOCOL)
    assert {shift.frame for shift in shifts} == {frame.index for frame in drive}
    assert opened == [source]


def test_frames_off_the_map_are_left_out(town_drive, tmp_path):
    drive, _ = town_drive
    assert vehicle_shifts(lambda _: Swayed(), drive, [open_map(far_away(tmp_path))]) == []


def test_summary_counts_by_what_was_done():
    shifts = [
        TrafficShift("a", 0, 10, 0.1, 1.0, 0.5),
        TrafficShift("a", 1, 10, 0.3, 3.0, 1.5),
        TrafficShift("a", 0, 20, 0.2, 8.0, 2.5),
        TrafficShift("a", 0, None, 0.2, 2.0, 0.1),
        TrafficShift("a", 0, 20, 0.2, 5.0, 1.0, hidden_only=True),
        TrafficShift("a", 0, 0, 0.0, 0.0, 0.0),
    ]
    found = summarise_shifts(shifts)
    assert list(found) == ["inserted_10", "inserted_20", "hidden_20", "removed", "inserted"]
    assert found["hidden_20"]["heading_deg_median"] == 5.0
    assert found["inserted_10"]["heading_deg_median"] == 2.0
    assert found["inserted_10"]["changed_percent"] == pytest.approx(20.0)
    assert found["inserted"]["scans"] == 3
    assert found["inserted"]["position_m_p95"] == pytest.approx(2.4)
    assert found["removed"]["heading_deg_p95"] == 2.0


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(5, None, [0, 1, 2, 3, 4]), (3, 9, [0, 1, 2]), (100, 3, [0, 50, 99]), (4, 1, [0]), (0, 3, [])],
)
def test_frames_are_spread_evenly(length: int, count: int | None, expected: list[int]):
    assert evenly_spaced(length, count) == expected


def test_real_scans(shared_data):
    """The drive through sequence 07: labelled vehicles go, others come."""
    drive = KittiRawDrive(shared_data / "kitti_raw/2011_09_30/2011_09_30_drive_0027_sync")
    source = open_map(shared_data / "maps/kitti_07.osm.bz2")
    shifts = vehicle_shifts(tiny_localizer, drive, [source], counts=(0, 40), hiding=(40,), frames=2, protocol=PROTOCOL)
    assert [(shift.vehicles, shift.hidden_only) for shift in shifts] == [
        (0, False),
        (40, False),
        (40, True),
        (None, False),
    ] * 2
    assert all(shift.heading_deg == shift.position_m == 0.0 for shift in shifts if shift.vehicles == 0)
    assert all(shift.changed > 0.0 for shift in shifts if shift.vehicles != 0)
    # whatever the network, both estimates lie in the window
    assert all(shift.heading_deg <= 2 * 8.0 and shift.position_m <= 2 * 6.0 * math.sqrt(2) for shift in shifts)


@pytest.mark.parametrize(
    ("done", "words"),
    [
        ("inserted_10", "10 vehicles put in"),
        ("inserted", "any number of vehicles put in"),
        ("hidden_40", "without what 40 vehicles hide"),
        ("removed", "every labelled vehicle taken out"),
    ],
)
def test_words(done: str, words: str):
    assert in_words(done) == words
