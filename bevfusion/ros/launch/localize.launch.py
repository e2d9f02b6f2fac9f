"""Starts the node: `ros2 launch bevfusion/ros/launch/localize.launch.py map:=town.osm.pbf points:=/velodyne_points`."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression

FOLDER = Path(__file__).resolve().parents[1]
ARGUMENTS = {
    "map": (None, "map file, or town:SEED"),
    "checkpoint": ("default", "default, classical, a .safetensors file or the folder of a run"),
    "points": ("/points", "topic of the clouds"),
    "odom": ("/odom", "topic of the odometry"),
    "fix": ("/fix", "topic of the GNSS"),
    "offset_m": ("20.0", "a start may be off by so much"),
    "offset_deg": ("10.0", "the same for its heading"),
    "autostart": ("true", "false: a lifecycle manager configures and activates"),
    "use_sim_time": ("false", "true for bags, played with --clock"),
    "play": ("", "a drive to play, or town:SEED"),
    "rviz": ("false", "show it"),
    "python": ("python3", "the Python that bevfusion is installed in"),
}
PARAMETERS = ("map", "checkpoint", "offset_m", "offset_deg", "autostart", "use_sim_time")
REMAPS = {"~/points": "points", "~/odom": "odom", "~/fix": "fix"}


def generate_launch_description() -> LaunchDescription:
    """The node, and, if asked for, a player and RViz."""
    given = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    node = [given["python"], "-m", "bevfusion.ros.node_ros2", "--ros-args", "-r", "~/initialpose:=/initialpose"]
    for name in PARAMETERS:
        node += ["-p", [f"{name}:=", given[name]]]
    for topic, name in REMAPS.items():
        node += ["-r", [f"{topic}:=", given[name]]]
    player = [given["python"], "-m", "bevfusion.ros.player", given["play"], "--map", given["map"]]
    profile = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(FOLDER / "fastdds.xml")}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            ExecuteProcess(cmd=node, output="screen", additional_env=profile),
            ExecuteProcess(
                cmd=player,
                output="screen",
                additional_env=profile,
                condition=IfCondition(PythonExpression(["'", given["play"], "' != ''"])),
            ),
            ExecuteProcess(
                cmd=["rviz2", "-d", str(FOLDER / "rviz" / "ros2.rviz")], condition=IfCondition(given["rviz"])
            ),
        ]
    )
