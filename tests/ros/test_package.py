"""The files beside the code: what they name is there."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

import bevfusion.ros
from bevfusion.ros.parameters import NodeParameters, parse_parameters

FOLDER = Path(bevfusion.ros.__file__).parent
TOPICS = set(re.findall(r'Topic\("([^"]+)"', (FOLDER / "publishers.py").read_text()))
INPUTS = {"/bevfusion/points", "/points", "/initialpose"}
LAUNCH_TEXT = (FOLDER / "launch" / "localize.launch.py").read_text()
README = (FOLDER / "README.md").read_text()


class Context(dict[str, str]):
    """The arguments of a launch, given or by default."""


def described(monkeypatch: pytest.MonkeyPatch, **given: str) -> tuple[set[str], list[SimpleNamespace]]:
    """Arguments and nodes of the ROS 2 launch file, with stand-ins for packages that are not on the package index."""

    def kept(kind: str):
        return lambda *arguments, **options: SimpleNamespace(kind=kind, arguments_given=arguments, **options)

    class Substitution:
        def __init__(self, name: str) -> None:
            self.name = name

        def perform(self, context: Context) -> str:
            return context[self.name]

    names = {
        "launch": {"LaunchDescription": list},
        "launch.actions": {name: kept(name) for name in ("DeclareLaunchArgument", "OpaqueFunction")},
        "launch.substitutions": {"LaunchConfiguration": Substitution},
        "launch_ros": {},
        "launch_ros.actions": {"Node": kept("Node")},
        "launch_ros.parameter_descriptions": {"ParameterValue": lambda value, value_type: value_type(value)},
    }
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("localize_launch", FOLDER / "launch" / "localize.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    *declared, start = module.generate_launch_description()
    defaults = {item.arguments_given[0]: item.default_value for item in declared}
    assert set(given) <= set(defaults)
    return set(defaults), start.function(Context(defaults | given))


def test_the_ros_2_launch_file_names_what_is_there(monkeypatch):
    declared, (node, player, rviz) = described(monkeypatch, map="town:501", play="town:501", rviz="true")
    for part in (node, player):
        assert part.executable == "python3"
        assert part.arguments[0] == "-m"
        assert importlib.util.find_spec(part.arguments[1]) is not None
        assert Path(part.additional_env["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert Path(rviz.arguments[1]).is_file()
    assert player.arguments[2:] == ["town:501", "--map", "town:501"]
    file, overrides = node.parameters
    values = yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"]
    assert set(values) - {"use_sim_time"} <= set(NodeParameters.model_fields)
    assert overrides == {"map": "town:501"}
    assert dict(node.remappings)["~/points"] == "/points"
    used = re.findall(r'given\["(\w+)"\]', LAUNCH_TEXT)
    listed = re.findall(r'"(\w+)"', LAUNCH_TEXT[LAUNCH_TEXT.index("TEXTS") : LAUNCH_TEXT.index("def start")])
    assert set(used) | set(listed) == declared


def test_arguments_of_the_ros_2_launch_file_have_the_type_of_their_parameter(monkeypatch):
    given = {"offset_m": "5", "autostart": "False", "use_sim_time": "true", "extrinsics": "1 0 2 0 0 0", "map": "7"}
    _, (node,) = described(monkeypatch, **given, points="/velodyne", namespace="robot")
    overrides = node.parameters[1]
    assert overrides == given | {"offset_m": 5.0, "autostart": False, "use_sim_time": True}
    assert overrides.pop("use_sim_time")
    assert parse_parameters(overrides).base_from_lidar is not None
    assert dict(node.remappings)["~/points"] == "/velodyne"
    assert node.namespace == "robot"


@pytest.mark.parametrize("ros", [1, 2])
def test_rviz_shows_topics_that_are_published(ros):
    text = (FOLDER / "rviz" / f"ros{ros}.rviz").read_text()
    assert yaml.safe_load(text)["Visualization Manager"]["Global Options"]["Fixed Frame"] == NodeParameters().map_frame
    shown = set(re.findall(r"(?:Topic|Value): (/\S+)", text))
    assert shown <= {topic.replace("~", "/bevfusion") for topic in TOPICS} | INPUTS
    assert {"/bevfusion/pose", "/bevfusion/map", "/initialpose"} <= shown


def test_the_ros_1_launch_file_and_its_parameters():
    root = ET.parse(FOLDER / "launch" / "localize.launch").getroot()
    nodes = [node for node in root.iter("node") if node.get("pkg") == "bevfusion"]
    for node in nodes:
        (program,) = FOLDER.rglob(str(node.get("type")))
        assert program.stat().st_mode & 0o111  # roslaunch looks for programs
    named = {item.get("name") for item in root.iter("param")}
    assert named <= set(NodeParameters.model_fields)
    arguments = {item.get("name"): str(item.get("default")) for item in root.iter("arg")}
    file = Path(arguments["parameters"].replace("$(dirname)", str(FOLDER / "launch")))
    assert parse_parameters(yaml.safe_load(file.read_text())) == NodeParameters()
    views = [part for node in root.iter("node") for part in str(node.get("args")).split() if part.endswith(".rviz")]
    assert [Path(part.replace("$(dirname)", str(FOLDER / "launch"))).is_file() for part in views] == [True]


def test_the_package_carries_them():
    listed = (FOLDER.parents[1] / "pyproject.toml").read_text()
    folders = [path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    files = ("ros/*.json", "ros/*.md", "ros/*.xml", "ros/Dockerfile")
    for pattern in (*files, *(f"ros/{folder}/*" for folder in folders)):
        assert f'"{pattern}"' in listed
        assert list(FOLDER.parent.glob(pattern))
    assert ET.parse(FOLDER / "package.xml").getroot().findtext("name") == "bevfusion"


def test_the_document_lists_every_parameter_and_topic():
    document = README
    for name, field in NodeParameters.model_fields.items():
        assert re.search(rf"^\| `{name}` \|.*\| {re.escape(field.description or '')} \|$", document, re.MULTILINE), name
    for topic in TOPICS:
        assert f"`{topic}`" in document, topic


def test_colcon_builds_the_package(tmp_path):
    """Into a workspace, from a source folder in it; the programs and all that they name are there then."""
    if shutil.which("colcon") is None:
        pytest.skip("no colcon here (Debian: colcon, python3-colcon-ros)")
    source = tmp_path / "src" / "bevfusion"
    root = FOLDER.parents[1]
    shutil.copytree(FOLDER, source / "bevfusion" / "ros", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):  # at the top there is no package that colcon would take
        shutil.copy(root / name, source / name)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["colcon", "build"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "doesn't explicitly install" not in done.stdout + done.stderr
    prefix = tmp_path / "install" / "bevfusion"
    assert (prefix / "share/ament_index/resource_index/packages/bevfusion").is_file()
    share = prefix / "share" / "bevfusion"
    for program in ("localize", "play"):
        assert (prefix / "lib" / "bevfusion" / program).stat().st_mode & 0o111
    assert ET.parse(share / "package.xml").getroot().findtext("export/build_type") == "ament_python"
    for folder in ("config", "launch", "rviz"):
        assert {path.name for path in (share / folder).iterdir()} == {path.name for path in (FOLDER / folder).iterdir()}
    assert (share / "fastdds.xml").is_file()


def test_versions_agree():
    project = (FOLDER.parents[1] / "pyproject.toml").read_text()
    version = ET.parse(FOLDER / "package.xml").getroot().findtext("version")
    assert f'\nversion = "{version}"\n' in project


def test_messages_that_are_imported_are_dependencies():
    listed = {item.text for item in ET.parse(FOLDER / "package.xml").getroot().iter("exec_depend")}
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.py"))
    imported = set(re.findall(r"^ *(?:from|import) (\w+(?:_msgs|_srvs|_interfaces))\b", text, re.MULTILINE))
    assert {"sensor_msgs", "geographic_msgs", "tf2_msgs", "rcl_interfaces"} <= imported <= listed


def test_the_foxglove_layout_shows_topics_that_are_published():
    layout = json.loads((FOLDER / "foxglove" / "localization.json").read_text())

    def panels(node: str | dict) -> set[str]:
        return {node} if isinstance(node, str) else panels(node["first"]) | panels(node["second"])

    assert panels(layout["layout"]) == set(layout["configById"])
    shown = set(re.findall(r'"(/[a-z_/]+)', json.dumps(layout["configById"]))) - {"/goal_pose", "/clicked_point"}
    assert shown <= {topic.replace("~", "/bevfusion") for topic in TOPICS} | INPUTS
    assert {"/bevfusion/pose", "/bevfusion/geopose", "/initialpose"} <= shown


def test_the_recipes_fit_the_node():
    recipes = {}
    for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL):
        recipes |= yaml.safe_load(block)
    defaults = NodeParameters()
    assert recipes["lifecycle_manager_localization"]["ros__parameters"]["node_names"] == ["bevfusion"]
    costmap = recipes["global_costmap"]["global_costmap"]["ros__parameters"]
    assert (costmap["global_frame"], costmap["robot_base_frame"]) == (defaults.map_frame, defaults.base_frame)
    assert costmap["static_layer"]["map_topic"].replace("/bevfusion", "~") in TOPICS
    ekf = recipes["ekf_filter_node_map"]["ros__parameters"]
    frames = (ekf["map_frame"], ekf["odom_frame"], ekf["base_link_frame"])
    assert frames == (defaults.map_frame, defaults.odom_frame, defaults.base_frame)
    assert ekf["pose0"].replace("/bevfusion", "~") in TOPICS
    assert [len(ekf[f"{name}_config"]) for name in ("odom0", "pose0")] == [15, 15]
    assert [place for place, used in enumerate(ekf["pose0_config"]) if used] == [0, 1, 5]  # x, y, yaw
    options = set(re.findall(r"-p (\w+):=", README))
    assert options <= set(NodeParameters.model_fields)


def test_the_dockerfile_names_what_is_there():
    text = (FOLDER / "Dockerfile").read_text()
    assert "bevfusion/ros" in text
    assert (FOLDER / "launch" / re.search(r"bevfusion (\S+\.py)", text).group(1)).is_file()
