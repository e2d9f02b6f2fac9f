import json
import math
import re

import numpy as np
import pytest
import yaml

from bevfusion.ros.parameters import (
    EXAMPLES,
    FILES,
    SCHEMA,
    NodeParameters,
    file_text,
    parse_parameters,
    range_of,
    schema_text,
)
from bevfusion.structures import DataError


def test_the_schema_that_ships_is_that_of_the_model():
    assert SCHEMA.read_text() == schema_text()  # else: python -m bevfusion.ros.parameters
    properties = json.loads(schema_text())["properties"]
    assert all(item["description"] for item in properties.values())
    assert json.loads(schema_text())["additionalProperties"] is False


def test_defaults_are_valid_and_integers_pass_for_floats():
    assert parse_parameters({}) == NodeParameters()
    assert parse_parameters({"offset_m": 30, "extrinsics": [1, 0, 2, 0, 0, 0, 1]}).offset_m == 30.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ofset_m": 3.0}, "unknown parameter 'ofset_m'; did you mean 'offset_m'"),
        ({"offset_deg": 181.0}, "offset_deg"),
        ({"offset_m": float("nan")}, "offset_m"),
        ({"extrinsics": [1.0, 2.0]}, "x y z roll pitch yaw or x y z qx qy qz qw, got 2"),
        ({"extrinsics": "1 2 three 4 5 6"}, "expected numbers, got '1 2 three 4 5 6'"),
        ({"extrinsics": "1 2 3 0 0 90"}, "radians"),
        ({"extrinsics": "1 2 3 0 0 nan"}, "extrinsics"),
        ({"extrinsics": [0.0] * 7}, "length 1"),
        ({"initial_pose": [1.0]}, "x y yaw"),
        ({"odom_frame": "map"}, "must differ"),
        ({"odometry": "maybe"}, "odometry"),
        ({"threads": "many"}, "threads"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(values, said):
    with pytest.raises(DataError) as caught:
        parse_parameters(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ranges_come_from_the_model():
    assert range_of(NodeParameters.model_fields["offset_deg"]) == (0.0, 180.0)
    assert range_of(NodeParameters.model_fields["threads"]) == (0.0, 256.0)
    low, high = range_of(NodeParameters.model_fields["slow_ms"])
    assert (low, high) == (0.0, float("inf"))


def test_extrinsics_as_a_matrix():
    assert NodeParameters().base_from_lidar is None
    matrix = parse_parameters({"extrinsics": [1.0, 2.0, 3.0, 0.0, 0.0, 1.0, 0.0]}).base_from_lidar
    assert matrix is not None
    assert matrix[:3, 3].tolist() == [1.0, 2.0, 3.0]
    assert matrix[0, 0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "given", ["1 2 3 0.1 -0.2 1.5", "[1, 2, 3, 0.1, -0.2, 1.5]", " 1,2,3 , 0.1,-0.2,1.5 ", [1, 2, 3, 0.1, -0.2, 1.5]]
)
def test_extrinsics_as_a_list_from_the_command_line(given):
    matrix = parse_parameters({"extrinsics": given}).base_from_lidar
    assert matrix is not None

    def turn(axis: int, angle_rad: float) -> np.ndarray:
        c, s = math.cos(angle_rad), math.sin(angle_rad)
        found = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        found[[first, first, second, second], [first, second, first, second]] = (c, -s, s, c)
        return found

    assert matrix[:3, :3] == pytest.approx(turn(2, 1.5) @ turn(1, -0.2) @ turn(0, 0.1))  # fixed axes, roll first
    assert matrix[:3, 3].tolist() == [1.0, 2.0, 3.0]


def test_an_empty_text_is_no_list():
    assert parse_parameters({"extrinsics": "", "initial_pose": ""}) == NodeParameters()
    assert parse_parameters({"initial_pose": "12 -4.5 1.57"}).initial_pose == (12.0, -4.5, 1.57)


@pytest.mark.parametrize("version", [1, 2])
def test_the_parameter_files_that_ship_name_every_parameter_with_its_default(version):
    text = FILES[version].read_text()
    assert text == file_text(version)  # else: python -m bevfusion.ros.parameters
    values = yaml.safe_load(text)
    if version == 2:
        values = values["/**"]["ros__parameters"]
        assert values.pop("use_sim_time") is False
    assert parse_parameters(values) == NodeParameters()
    named = re.findall(r"^ *(?:# )?(\w+): ", text, re.MULTILINE)
    assert [name for name in named if name in NodeParameters.model_fields] == list(NodeParameters.model_fields)
    assert set(NodeParameters.model_fields) - set(values) == set(EXAMPLES)
    uncommented = re.sub(rf"# ({'|'.join(EXAMPLES)}):", r"\1:", text)
    examples = yaml.safe_load(uncommented)
    parse_parameters(
        {name: (examples if version == 1 else examples["/**"]["ros__parameters"])[name] for name in EXAMPLES}
    )
    for name, field in NodeParameters.model_fields.items():
        before = text[: re.search(rf"^ *(?:# )?{name}: ", text, re.MULTILINE).start()].split("\n\n")[-1]
        assert (field.description or "?").split()[-1] in before  # each has its comment
