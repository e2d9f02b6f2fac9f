"""What is computed for whom; run in the Python of a ROS, as the module needs its message packages."""

import pytest

from tests.ros.processes import Middleware

pytestmark = [pytest.mark.ros, pytest.mark.slow]

PROGRAM = """
import math
from dataclasses import replace
from types import SimpleNamespace
import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import NavSatFix
import bevfusion.ros.publishers as publishers
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.core import NodeCore, Output
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import NodeParameters, parse_parameters
from bevfusion.structures import DataError, Scan
from tests.ros.fakes import FakeLocalizer, FakeMap, estimate

made, wanted = [], set()

class Publisher:
    def __init__(self, topic):
        self.topic = topic
    def publish(self, message):
        made.append(self.topic.name)

counted_names = ("pose_message", "heading_message", "timing_message", "fix_message", "belief_slice")
for name in (*counted_names, "occupancy_of_map", "map_segments_m"):
    original = getattr(publishers, name)
    def counted(*arguments, name=name, original=original):
        made.append(name)
        return original(*arguments)
    setattr(publishers, name, counted)

core = NodeCore(
    NodeParameters(),
    lambda output: None,
    open_locator=lambda checkpoint, source: FakeLocalizer(),
    make_sequence_localizer=lambda locator, source, config: locator,
)
core.set_map(FakeMap())
found = estimate(SE2(1.0, 2.0, 0.3))
scan = Scan(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
pose = PlanarPose.of_base(found, SE2())
place = FakeMap.frame.geo_pose(pose.map_from_base)
spoken = Output(10**18, "following", scan, SE2(), pose, place, 0.1, found, ("map", "odom", SE2()), {"step_ms": 1.0})
silent = Output(10**18, "lost", scan, SE2(), None, None, 0.1, None, None, {"step_ms": 1.0})
fix_wanted = parse_parameters({"geopose": "fix"})
out = publishers.Publishers(fix_wanted, Publisher, wanted.__contains__)

out.publish_output(core, spoken)
out.publish_map(core)
assert set(made) <= {"/tf"}, made  # TF is for everybody, the rest for nobody
made.clear()
wanted |= {topic.name for topic in publishers.TOPICS} | {"~/geopose"}
out.publish_output(core, silent)
assert set(made) == {"timing_message", "~/timing"}, made  # nothing about a place while lost
made.clear()
out.publish_output(core, spoken)
assert {"~/pose", "~/heading", "~/geopose", "~/belief", "~/timing", "~/transform"} <= set(made), made
made.clear()
out.publish_map(core)
out.publish_map(core)
assert made.count("occupancy_of_map") == made.count("~/map") == made.count("~/map_markers") == 1, made
out.reset_map()
out.publish_map(core)
assert made.count("~/map") == 2, made
message = publishers.pose_message(spoken, "map")
assert list(message.pose.covariance)[0] == pose.covariance[0, 0] and list(message.pose.covariance)[14] == 1e6

# the globe: a fix turns the covariance to true east, a GeoPoseStamped has the heading; no height is known
turned = GeoPose(place.lat_deg, place.lon_deg, pose.map_from_base.yaw_rad + 0.5 * math.pi)
fix = publishers.fix_message(replace(spoken, geo_pose=turned), "base_link")
assert (fix.latitude, fix.longitude, fix.header.frame_id) == (place.lat_deg, place.lon_deg, "base_link")
assert math.isnan(fix.altitude) and fix.position_covariance_type == 3 and fix.status.status == 0
east, _, _, _, north, *_, up = fix.position_covariance
assert np.allclose((east, north, up), (pose.covariance[1, 1], pose.covariance[0, 0], 1e6))

class GeoPoseStamped:  # stands for that of geographic_msgs, which is not on the package index
    def __init__(self):
        stamped = PoseStamped()
        self.header = stamped.header
        self.pose = SimpleNamespace(position=SimpleNamespace(), orientation=stamped.pose.orientation)

publishers.GeoPoseStamped = None
assert publishers.geopose_kind(NodeParameters()) is NavSatFix
try:
    publishers.geopose_kind(parse_parameters({"geopose": "geopose"}))
except DataError as error:
    assert "geographic_msgs is not installed" in str(error)
else:
    raise AssertionError("geographic_msgs is not missed")
publishers.GeoPoseStamped = GeoPoseStamped
assert publishers.geopose_kind(NodeParameters()) is GeoPoseStamped
assert publishers.geopose_kind(fix_wanted) is NavSatFix
geo = publishers.geopose_message(spoken, "base_link")
assert (geo.pose.position.latitude, geo.pose.position.longitude) == (place.lat_deg, place.lon_deg)
assert math.isnan(geo.pose.position.altitude) and geo.header.frame_id == "base_link"
assert np.isclose(2.0 * math.atan2(geo.pose.orientation.z, geo.pose.orientation.w), place.yaw_rad)
publishers.Publishers(NodeParameters(), lambda topic: made.append((topic.name, topic.kind)), wanted.__contains__)
assert ("~/geopose", GeoPoseStamped) in made
picture = publishers.image_message(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "base_link", 5 * 10**9 + 7)
assert bytes(picture.data) == bytes(range(24)) and picture.step == 12
core.stop(1.0)
print("done")
"""


def test_nothing_is_computed_for_topics_without_subscribers(middleware: Middleware, tmp_path):
    log = tmp_path / "log"
    assert middleware.run(["-c", PROGRAM], log).wait(120) == 0, log.read_text()
    assert "done" in log.read_text()
