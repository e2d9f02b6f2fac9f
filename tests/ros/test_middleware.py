"""The node as a process, against real rclpy and real rospy: a robot plays a drive to it and records what it says."""

import csv
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevfusion.datasets.drive import Drive
from bevfusion.evaluation.protocol import Protocol, displaced
from bevfusion.evaluation.run import evaluate
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2, wrap_angle
from bevfusion.localizer import open_locator
from bevfusion.maps.schema import layer_index
from bevfusion.structures import Frame
from tests.ros.processes import KIDNAPPED_AT, Middleware, Played, base_from_lidar, extrinsics, interrupted

pytestmark = [pytest.mark.ros, pytest.mark.slow]

OFFSET_M, OFFSET_DEG = 10.0, 10.0
RATE_HZ = 10.0
SETTLED = [["wait_for_poses", 3, 90.0], ["wait", 3.0]]  # diagnostics come once a second


class Chosen:
    """Some frames of a drive, in order."""

    odometry = "truth"

    def __init__(self, drive: Drive, positions: Sequence[int]) -> None:
        self._drive, self._positions, self.name = drive, positions, drive.name
        self.summary = drive.summary

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, position: int) -> Frame:
        return self._drive[self._positions[position]]

    def __iter__(self) -> Iterator[Frame]:
        return (self[position] for position in range(len(self)))


def parameters(middleware: Middleware, played: Played, **more: Any) -> dict[str, Any]:
    """Of the node: ROS 1 has TF, and takes the extrinsics from there; ROS 2 from pip has none."""
    found: dict[str, Any] = {"map": str(played.map), "offset_m": OFFSET_M, "offset_deg": OFFSET_DEG, "threads": 1}
    if middleware.name == "ros2":
        found |= {"extrinsics": extrinsics(), "lidar_frame": "lidar"}
    return found | more


def script(played: Played, steps: list[list[Any]], **more: Any) -> dict[str, Any]:
    matrix = base_from_lidar().tolist()
    return {"drive": str(played.file), "base_from_lidar": matrix, "steps": steps} | more


def start_at(played: Played, map_from_ego: SE2) -> list[Any]:
    base = played.base(map_from_ego)
    return ["start", base.x_m, base.y_m, base.yaw_rad]


def positions_of(played: Played, stamps_ns: Sequence[int]) -> list[int]:
    known = {int(stamp): position for position, stamp in enumerate(np.load(played.file)["stamps"])}
    return [known[stamp] for stamp in stamps_ns]


def evaluated(played: Played, positions: Sequence[int], protocol: Protocol, folder: Path) -> dict[int, SE2]:
    """Estimates of `evaluate --mode filter` by stamp, on these frames only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        drive = Chosen(played.drive, positions)
        evaluate(lambda source: open_locator("default", source, "auto"), [drive], [played.source], protocol, folder, {})
    finally:
        torch.set_num_threads(threads)
    with (folder / "predictions.csv").open() as file:
        return {
            int(row["stamp_ns"]): SE2(*(float(row[f"estimate_{name}"]) for name in ("x_m", "y_m", "yaw_rad")))
            for row in csv.DictReader(file)
        }


def error_of(played: Played, row: Sequence[Any]) -> tuple[float, float]:
    """Metres and degrees of a published pose from the truth."""
    (position,) = positions_of(played, [row[0]])
    true = played.base(played.truth(position))
    return math.hypot(row[1] - true.x_m, row[2] - true.y_m), abs(math.degrees(wrap_angle(row[3] - true.yaw_rad)))


def test_a_minute_of_driving_is_what_evaluation_says(middleware: Middleware, minute: Played, tmp_path: Path, capsys):
    protocol = Protocol("filter", OFFSET_M, OFFSET_DEG)
    prior = displaced(minute.truth(0), protocol, minute.drive.name, minute.drive[0].index, 0)
    steps = [
        ["wait_for_node"],
        start_at(minute, prior),
        ["answered", 0],
        ["in_real_time", 1, len(minute.drive), RATE_HZ],
    ]
    node = middleware.node(parameters(middleware, minute, geopose="fix"), tmp_path / "node.log")
    try:
        said = middleware.play(script(minute, steps, all_topics=True), tmp_path, 200.0)
        status, seconds = interrupted(node)
    finally:
        node.kill()
    assert said["problem"] == ""
    assert (status, seconds < 2.0) == (0, True), f"{seconds:.1f} s"
    taken = [row[0] for row in said["timing"]]
    assert taken == sorted(set(taken))
    positions = positions_of(minute, taken)
    expected = evaluated(minute, positions, protocol, tmp_path / "evaluation")
    poses = {row[0]: row for row in said["poses"]}
    assert set(poses) == set(expected)  # silent on the same frames, too
    assert len(poses) > 0.5 * len(taken)
    off = []
    for stamp, row in poses.items():
        wanted = minute.base(expected[stamp])
        off.append([row[1] - wanted.x_m, row[2] - wanted.y_m, wrap_angle(row[3] - wanted.yaw_rad)])
    assert np.abs(off).max() < 2e-5  # predictions.csv has six digits
    errors = np.array([error_of(minute, row) for row in said["poses"]])

    # the transform is the pose with the odometry taken off
    odometry = dict(zip(positions, np.load(minute.file)["odom_from_base"][positions], strict=True))
    for stamp, parent, child, *transform in said["transforms"]:
        assert (parent, child) == ("map", "odom")
        (position,) = positions_of(minute, [stamp])
        pose = SE2(*transform) @ SE2(*odometry[position].tolist())
        assert (pose.x_m, pose.y_m) == pytest.approx(tuple(poses[stamp][1:3]), abs=1e-6)
        assert wrap_angle(pose.yaw_rad - poses[stamp][3]) == pytest.approx(0.0, abs=1e-9)
    assert {row[0] for row in said["transforms"]} == set(poses)
    if middleware.name == "ros1":
        assert [row for row in said["tf"] if row[1] == "map"] == said["transforms"]

    for stamp, heading_rad, variance in said["headings"]:
        assert heading_rad == pytest.approx(poses[stamp][3], abs=1e-9)
        assert 0.0 < variance < 1.0
    assert {row[0] for row in said["fixes"]} == set(poses)
    for stamp, *place in said["fixes"]:
        assert minute.source.frame.metres_from_degrees(*place) == pytest.approx(tuple(poses[stamp][1:3]), abs=1e-3)
    covariance = np.array(said["poses"][-1][6]).reshape(6, 6)
    assert np.linalg.eigvalsh(covariance).min() > 0.0
    assert said["poses"][-1][5] == "map"
    width, _, cell_m, counts = said["map"]
    assert width * cell_m == pytest.approx(1200.0, abs=2.0)
    assert counts["0"] > 20_000
    assert counts["100"] > 20_000
    assert said["markers"]["road"] > 100
    assert said["markers"]["building"] > 1000
    stamp, peak, top = said["belief"]
    lidar = SE2(*poses[stamp][1:4]) @ SE2(1.2, 0.3, 0.0)
    assert math.hypot(peak[0] - lidar.x_m, peak[1] - lidar.y_m) < 1.0
    assert top == 100
    last = said["diagnostics"][-1][2]
    assert int(last["clouds_received"]) <= len(minute.drive)
    assert last["odometry"] == "used"

    latency_ms = 1e3 * np.array([row[4] - said["sent_s"][str(row[0])] for row in said["poses"]])
    step_ms = np.array([values["step_ms"] for _, _, values in said["timing"]])
    step_of = {stamp: values["step_ms"] for stamp, _, values in said["timing"]}
    lag_ms = latency_ms - np.array([step_of[row[0]] for row in said["poses"]])
    assert np.percentile(lag_ms, 95) <= np.percentile(step_ms, 95) + 30.0  # the step before, and a little
    with capsys.disabled():
        sys.stdout.write(
            f"\n{middleware.name}: {len(taken)} of {len(minute.drive)} clouds at {RATE_HZ:.0f} Hz, {len(poses)} poses; "
            f"latency p50 {np.median(latency_ms):.0f} ms, p95 {np.percentile(latency_ms, 95):.0f} ms; "
            f"step p50 {np.median(step_ms):.0f} ms, p95 {np.percentile(step_ms, 95):.0f} ms; "
            f"lag beyond the step p95 {np.percentile(lag_ms, 95):.0f} ms; "
            f"error median {np.median(errors[:, 0]):.2f} m {np.median(errors[:, 1]):.2f} deg; "
            f"largest difference from evaluate {np.abs(off).max():.1e}; SIGINT to exit {seconds:.2f} s"
        )


def test_it_survives_what_robots_do(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    spoilt = [["refused", 6, "empty"], ["refused", 7, "nan"], ["refused", 8, "sizes"], ["refused", 9, "frame"]]
    steps = [
        ["wait_for_node", False],
        ["wait", 2.5],  # the LiDAR starts late
        ["publish_clouds"],
        ["wait_for_reader"],
        ["call", "activate", True],
        start_at(kidnapped, kidnapped.truth(0)),
        ["answered_frames", 0, 6],
        *spoilt,
        ["answered", 10],
        ["stop_publishing"],
        ["wait", 1.0],
        ["publish_clouds"],
        ["wait_for_reader"],
        ["answered", 11],
        ["wait", 5.0],
        ["answered", 12],
        ["call", "activate", False],
        ["cloud", 13],
        ["wait", 1.5],
        ["call", "activate", True],
        ["wait_for_reader"],
        ["answered", 14],
        ["answered_frames", 0, 3],  # the log begins again
        ["wait", 1.2],
    ]
    node = middleware.node(parameters(middleware, kidnapped, silence_s=2.0), tmp_path / "node.log")
    try:
        said = middleware.play(
            script(kidnapped, steps, best_effort=middleware.name == "ros2", attention=True), tmp_path, 120.0
        )
        status, seconds = interrupted(node)
    finally:
        node.kill()
    assert said["problem"] == ""
    assert (status, seconds < 2.0) == (0, True), f"{seconds:.1f} s"
    taken = positions_of(kidnapped, [row[0] for row in said["timing"]])
    assert taken == [0, 1, 2, 3, 4, 5, 10, 11, 12, 14, 0, 1, 2]
    assert all(accepted for _, _, accepted, _ in said["calls"])
    posed = positions_of(kidnapped, [row[0] for row in said["poses"]])
    assert {5, 10, 11, 12, 14, 2} <= set(posed)
    assert max(error_of(kidnapped, row)[0] for row in said["poses"]) < 2.0
    refusals = [values["last_refusal"] for _, _, values in said["diagnostics"]]
    for part in ("no points", "finite return", "declares 4000000 x 1 points", "nowhere"):
        assert any(part in refusal for refusal in refusals), part
    messages = [(level, text) for level, text, _ in said["diagnostics"]]
    assert any(level == 1 and "no cloud for" in text for level, text in messages)
    assert any(level == 1 and "waiting for a start" in text for level, text in messages)
    assert any(level == 2 and "no extrinsics" in text and "nowhere" in text for level, text in messages)
    last = said["diagnostics"][-1][2]
    assert (last["resets"], last["clouds_refused"], last["crashes"], last["state"]) == ("1", "4", "0", "following")
    encoding, height, width, channels, high, low = said["attention"]
    assert (encoding, channels, height == width) == ("rgb8", 3, True)
    assert high > low


def test_the_way_ahead_follows_a_route_and_a_goal(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    """The route is the track that is driven next, the goal its end; without them the branches of the map are told."""
    truths = [kidnapped.base(kidnapped.truth(position)) for position in range(KIDNAPPED_AT)]
    route = [[pose.x_m, pose.y_m] for pose in truths]
    steps = [
        ["wait_for_node"],
        start_at(kidnapped, kidnapped.truth(0)),
        ["answered_frames", 0, 3],
        ["send_route", route, "odom"],
        ["wait", 1.5],
        ["send_route", route],
        ["answered_frames", 3, 6],
        ["send_goal", *route[-1]],
        ["answered_frames", 6, 8],
        ["send_route", [[x_m + 300.0, y_m] for x_m, y_m in route]],
        ["answered_frames", 8, 10],
        ["wait", 1.5],
    ]
    node = middleware.node(parameters(middleware, kidnapped), tmp_path / "node.log")
    try:
        said = middleware.play(script(kidnapped, steps, way=True), tmp_path, 120.0)
        assert interrupted(node)[0] == 0
    finally:
        node.kill()
    assert said["problem"] == ""
    ways = {positions_of(kidnapped, [stamp])[0]: (frame, points) for stamp, frame, points in said["ways"]}
    assert sorted(ways) == list(range(10))
    assert {frame for frame, _ in ways.values()} == {"map"}
    poses = {positions_of(kidnapped, [row[0]])[0]: row for row in said["poses"]}
    driven = np.array(route)
    for position in range(3, 8):
        points = np.array(ways[position][1])
        assert points[0] == pytest.approx(poses[position][1:4], abs=1e-6)  # it begins at the vehicle
        assert np.hypot(*np.diff(points[:, :2], axis=0).T) == pytest.approx(2.0, abs=0.1)
        off_m = np.hypot(*(points[1:9, None, :2] - driven[None]).transpose(2, 0, 1)).min(axis=1)
        assert off_m.max() < 2.0  # within 2 m of what is driven then, up to 16 m ahead
    assert [len(ways[position][1]) for position in (8, 9)] == [0, 0]  # the route lies elsewhere
    delete_all = 3
    for _, counts in said["fields"]:
        assert counts[0][1] == delete_all
        assert counts[1][0] == "field"
        assert counts[1][2] > 300
    assert all(frame == "map" and middle < 50 and free > 100 for _, frame, middle, free in said["drivable"])
    directions = [values["direction"] for _, _, values in said["diagnostics"]]
    assert any("branch" in told for told in directions)
    assert "~/route lies" in directions[-1]
    assert any(level == 1 and "no way ahead" in text for level, text, _ in said["diagnostics"])
    assert any("~/route is in the frame 'odom'" in values["last_refusal"] for _, _, values in said["diagnostics"])


def test_relocalize_finds_a_kidnapped_vehicle(middleware: Middleware, kidnapped: Played, tmp_path: Path, capsys):
    carried_m = math.dist(*((kidnapped.truth(p).x_m, kidnapped.truth(p).y_m) for p in (KIDNAPPED_AT - 1, KIDNAPPED_AT)))
    assert carried_m >= 300.0
    steps = [
        ["wait_for_node"],
        start_at(kidnapped, kidnapped.truth(0)),
        ["answered_frames", 0, KIDNAPPED_AT],
        ["call", "relocalize", None],
        ["until_found", KIDNAPPED_AT, len(kidnapped.drive), 5, 400.0],
        ["wait", 1.2],
    ]
    node = middleware.node(parameters(middleware, kidnapped), tmp_path / "node.log")
    try:
        said = middleware.play(script(kidnapped, steps), tmp_path, 600.0)
        status, _ = interrupted(node)
    finally:
        node.kill()
    assert said["problem"] == ""
    assert status == 0
    assert said["calls"][0][2] is True
    (before,) = [row for row in said["events"] if row[0] == "call"]
    found = said["poses"][before[1] :]
    assert len(found) > 5
    errors = [error_of(kidnapped, row) for row in found]
    searched = said["diagnostics"][-1][2]["search"]
    with capsys.disabled():
        position = positions_of(kidnapped, [found[0][0]])[0] - KIDNAPPED_AT
        slowest_s = 1e-3 * max(values["step_ms"] for _, _, values in said["timing"])
        sys.stdout.write(
            f"\n{middleware.name}: carried {carried_m:.0f} m; found after {position} frames, search {searched} tiles "
            f"in {slowest_s:.0f} s; last error {errors[-1][0]:.2f} m {errors[-1][1]:.2f} deg"
        )
    assert all(distance_m < 3.0 and angle_deg < 3.0 for distance_m, angle_deg in errors)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mapp": "x"}, "unknown parameter 'mapp'; did you mean 'map'?"),
        ({"offset_m": -1.0}, "offset_m"),
        ({"map": "/nowhere/town.osm"}, "/nowhere/town.osm"),
    ],
)
def test_a_wrong_parameter_is_one_line(
    middleware: Middleware, kidnapped: Played, tmp_path: Path, wrong: dict[str, Any], said: str
):
    log = tmp_path / "node.log"
    node = middleware.node({"map": str(kidnapped.map)} | wrong, log)
    assert node.wait(60) == 2
    lines = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]


def test_a_picture_is_the_map_and_a_fix_the_start(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    source = kidnapped.source
    layers = source.draw(Grid.square(260.0, 0.5), SE2())[:, ::-1]  # the first row of a picture is the north
    picture = np.zeros((*layers.shape[1:], 3), np.uint8)
    picture[layers[layer_index("road")] > 0] = (255, 0, 0)
    picture[layers[layer_index("building")] > 0] = (0, 0, 255)
    np.save(tmp_path / "picture.npy", picture)
    origin = source.frame
    values = {
        "map": "",
        "map_image_lat_deg": origin.origin_lat_deg,
        "map_image_lon_deg": origin.origin_lon_deg,
        "map_image_legend": '{"#ff0000": "road", "#0000ff": "building"}',
    }
    place = source.frame.geo_pose(kidnapped.truth(0))
    steps = [
        ["wait_for_node"],
        ["wait_for_state", "no map"],
        ["send_map", str(tmp_path / "picture.npy")],
        ["wait_for_state", "waiting"],
        ["send_fix", place.lat_deg, place.lon_deg],
        ["answered_frames", 0, 6, 90.0],
        ["wait", 2.5],
    ]
    node = middleware.node(parameters(middleware, kidnapped, **values), tmp_path / "node.log")
    try:
        said = middleware.play(script(kidnapped, steps, all_topics=True), tmp_path, 300.0)
        assert interrupted(node)[0] == 0
    finally:
        node.kill()
    assert said["problem"] == ""
    width, height, cell_m, counts = said["map"]
    assert (width, height, cell_m) == (pytest.approx(520, abs=1), pytest.approx(520, abs=1), 1.0)
    assert min(counts["0"], counts["100"]) > 10_000
    assert [state for _, state, _ in said["timing"]] == ["following"] * 6
    assert error_of(kidnapped, said["poses"][-1])[0] < 3.0


def test_a_manager_leads_a_lifecycle_node(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    if middleware.name != "ros2":
        pytest.skip("ROS 1 has no lifecycle")
    steps = [
        ["wait", 2.0],
        ["set_parameter", "offset_deg", 8.0],
        ["set_parameter", "offset_deg", 400.0],
        ["set_parameter", "offset_degg", 8.0],
        ["describe_parameter", "offset_deg"],
        ["change_state", "configure"],
        ["set_parameter", "offset_deg", 9.0],
        ["change_state", "activate"],
        ["wait_for_node"],
        start_at(kidnapped, kidnapped.truth(0)),
        ["answered_frames", 0, 3],
        ["change_state", "deactivate"],
        ["cloud", 3],
        ["wait", 1.5],
        ["change_state", "cleanup"],
        ["change_state", "configure"],
        ["change_state", "activate"],
        ["wait_for_reader"],
        start_at(kidnapped, kidnapped.truth(4)),
        ["answered_frames", 4, 7],
    ]
    node = middleware.node(parameters(middleware, kidnapped, autostart=False), tmp_path / "node.log")
    try:
        said = middleware.play(script(kidnapped, steps), tmp_path, 120.0)
        assert interrupted(node)[0] == 0
    finally:
        node.kill()
    assert said["problem"] == ""
    assert positions_of(kidnapped, [row[0] for row in said["timing"]]) == [0, 1, 2, 4, 5, 6]
    assert len(said["poses"]) == 6
    assert all(done for call, _, done, _ in said["calls"] if call == "change_state")
    changes = [(done, why) for call, _, done, why in said["calls"] if call == "set_parameter"]
    assert [done for done, _ in changes] == [True, False, False, False]
    assert "before the node is configured" in changes[3][1]
    (described,) = [answer for call, _, *answer in said["calls"] if call == "describe_parameter"]
    assert described == [3, ["the same for its heading; 180: any", [[0.0, 180.0]]]]


def test_the_player_brings_a_pose_in_ros_2(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    if middleware.name != "ros2":
        pytest.skip("in ROS 1 the launch file does it")
    folder = next(path for path in kidnapped.map.parent.glob("town_501_600_m_hdl64e_*"))
    words = [str(folder), "--map", str(kidnapped.map), "--rate", "5", "--loop"]
    player = middleware.run(["-m", "bevfusion.ros.player", *words], tmp_path / "player.log")
    values = {"extrinsics": [0.0] * 6 + [1.0], "use_sim_time": False}
    node = middleware.node(parameters(middleware, kidnapped, **values), tmp_path / "node.log")
    try:
        said = middleware.play(script(kidnapped, SETTLED, silent=True), tmp_path, 120.0)
        assert interrupted(node)[0] == interrupted(player)[0] == 0
    finally:
        node.kill()
        player.kill()
    assert said["problem"] == ""
    assert said["diagnostics"][-1][2]["odometry"] == "used"


CUT_SHORT = """
import sys, rclpy
from std_msgs.msg import Empty
from bevfusion.ros import player
def play(port, options):
    publisher = port.advertise(Empty, "/points", False)
    if sys.argv[2] == "fault":
        raise RuntimeError("no signal came")
    rclpy.shutdown()
    publisher.publish(Empty())
player.play, player.parse_options = play, str
sys.exit(player.main())
"""


@pytest.mark.parametrize(("why", "status"), [("signal", 0), ("fault", 1)])
def test_a_player_in_ros_2_may_be_cut_short_in_the_middle_of_a_message(
    middleware: Middleware, tmp_path: Path, why: str, status: int
):
    if middleware.name != "ros2":
        pytest.skip("rospy raises an exception of its own")
    player = middleware.run(["-c", CUT_SHORT, "drive", why], tmp_path / "player.log")
    try:
        assert player.wait(60) == status, (tmp_path / "player.log").read_text()
    finally:
        player.kill()


def test_roslaunch_brings_a_pose_and_the_player_plays(middleware: Middleware, kidnapped: Played, tmp_path: Path):
    if middleware.name != "ros1":
        pytest.skip("the launch package of ROS 2 is not on the package index")
    folder = next(path for path in kidnapped.map.parent.glob("town_501_600_m_hdl64e_*"))
    words = [f"map:={kidnapped.map}", f"play:={folder} --rate 5 --loop", f"python:={middleware.python}"]
    middleware.forget({"/bevfusion", "/use_sim_time"})
    launched = middleware.start(["roslaunch", "bevfusion", "localize.launch", *words], tmp_path / "launch.log")
    try:
        said = middleware.play(script(kidnapped, SETTLED, silent=True), tmp_path, 120.0)
        status, _ = interrupted(launched)
    finally:
        launched.kill()
    assert said["problem"] == ""
    assert status == 0
    assert said["diagnostics"][-1][2]["extrinsics"] == "tf"
    assert said["diagnostics"][-1][2]["odometry"] == "used"
    assert said["tf"][-1][1:3] in (["map", "odom"], ["odom", "base_link"])
