import math
import threading
import time
from typing import Any

import numpy as np
import pytest

from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.core import NodeCore, Output
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import parse_parameters
from tests.ros.fakes import START_NS, FakeLocalizer, FakeMap, cloud, estimate, fix, initial, odometry

PERIOD_NS = 10**8
MOUNTED = [1.0, 0.5, 1.8, 0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)]  # a quarter turn to the left


class Bench:
    """A core with a fake network, and what it published."""

    def __init__(self, localizer: FakeLocalizer | None = None, offered: bool = False, **values: Any) -> None:
        self.localizer = localizer or FakeLocalizer()
        self.outputs: list[Output] = []
        self.core = NodeCore(
            parse_parameters({"extrinsics": MOUNTED, "transform_wait_s": 0.02} | values),
            self.outputs.append,
            odometry_is_offered=lambda: offered,
            open_locator=lambda checkpoint, source: self.localizer,
            make_sequence_localizer=lambda locator, source, config: self.localizer,
        )
        self.core.set_map(FakeMap())
        self.core.activate(True)

    def send(self, number: int, **changes: Any) -> Output | None:
        """A cloud, and what came of it; None if it was refused."""
        done, refused = len(self.outputs), self.core.status()
        stamp_ns = START_NS + number * PERIOD_NS
        self.core.points(changes.pop("message", None) or cloud(stamp_ns, **changes), stamp_ns)
        until_s = time.monotonic() + 5.0
        while time.monotonic() < until_s:
            if len(self.outputs) > done:
                return self.outputs[-1]
            if self.value("clouds_refused") != dict(refused.values)["clouds_refused"]:
                return None
            time.sleep(0.002)
        raise TimeoutError("no answer")

    def value(self, key: str) -> str:
        return dict(self.core.status().values)[key]


@pytest.fixture
def bench():
    made = []

    def make(*arguments: Any, **values: Any) -> Bench:
        made.append(Bench(*arguments, **values))
        return made[-1]

    yield make
    for item in made:
        assert item.core.stop(2.0)


def test_poses_are_those_of_the_vehicle_and_scans_in_its_axes(bench):
    tested = bench(initial_pose=[10.0, 20.0, 0.3])
    output = tested.send(0, xyz=np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 1.0]]))
    assert output.pose.map_from_base.x_m == pytest.approx(10.0)
    assert output.pose.map_from_base.yaw_rad == pytest.approx(0.3)
    prior, offset_m, offset_rad = tested.localizer.starts[0]
    assert prior == SE2(10.0, 20.0, 0.3) @ SE2(1.0, 0.5, 0.0)  # of the LiDAR
    assert (offset_m, offset_rad) == (20.0, pytest.approx(math.radians(10.0)))
    assert tested.localizer.frames[0].scan.xyz == pytest.approx(np.array([[0.0, 3.0, 0.0], [-2.0, 0.0, 1.0]]))
    assert output.stamp_ns == START_NS
    assert tested.localizer.threads == {"bevfusion worker"}


def test_covariance_of_the_vehicle_by_sampling():
    at_lidar = estimate(SE2(3.0, 4.0, 0.7))
    base_from_ego = SE2(2.0, -1.0, 0.0)
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([3.0, 4.0, 0.7], 1e-4 * at_lidar.covariance, 20_000)
    poses = [SE2(*draw) @ base_from_ego.inverse() for draw in draws]
    sampled = 1e4 * np.cov(np.array([(pose.x_m, pose.y_m, pose.yaw_rad) for pose in poses]).T)
    found = PlanarPose.of_base(at_lidar, base_from_ego)
    assert found.map_from_base == at_lidar.map_from_ego @ base_from_ego.inverse()
    assert found.covariance == pytest.approx(sampled, abs=0.01)


def test_map_to_odom_leaves_odom_to_base_to_the_odometry(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    for number in range(4):
        odom = SE2(5.0 + number, -3.0, 0.2 * number)
        tested.core.odom(odometry(START_NS + number * PERIOD_NS, odom))
        output = tested.send(number)
        parent, child, map_from_odom = output.tf
        assert (parent, child) == ("map", "odom")
        again = map_from_odom @ odom
        assert (again.x_m, again.y_m) == pytest.approx((output.pose.map_from_base.x_m, output.pose.map_from_base.y_m))
        # this localizer trusts odometry, so that map to odom stands still
        assert (map_from_odom.x_m, map_from_odom.y_m) == pytest.approx((-5.0, 3.0))
    assert tested.localizer.frames[-1].odom_from_ego == odom @ SE2(1.0, 0.5, 0.0)
    assert tested.value("odometry") == "used"


def test_without_odometry_tf_is_map_to_base(bench):
    output = bench(initial_pose=[0.0, 0.0, 0.0]).send(0)
    assert output.tf[:2] == ("map", "base_link")
    assert output.tf[2] == output.pose.map_from_base


@pytest.mark.parametrize(
    ("offered", "values", "has_tf", "said"),
    [
        (True, {}, False, "missing"),  # somebody publishes: base_link must not get a second parent
        (False, {"odometry": "required"}, False, "missing"),
        (True, {"odometry": "none"}, True, "off"),
        (False, {"publish_tf": False}, False, "absent"),
    ],
)
def test_base_never_gets_two_parents(bench, offered, values, has_tf, said):
    tested = bench(None, offered, initial_pose=[0.0, 0.0, 0.0], **values)
    output = tested.send(0)
    assert output.pose is not None
    assert (output.tf is not None) == has_tf
    assert tested.value("odometry") == said


def test_odometry_of_other_frames_is_refused(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.core.odom(odometry(START_NS, SE2(), frame="world"))
    tested.core.odom(odometry(START_NS, SE2(), child="trailer"))
    tested.core.odom(odometry(START_NS, SE2(), frame="/odom", child="/base_link"))  # the way of ROS 1
    assert len(tested.core.odometry) == 1
    assert "trailer" in tested.value("last_refusal")


def bad_sizes() -> Any:
    message = cloud(START_NS)
    message.width = 10_000_000
    return message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"xyz": np.zeros((0, 3))}, "no points"),
        ({"xyz": np.full((4, 3), np.nan)}, "none of its 4 points"),
        ({"xyz": np.full((4, 3), 1e7)}, "not a LiDAR scan"),
        ({"message": bad_sizes()}, "10000000"),
    ],
)
def test_a_bad_cloud_is_a_diagnostic(bench, changes, said):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    assert tested.send(0, **changes) is None
    status = tested.core.status()
    assert (status.level, said in status.message) == ("warn", True)
    assert tested.send(1).pose is not None
    assert tested.core.status().level == "ok"
    assert len(tested.localizer.frames[0].scan) > 0


@pytest.mark.parametrize("deskew", [True, False])
def test_points_of_a_turn_are_put_together(bench, deskew):
    tested = bench(extrinsics=[0.0] * 6 + [1.0], initial_pose=[0.0, 0.0, 0.0], deskew=deskew)
    for number in range(-3, 1):  # 10 m/s ahead
        tested.core.odom(odometry(START_NS + number * PERIOD_NS, SE2(1.0 * number, 0.0, 0.0)))
    # one post, 20 m ahead at the stamp, as seen 50 ms and 100 ms before
    xyz, times_s = np.array([[20.0, 0.0, 0.0], [20.5, 0.0, 0.0], [21.0, 0.0, 0.0]]), np.array([0.0, -0.05, -0.1])
    tested.send(0, message=cloud(START_NS, xyz, times_s=times_s))
    seen = tested.localizer.frames[0].scan.xyz[:, 0]
    assert seen == pytest.approx(20.0 if deskew else xyz[:, 0], abs=1e-3)


def test_many_bad_clouds_are_an_error(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    for number in range(10):
        tested.send(number, xyz=np.zeros((0, 3)))
    assert tested.core.status().level == "error"


def test_extrinsics_come_from_tf_at_the_stamp_and_are_never_the_identity(bench):
    tested = bench(extrinsics=[], initial_pose=[0.0, 0.0, 0.0])
    assert tested.send(0) is None
    assert (tested.core.status().level, tested.value("extrinsics")) == ("error", "failed")
    matrix = np.eye(4)
    matrix[:3, 3] = (2.0, 0.0, 1.0)
    tested.core.transforms.add_static("base_link", "lidar", matrix)
    assert tested.send(1).base_from_ego == SE2(2.0, 0.0, 0.0)
    assert tested.value("extrinsics") == "tf"
    assert tested.send(2, frame="nowhere") is None
    assert "nowhere" in tested.value("last_refusal")
    assert tested.send(3, frame="base_link").base_from_ego == SE2()  # the vehicle's own frame is no failure


def test_given_extrinsics_belong_to_one_frame(bench):
    tested = bench(lidar_frame="lidar", initial_pose=[0.0, 0.0, 0.0])
    assert tested.send(0, frame="other") is None
    assert tested.core.status().level == "error"
    assert tested.send(1) is not None


def test_nothing_is_said_before_a_start_and_while_lost(bench):
    tested = bench()
    assert tested.send(0).pose is None
    assert tested.value("state") == "waiting"
    assert not tested.localizer.frames
    tested.core.initial_pose(initial(SE2(1.0, 2.0, 0.0)))
    assert tested.send(1).pose is not None
    assert tested.core.status().level == "ok"
    tested.localizer.silent = True
    output = tested.send(2)
    assert (output.pose, output.tf, output.state) == (None, None, "doubtful")
    assert tested.core.status().level == "warn"
    tested.localizer.state = "lost"
    assert tested.send(3).tf is None
    assert tested.core.status().level == "error"


def test_an_initial_pose_of_another_frame_is_refused(bench):
    tested = bench()
    tested.core.initial_pose(initial(SE2(), frame="odom"))
    tested.core.initial_pose(broken_pose())
    assert tested.send(0).state == "waiting"


def broken_pose() -> Any:
    message = initial(SE2())
    message.pose.pose.orientation.w = 0.0
    return message


def test_a_fix_starts_with_any_heading_once(bench):
    tested = bench()
    place = FakeMap.frame.degrees_from_metres(30.0, 40.0)
    tested.core.fix(fix(*place, status=-1))  # no fix
    tested.core.fix(fix(0.0, 0.0))  # far off
    tested.core.fix(fix(math.nan, 8.0))
    assert tested.send(0).state == "waiting"
    tested.core.fix(fix(*place))
    assert tested.send(1).pose is not None
    (prior, offset_m, offset_rad) = tested.localizer.starts[0]
    assert (prior.x_m, prior.y_m) == (pytest.approx(30.0, abs=1e-3), pytest.approx(40.0, abs=1e-3))
    assert offset_rad == math.pi
    assert offset_m == pytest.approx(20.0 + math.hypot(1.0, 0.5))
    tested.core.fix(fix(*FakeMap.frame.degrees_from_metres(-30.0, 0.0)))
    tested.send(2)
    assert len(tested.localizer.starts) == 1


@pytest.mark.parametrize(("std_m", "offset_m"), [(2.0, 20.0), (8.0, 40.0)])
def test_a_fix_that_is_less_sure_is_sought_farther_off(bench, std_m, offset_m):
    tested = bench()
    tested.core.fix(fix(*FakeMap.frame.degrees_from_metres(30.0, 40.0), std_m=std_m))
    tested.send(0)
    assert tested.localizer.starts[0][1] == pytest.approx(offset_m + math.hypot(1.0, 0.5))


def test_a_fix_may_be_told_to_be_ignored(bench):
    tested = bench(start_from_fix=False)
    tested.core.fix(fix(*FakeMap.frame.degrees_from_metres(30.0, 40.0)))
    assert tested.send(0).state == "waiting"


def test_relocalize_searches_and_tells_how_far_it_is(bench):
    tested = bench(FakeLocalizer(step_s=0.005), initial_pose=[0.0, 0.0, 0.0])
    tested.send(0)
    assert tested.core.relocalize()[0]
    assert tested.value("state") == "searching"
    tested.core.points(cloud(START_NS + PERIOD_NS), START_NS)
    time.sleep(0.1)
    assert tested.value("state") == "searching"
    assert tested.value("search").endswith("/50")
    assert tested.core.relocalize() == (False, f"a search is under way ({tested.value('search')})")
    until_s = time.monotonic() + 5.0
    while tested.value("state") == "searching" and time.monotonic() < until_s:
        time.sleep(0.01)
    assert tested.localizer.starts[-1] == "anywhere"
    assert tested.send(2).pose is not None


def test_stopping_ends_a_search(bench):
    tested = bench(FakeLocalizer(step_s=0.05))
    tested.core.relocalize()
    tested.core.points(cloud(START_NS), START_NS)
    time.sleep(0.2)
    began = time.monotonic()
    assert tested.core.stop(2.0)
    assert time.monotonic() - began < 0.5


def test_relocalize_needs_a_map_and_an_active_node():
    core = NodeCore(parse_parameters({}), lambda output: None)
    assert core.status().level == "error"
    assert not core.relocalize()[0]
    assert core.stop(1.0)


def test_an_inactive_node_takes_no_clouds(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.core.activate(False)
    tested.core.points(cloud(START_NS), START_NS)
    time.sleep(0.1)
    assert not tested.outputs
    assert (tested.value("state"), tested.value("clouds_received")) == ("inactive", "0")
    assert tested.core.relocalize() == (False, "the node is not active")
    tested.core.activate(True)
    assert tested.send(1).pose is not None


def test_a_log_that_begins_again_is_started_as_before(bench):
    tested = bench()
    tested.core.initial_pose(initial(SE2(7.0, 8.0, 0.0)))
    for number in range(20):
        tested.core.odom(odometry(START_NS + number * PERIOD_NS, SE2(1.0 * number, 0.0, 0.0)))
        tested.send(number)
    assert tested.outputs[-1].pose.map_from_base.x_m == pytest.approx(26.0)
    tested.core.odom(odometry(START_NS, SE2()))
    output = tested.send(0)
    assert output.pose.map_from_base.x_m == pytest.approx(7.0)
    assert tested.localizer.frames[-1].odom_from_ego == SE2(1.0, 0.5, 0.0)
    assert (tested.value("resets"), len(tested.localizer.starts)) == ("1", 2)


def test_a_clock_that_jumps_elsewhere_waits_for_a_start(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    for number in (0, 100, 200):
        tested.send(number)
    output = tested.send(100)
    assert (output.pose, output.state, tested.value("resets")) == (None, "waiting", "1")
    tested.core.initial_pose(initial(SE2()))
    assert tested.send(101).pose is not None


def test_clouds_out_of_order_are_refused_and_no_reset(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.send(5)
    assert tested.send(3) is None
    assert "200 ms older" in tested.value("last_refusal")
    assert tested.value("resets") == "0"
    assert tested.send(6) is not None


def test_a_stamp_from_the_future_is_refused_and_does_no_harm(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.send(0)
    tested.core.points(cloud(START_NS + 3600 * 10**9), START_NS)
    time.sleep(0.1)
    assert "3600.0 s ahead" in tested.value("last_refusal")
    assert tested.send(1).pose is not None
    assert (tested.value("resets"), tested.value("clouds_refused")) == ("0", "1")


def test_late_clouds_are_counted_and_used(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.core.points(cloud(START_NS), START_NS + 3 * 10**9)
    time.sleep(0.1)
    assert tested.outputs[0].pose is not None
    assert (tested.value("clouds_late"), tested.value("delay_ms")) == ("1", "3000.000")
    assert "3.0 s old" in tested.core.status().message
    tested.core.points(cloud(START_NS + PERIOD_NS), START_NS + 10**12)
    time.sleep(0.05)
    assert "use_sim_time" in tested.core.status().message


def test_silence_is_a_warning(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0], silence_s=0.1)
    tested.send(0)
    assert tested.core.status().level == "ok"
    time.sleep(0.2)
    assert "no cloud for" in tested.core.status().message


def test_under_load_the_newest_cloud_is_taken_and_the_rest_counted(bench):
    tested = bench(FakeLocalizer(step_s=0.08), initial_pose=[0.0, 0.0, 0.0])
    for number in range(50):
        stamp_ns = START_NS + number * PERIOD_NS
        tested.core.points(cloud(stamp_ns), stamp_ns)
        time.sleep(0.01)
    time.sleep(0.3)
    processed, dropped = int(tested.value("clouds_processed")), int(tested.value("clouds_dropped"))
    assert processed + dropped == 50
    assert 3 <= processed <= 15
    assert tested.outputs[-1].stamp_ns == START_NS + 49 * PERIOD_NS
    lags_ms = [output.stages_ms["total_ms"] - output.stages_ms["step_ms"] for output in tested.outputs]
    assert np.percentile(lags_ms, 80) <= 80.0 + 30.0  # the step before, and a little


def test_a_pose_has_its_place_on_the_globe_by_its_own_map(bench):
    class OtherMap(FakeMap):
        frame = LocalFrame(-33.0, 151.0)

    tested = bench(initial_pose=[10.0, 20.0, 0.3])
    output = tested.send(0)
    assert output.geo_pose == FakeMap.frame.geo_pose(output.pose.map_from_base)
    tested.core.set_map(OtherMap())
    tested.core.initial_pose(initial(SE2(10.0, 20.0, 0.3)))
    output = tested.send(1)
    assert output.geo_pose == OtherMap.frame.geo_pose(output.pose.map_from_base)
    tested.localizer.silent = True
    assert tested.send(2).geo_pose is None


def test_a_new_map_forgets_the_old_place(bench):
    tested = bench(initial_pose=[0.0, 0.0, 0.0])
    tested.send(0)
    tested.core.set_map(FakeMap())
    assert tested.send(1).state == "waiting"


def test_callbacks_do_not_wait_for_the_network(bench):
    tested = bench(FakeLocalizer(step_s=0.5), initial_pose=[0.0, 0.0, 0.0])
    began = time.monotonic()
    for number in range(3):
        tested.core.points(cloud(START_NS + number * PERIOD_NS), START_NS)
        tested.core.odom(odometry(START_NS, SE2()))
        tested.core.status()
    assert time.monotonic() - began < 0.2
    assert threading.active_count() >= 2
