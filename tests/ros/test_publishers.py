"""What is computed for whom; run in the Python of a ROS, as the module needs its message packages."""

import pytest

from tests.ros.processes import Middleware

pytestmark = [pytest.mark.ros, pytest.mark.slow]

PROGRAM = """
import numpy as np
import bevfusion.ros.publishers as publishers
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.core import NodeCore, Output
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import Scan
from tests.ros.fakes import FakeLocalizer, FakeMap, estimate

made, wanted = [], set()

class Publisher:
    def __init__(self, topic):
        self.topic = topic
    def publish(self, message):
        made.append(self.topic.name)

for name in ("pose_message", "heading_message", "timing_message", "belief_slice", "occupancy_of_map", "map_segments_m"):
    original = getattr(publishers, name)
    def counted(*arguments, name=name, original=original):
        made.append(name)
        return original(*arguments)
    setattr(publishers, name, counted)

core = NodeCore(NodeParameters(), lambda output: None, open_locator=lambda checkpoint, source: FakeLocalizer())
core.set_map(FakeMap())
found = estimate(SE2(1.0, 2.0, 0.3))
scan = Scan(np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
pose = PlanarPose.of_base(found, SE2())
spoken = Output(10**18, "following", scan, SE2(), pose, 0.1, found, ("map", "odom", SE2()), {"step_ms": 1.0})
silent = Output(10**18, "lost", scan, SE2(), None, 0.1, None, None, {"step_ms": 1.0})
out = publishers.Publishers(Publisher, wanted.__contains__)

out.publish_output(core, spoken)
out.publish_map(core)
assert set(made) <= {"/tf"}, made  # TF is for everybody, the rest for nobody
made.clear()
wanted |= {topic.name for topic in publishers.TOPICS}
out.publish_output(core, silent)
assert set(made) == {"timing_message", "~/timing"}, made  # nothing about a place while lost
made.clear()
out.publish_output(core, spoken)
assert {"~/pose", "~/heading", "~/belief", "~/timing", "~/transform"} <= set(made), made
made.clear()
out.publish_map(core)
out.publish_map(core)
assert made.count("occupancy_of_map") == made.count("~/map") == made.count("~/map_markers") == 1, made
out.reset_map()
out.publish_map(core)
assert made.count("~/map") == 2, made
message = publishers.pose_message(spoken, "map")
assert list(message.pose.covariance)[0] == pose.covariance[0, 0] and list(message.pose.covariance)[14] == 1e6
picture = publishers.image_message(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "base_link", 5 * 10**9 + 7)
assert bytes(picture.data) == bytes(range(24)) and picture.step == 12
core.stop(1.0)
print("done")
"""


def test_nothing_is_computed_for_topics_without_subscribers(middleware: Middleware, tmp_path):
    log = tmp_path / "log"
    assert middleware.run(["-c", PROGRAM], log).wait(120) == 0, log.read_text()
    assert "done" in log.read_text()
