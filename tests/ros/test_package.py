"""The files beside the code: what they name is there."""

import importlib.util
import itertools
import re
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


def described(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What the ROS 2 launch file describes, with stand-ins for a package that is not on the package index."""

    def kept(kind: str):
        return lambda *arguments, **options: SimpleNamespace(kind=kind, arguments=arguments, **options)

    names = {
        "launch": {"LaunchDescription": list},
        "launch.actions": {name: kept(name) for name in ("DeclareLaunchArgument", "ExecuteProcess")},
        "launch.conditions": {"IfCondition": kept("IfCondition")},
        "launch.substitutions": {
            "LaunchConfiguration": lambda name: f"<{name}>",
            "PythonExpression": lambda parts: "".join(parts),
        },
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
    return module.generate_launch_description()


def test_the_ros_2_launch_file_names_what_is_there(monkeypatch):
    parts = described(monkeypatch)
    declared = {part.arguments[0] for part in parts if part.kind == "DeclareLaunchArgument"}
    node, player, rviz = (part for part in parts if part.kind == "ExecuteProcess")
    words = ["".join(word) if isinstance(word, list) else word for word in node.cmd]
    given = [word.split(":=") for before, word in itertools.pairwise(words) if before == "-p"]
    assert {name for name, _ in given} - {"use_sim_time"} <= set(NodeParameters.model_fields)
    used = set(re.findall(r"<(\w+)>", " ".join([*words, *player.cmd, player.condition.arguments[0]]))) | {"rviz"}
    assert used == declared
    for part in (node, player):
        assert importlib.util.find_spec(part.cmd[2]) is not None
        assert Path(part.additional_env["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert Path(rviz.cmd[2]).is_file()


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
        program = FOLDER / str(node.get("type"))
        assert program.stat().st_mode & 0o111  # roslaunch looks for programs
    named = {item.get("name") for item in root.iter("param")}
    assert named <= set(NodeParameters.model_fields)
    parse_parameters(yaml.safe_load((FOLDER / "launch" / "parameters.yaml").read_text()))


def test_the_package_carries_them():
    listed = (FOLDER.parents[1] / "pyproject.toml").read_text()
    for pattern in ("ros/*.json", "ros/*.md", "ros/*.xml", "ros/launch/*", "ros/rviz/*"):
        assert f'"{pattern}"' in listed
        assert list(FOLDER.parent.glob(pattern))
    assert ET.parse(FOLDER / "package.xml").getroot().findtext("name") == "bevfusion"


def test_the_document_lists_every_parameter_and_topic():
    document = (FOLDER / "README.md").read_text()
    for name, field in NodeParameters.model_fields.items():
        assert re.search(rf"^\| `{name}` \|.*\| {re.escape(field.description or '')} \|$", document, re.MULTILINE), name
    for topic in TOPICS:
        assert f"`{topic}`" in document, topic
