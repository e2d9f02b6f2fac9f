"""Starts the node, and on demand a player and RViz: `ros2 launch bevfusion localize.launch.py map:=town.osm.pbf`.

The same from a source folder, with nothing built: `ros2 launch bevfusion/ros/launch/localize.launch.py ...`. Arguments
that are left empty are as the parameter file says.
"""

from pathlib import Path
from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

FOLDER = Path(__file__).resolve().parents[1]
ARGUMENTS = {
    "map": ("", "map file, or town:SEED"),
    "checkpoint": ("", "default, classical, a .safetensors file or the folder of a run"),
    "extrinsics": ("", "LiDAR on the vehicle: 'x y z roll pitch yaw' in metres and radians; empty: from TF"),
    "offset_m": ("", "a start may be off by so much"),
    "offset_deg": ("", "the same for its heading"),
    "autostart": ("", "false: a lifecycle manager configures and activates"),
    "use_sim_time": ("", "true for bags, played with --clock"),
    "parameters": (str(FOLDER / "config" / "parameters_ros2.yaml"), "file with all the other parameters"),
    "name": ("bevfusion", "of the node"),
    "namespace": ("", "of the node"),
    "points": ("/points", "topic of the clouds"),
    "odom": ("/odom", "topic of the odometry"),
    "fix": ("/fix", "topic of the GNSS"),
    "initialpose": ("/initialpose", "topic of starts"),
    "play": ("", "a drive to play, or town:SEED"),
    "rviz": ("false", "show it"),
    "python": ("python3", "the Python that bevfusion is installed in"),
}
TEXTS, NUMBERS, SWITCHES = (
    ("map", "checkpoint", "extrinsics"),
    ("offset_m", "offset_deg"),
    ("autostart", "use_sim_time"),
)
TOPICS = ("points", "odom", "fix", "initialpose")


def start(context: Any) -> list[Any]:
    """The processes, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides: dict[str, Any] = {name: ParameterValue(given[name], value_type=str) for name in TEXTS if given[name]}
    overrides |= {name: float(given[name]) for name in NUMBERS if given[name]}
    overrides |= {name: given[name].lower() == "true" for name in SWITCHES if given[name]}
    profile = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(FOLDER / "fastdds.xml")}
    found = [
        Node(
            executable=given["python"],
            arguments=["-m", "bevfusion.ros.node_ros2"],
            name=given["name"],
            namespace=given["namespace"] or None,
            parameters=[given["parameters"], overrides],
            remappings=[(f"~/{topic}", given[topic]) for topic in TOPICS],
            additional_env=profile,
            output="screen",
        )
    ]
    if given["play"]:
        played = ["-m", "bevfusion.ros.player", given["play"], "--map", given["map"]]
        found.append(
            Node(executable=given["python"], arguments=played, name="player", additional_env=profile, output="screen")
        )
    if given["rviz"].lower() == "true":
        shown = ["-d", str(FOLDER / "rviz" / "ros2.rviz")]
        found.append(Node(package="rviz2", executable="rviz2", arguments=shown, output="screen"))
    return found


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    declared = (
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    )
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
