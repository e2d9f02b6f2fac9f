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

ways = ("path_message", "direction_markers")
counted_names = (*ways, "pose_message", "heading_message", "timing_message", "fix_message", "belief_slice")
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
empty = {"path_message", "~/direction", "direction_markers", "~/direction_field"}  # what was shown is taken away
assert set(made) == {"timing_message", "~/timing"} | empty, made  # nothing about a place while lost
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

# the way ahead, along a route: from the vehicle on, in the map's frame, with the stamp of the cloud
from std_msgs.msg import Header
from nav_msgs.msg import Path
from geometry_msgs.msg import PoseStamped
from bevfusion.maps.render import OsmRenderer
from tests.direction.graphs import crossing, town
core.direction.use(OsmRenderer(town(crossing())))
route = Path()
route.header.frame_id = "map"
for x, y in ((-30.0, 0.0), (0.0, 0.0), (0.0, 60.0)):
    stamped = PoseStamped()
    stamped.pose.position.x, stamped.pose.position.y, stamped.pose.orientation.w = x, y, 1.0
    route.poses.append(stamped)
core.route(route)
coming = PlanarPose(SE2(-20.0, -1.5, 0.0), np.diag([0.1, 0.1, 1e-4]))
way = core.direction.ahead(coming)
assert core.direction.status == "as asked", core.direction.status
path = publishers.path_message(way, "map", 5 * 10**9 + 7)
assert type(path) is Path and path.header.frame_id == "map" and len(path.poses) == 21
stamp = path.header.stamp
assert (getattr(stamp, "sec", None) or stamp.secs, getattr(stamp, "nanosec", None) or stamp.nsecs) == (5, 7)
first, last = path.poses[0].pose, path.poses[-1].pose
assert np.allclose((first.position.x, first.position.y), (-20.0, -1.5))
assert 15.0 < last.position.y < 25.0
assert abs(2.0 * math.atan2(last.orientation.z, last.orientation.w) - 0.5 * math.pi) < 0.1
field = core.direction.field(way)
array = publishers.direction_markers(way, field, "map", 7)
cleared, arrows, line = array.markers
assert cleared.action == type(cleared).DELETEALL and (arrows.ns, line.ns) == ("field", "path")
assert len(arrows.points) == len(arrows.colors) and len(arrows.points) % 6 == 0 and len(arrows.points) > 600
assert len(line.points) == 21 and np.isclose(line.scale.x, 0.8)
assert [marker.action for marker in publishers.direction_markers(None, None, "map", 7).markers] == [cleared.action]
assert len(publishers.path_message(None, "map", 7).poses) == 0
grid = publishers.occupancy_message(publishers.drivable_cells(field), "map", 7)
cells = np.array(grid.data).reshape(grid.info.height, grid.info.width)
assert (grid.info.width, grid.info.resolution) == (64, 1.0) and cells[32, 32] == 0 and cells[52, 12] == 100
made.clear()
wanted.clear()
wanted.add("~/direction")
out.publish_output(core, replace(spoken, pose=coming))
assert "~/direction" in made and "direction_markers" not in made, made
from io import BytesIO
for message in (path, array, grid):  # as the middleware packs them
    if hasattr(message, "serialize"):
        message.serialize(BytesIO())
    else:
        from rclpy.serialization import serialize_message
        assert len(serialize_message(message)) > 500
core.stop(1.0)
print("done")
"""


def test_nothing_is_computed_for_topics_without_subscribers(middleware: Middleware, tmp_path):
    log = tmp_path / "log"
    assert middleware.run(["-c", PROGRAM], log).wait(120) == 0, log.read_text()
    assert "done" in log.read_text()
