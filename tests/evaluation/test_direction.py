"""The section `direction` of metrics.json, on a drive that turns at a crossing."""

import math

import numpy as np
import pytest

from bevfusion.direction import metrics
from bevfusion.evaluation.direction import direction_section
from bevfusion.evaluation.results import DriveResult, ScoredEstimate, TrafficShift
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.render import OsmRenderer
from tests.direction.graphs import Picture, crossing, town


def turning_left() -> list[SE2]:
    """From the west to the north, in the lane, a metre a frame: 60 m, a quarter of a circle of 8 m, 60 m."""
    poses = [SE2(float(x), -1.75, 0.0) for x in np.arange(-66.25, -6.25, 1.0)]
    for angle in np.arange(0.0, math.pi / 2.0, 1.0 / 8.0):
        poses.append(SE2(-6.25 + 8.0 * math.sin(angle), -1.75 + 8.0 * (1.0 - math.cos(angle)), float(angle)))
    return [*poses, *(SE2(1.75, float(y), math.pi / 2.0) for y in np.arange(6.5, 66.0, 1.0))]


def scored(poses: list[SE2], found_off: SE2, prior_off: SE2) -> DriveResult:
    covariance = np.diag([0.1, 0.1, math.radians(1.0) ** 2])
    estimates = [
        ScoredEstimate(0, index, "drive", 100 + index, index, 0, 0, "town", prior=pose.moved_by(prior_off), truth=pose,
                       estimate=pose.moved_by(found_off), covariance=covariance, confidence=1.0, runtime_ms=1.0)
        for index, pose in enumerate(poses)
    ]  # fmt: skip
    return DriveResult("drive", "none", estimates)


def test_the_route_at_the_found_pose_beats_the_baselines():
    poses = turning_left()
    result = scored(poses, SE2(0.2, -0.2, math.radians(0.5)), SE2(3.0, -4.0, math.radians(5.0)))
    section = direction_section([result], [None], [OsmRenderer(town(crossing()))])
    assert section["frames"] + sum(section["left_out"].values()) == len(poses)
    assert section["left_out"] == {"less than 16 m known of the path driven": pytest.approx(16, abs=2)}
    own, baselines = section["path_16m"], section["baselines"]
    assert own["hit"] > 0.95
    assert own["fde_m"] < 0.8
    assert own["fde_m"] < 0.5 * baselines["map_at_found_pose"]["path_16m"]["fde_m"]
    assert baselines["map_at_prior"]["path_16m"]["fde_m"] > baselines["map_at_found_pose"]["path_16m"]["fde_m"]
    assert section["turning"]["frames"] == pytest.approx(28, abs=3)  # 16 m before the bend and the bend itself
    assert baselines["straight_on"]["turning"]["hit"] < 0.5 < section["turning"]["hit"]
    assert section["junctions"]["right_branch"] == 100.0
    assert section["junctions"]["count"] > 30
    assert section["junctions"]["right_branch_without_route"] < 50.0  # who knows before the bend that it turns?
    assert section["along_path_deg"]["0-10"]["median"] < 3.0
    assert set(section["along_path_deg"]) == {"0-10", "10-20", "20-40"}


def test_straight_on_is_scored_by_hand():
    poses = [SE2(float(x), -1.75, 0.0) for x in range(-90, -20)]
    section = direction_section([scored(poses, SE2(), SE2(0.0, 2.0, 0.0))], [None], [OsmRenderer(town(crossing()))])
    straight = section["baselines"]["straight_on"]["path_16m"]
    assert straight == pytest.approx({"fde_m": 0.0, "ade_m": 0.0, "hit": 1.0, "hausdorff_m": 0.0}, abs=1e-6)
    drawn = section["baselines"]["map_at_found_pose"]["path_16m"]
    assert drawn == pytest.approx({"fde_m": 1.75, "ade_m": 1.75, "hit": 1.0, "hausdorff_m": 1.75}, abs=0.02)
    prior = section["baselines"]["map_at_prior"][
        "path_16m"
    ]  # 2 m to the left of the truth: the line lies 0.25 m right of it
    assert prior["fde_m"] == pytest.approx(0.25, abs=0.02)
    assert section["turning"]["frames"] == 0
    assert math.isnan(section["turning"]["fde_m"])


def test_every_frame_counts_that_has_a_path():
    poses = [SE2(float(x), -1.75, 0.0) for x in range(-90, -20)]
    section = direction_section([scored(poses, SE2(), SE2())], [None], [OsmRenderer(town(crossing()))])
    assert section["frames"] == sum(1 for x in range(-90, -20) if x + 2 * 8 <= -21)
    assert metrics.HIT_M == 2.0


def test_off_the_roads_and_on_pictures_nothing_is_scored():
    poses = [SE2(float(x), 200.0, 0.0) for x in range(-90, -20)]
    assert direction_section([scored(poses, SE2(), SE2())], [None], [OsmRenderer(town(crossing()))]) is None
    assert direction_section([scored(poses, SE2(), SE2())], [None], [Picture()]) is None


def test_the_map_alone_is_the_route_moved_to_the_vehicle_at_the_prior():
    """2 m to the left of the truth, with a heading that is right: the path keeps the offset."""
    poses = [SE2(float(x), -1.75, 0.0) for x in range(-90, -20)]
    section = direction_section([scored(poses, SE2(), SE2(0.0, 2.0, 0.0))], [None], [OsmRenderer(town(crossing()))])
    alone = section["baselines"]["map_alone"]["path_16m"]
    kept_m = 0.25 + 1.75 / (1.0 + (16.0 / 80.0) ** 2)  # of the offset from the lane, in the vehicle's frame
    assert alone["ade_m"] < 0.15  # it goes on as the vehicle does
    assert alone["fde_m"] == pytest.approx(2.0 - kept_m, abs=0.05)


def test_traffic_turns_the_path_as_far_as_the_pose_leads_it_astray():
    poses = [SE2(float(x), -1.75, 0.0) for x in range(-90, -20)]
    result = scored(poses, SE2(), SE2())
    still, turned = (-60.0, -1.75, 0.0), (-60.0, 2.25, 0.0)
    for vehicles, after in ((10, still), (20, still), (40, turned), (None, turned), (0, turned)):
        result.traffic.append(TrafficShift("drive", 130, vehicles, 0.1, 0.0, 0.0, False, still, after, 0))
    result.traffic.append(TrafficShift("drive", 130, 40, 0.1, 0.0, 0.0))  # of before, without poses
    section = direction_section([result], [None], [OsmRenderer(town(crossing()))])["traffic"]
    assert section["count"] == 4
    slope = 4.0 * 2.0 * (16.0 / 80.0**2) / (1.0 + (16.0 / 80.0) ** 2) ** 2  # of an offset of 4 m that fades
    assert section["median_deg"] < section["p95_deg"]
    assert section["p95_deg"] == pytest.approx(math.degrees(slope), abs=0.1)
    assert direction_section([scored(poses, SE2(), SE2())], [None], [OsmRenderer(town(crossing()))])["traffic"] is None
