"""The ROS 2 node by itself, in the Python of a ROS 2: its parameters, and its bond with a lifecycle manager."""

import subprocess
from pathlib import Path

import pytest

from bevfusion.ros.parameters import FILES
from tests.ros.processes import REPOSITORY, Middleware

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def ros2(middleware: Middleware) -> Middleware:
    if middleware.name != "ros2":
        pytest.skip("of ROS 2 alone")
    return middleware


def error_line(ros2: Middleware, folder: Path, *words: str) -> str:
    """What the program says that `ros2 run bevfusion localize` starts, and ends with status 2."""
    log = folder / "node.log"
    program = str(REPOSITORY / "bevfusion" / "ros" / "scripts" / "localize")
    arguments = ["--ros-args", "--params-file", str(FILES[2]), *(word for pair in words for word in ("-p", pair))]
    node = ros2.run([program, *arguments], log)
    try:
        assert node.wait(60) == 2, log.read_text()
    except subprocess.TimeoutExpired:
        node.kill()
        raise
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map:=/nowhere/town.osm", "extrinsics:=1.2 0 1.7 0 0 1.57"), "/nowhere/town.osm"),
        (("map:=/nowhere/town.osm", "extrinsics:=[1.2, 0.0, 1.7, 0.0, 0.0, 1.57]"), "/nowhere/town.osm"),
        (("extrinsics:=[1.2, 0, 1.7, 0, 0, 1.57]",), "write a list as text"),
        (("extrinsics:=1.2 0 1.7 0 0 90",), "radians"),
        (("geopose:=geopose",), "geographic_msgs is not installed"),
    ],
)
def test_the_parameter_file_that_ships_and_lists_as_one_types_them(ros2: Middleware, tmp_path: Path, words, said):
    assert said in error_line(ros2, tmp_path, *words)


BOND = """
import sys
import rclpy
from bevfusion.ros.node_ros2 import LocalizationNode, given_parameters

rclpy.init(args=["--ros-args", "-p", "autostart:=" + sys.argv[1], "-p", "bond:=" + sys.argv[2]])
node = LocalizationNode(given_parameters("bevfusion"))
for transition in ("configure", "activate", "deactivate", "activate", "deactivate", "cleanup"):
    print(transition, flush=True)
    getattr(node, "trigger_" + transition)()
rclpy.shutdown()
"""

BONDPY = """
class Bond:  # by name alone: bondpy 4.1 has topic, id, node in this order, later ones begin with node
    def __init__(self, *, topic, id, node, on_broken=None, on_formed=None):
        print("bond", topic, id, node.get_name(), flush=True)
    def set_heartbeat_period(self, period_s):
        print("period", period_s, flush=True)
    def set_heartbeat_timeout(self, timeout_s):
        print("timeout", timeout_s, flush=True)
    def start(self):
        print("start", flush=True)
    def shutdown(self):
        print("shutdown", flush=True)
"""
FORMED = ["bond bond bevfusion bevfusion", "period 0.1", "timeout 4.0", "start"]
PLAIN = ["configure", "activate", "deactivate", "activate", "deactivate", "cleanup"]
BONDED = [
    "configure",
    "activate",
    *FORMED,
    "deactivate",
    "shutdown",
    "activate",
    *FORMED,
    "deactivate",
    "shutdown",
    "cleanup",
]


@pytest.mark.parametrize(
    ("installed", "autostart", "bond", "expected", "warned"),
    [
        (True, "false", "true", BONDED, False),
        (True, "false", "false", PLAIN, False),
        (True, "true", "true", PLAIN, False),  # nobody leads the node
        (False, "false", "true", PLAIN, True),
        (False, "false", "false", PLAIN, False),
    ],
)
def test_an_active_node_has_a_bond_with_its_manager(
    ros2: Middleware, tmp_path: Path, installed: bool, autostart: str, bond: str, expected: list[str], warned: bool
):
    paths = [str(REPOSITORY)]
    if installed:
        (tmp_path / "bondpy").mkdir()
        (tmp_path / "bondpy" / "__init__.py").touch()
        (tmp_path / "bondpy" / "bondpy.py").write_text(BONDPY)
        paths.append(str(tmp_path))
    there = Middleware(ros2.name, ros2.python, ros2.environment | {"PYTHONPATH": ":".join(paths)})
    log = tmp_path / "node.log"
    assert there.run(["-c", BOND, autostart, bond], log).wait(60) == 0, log.read_text()
    text = log.read_text()
    words = ("bond ", "period", "timeout", "start", "shutdown", *PLAIN)
    assert [line for line in text.splitlines() if line.startswith(words)] == expected
    assert ("bond_timeout: 0.0" in text) == warned
