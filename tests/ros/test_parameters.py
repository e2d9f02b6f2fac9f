import json

import pytest

from bevfusion.ros.parameters import SCHEMA, NodeParameters, parse_parameters, range_of, schema_text
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
        ({"extrinsics": [1.0, 2.0]}, "x, y, z, qx, qy, qz, qw, got 2"),
        ({"extrinsics": [0.0] * 7}, "length 1"),
        ({"initial_pose": [1.0]}, "x, y, yaw"),
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
