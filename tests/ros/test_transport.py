"""Large clouds, best effort, through the profile that ships."""

import sys

import pytest

from tests.ros.processes import Middleware

pytestmark = [pytest.mark.ros, pytest.mark.slow]

PROGRAM = """
import array, sys, time
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

rclpy.init()
node = rclpy.create_node("transport_" + sys.argv[1])
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
until = time.monotonic() + 40.0
if sys.argv[1] == "send":
    publisher = node.create_publisher(PointCloud2, "/large", qos)
    while not publisher.get_subscription_count() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    message = PointCloud2(width=60_000, height=1, point_step=32, row_step=1_920_000)
    message.data = array.array("B", bytes(1_920_000))
    for _ in range(100):
        publisher.publish(message)
        time.sleep(0.05)
    time.sleep(1.0)
else:
    got = []
    node.create_subscription(PointCloud2, "/large", lambda message: got.append(len(message.data)), qos)
    last = time.monotonic()
    while time.monotonic() < until and not (got and time.monotonic() - last > 2.0):
        before = len(got)
        rclpy.spin_once(node, timeout_sec=0.1)
        last = time.monotonic() if len(got) > before else last
    print("got", len(got))
rclpy.try_shutdown()
"""


def received(middleware: Middleware, folder) -> int:
    """Of 100 clouds of 1.9 MB, twenty a second."""
    log = folder / "receive.log"
    receiver = middleware.run(["-c", PROGRAM, "receive"], log)
    assert middleware.run(["-c", PROGRAM, "send"], folder / "send.log").wait(90) == 0
    assert receiver.wait(60) == 0
    return int(log.read_text().split()[-1])


def test_no_cloud_is_lost_with_the_profile(middleware: Middleware, tmp_path, capsys):
    if middleware.name != "ros2":
        pytest.skip("ROS 1 sends by TCP")
    got = received(middleware, tmp_path)
    variable = "FASTRTPS_DEFAULT_PROFILES_FILE"
    bare = {key: value for key, value in middleware.environment.items() if key != variable}
    without = received(Middleware(middleware.name, middleware.python, bare), tmp_path)
    with capsys.disabled():
        sys.stdout.write(
            f"\nbest effort, 100 clouds of 1.9 MB at 20 Hz: {got} arrive with the profile, {without} without"
        )
    assert got >= 95
