"""What can be set on the node: one model, from which both adapters declare, check and describe their parameters.

`python -m bevfusion.ros.parameters` writes what is made of the model: the JSON schema for editors and launch tools, and
a commented parameter file for each ROS. Tests keep them up to date.
"""

import difflib
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.fields import FieldInfo

from bevfusion.config import Config, Section, overridden
from bevfusion.datasets.rigid import extrinsics_matrix
from bevfusion.geometry.geodesy import GeoPose
from bevfusion.precision import Precision
from bevfusion.structures import DataError

SCHEMA = Path(__file__).with_name("parameters.schema.json")
FILES = {version: Path(__file__).parent / "config" / f"parameters_ros{version}.yaml" for version in (1, 2)}

EXAMPLES = {"extrinsics": (1.2, 0.0, 1.8, 0.0, 0.0, 0.0), "initial_pose": (12.5, -40.0, 1.57), "goal": (49.01, 8.41)}
"""Of parameters that are empty by default."""


def _numbers(value: Any) -> Any:
    """Numbers in a text, apart by spaces or commas, in brackets or not: a list as one types it on a command line."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(word) for word in value.strip().strip("[]").replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"expected numbers, got {value!r}") from error


_SCHEMA_OF_NUMBERS = {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}
Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers), WithJsonSchema(_SCHEMA_OF_NUMBERS)]


class NodeParameters(Section):
    """Parameters of the node; the same names in ROS 2 and ROS 1."""

    map: str = Field(
        "", description="map file (OpenStreetMap, georeferenced picture), or town:SEED; empty: ~/map_image"
    )
    map_image_lat_deg: float = Field(0.0, ge=-90, le=90, description="latitude of the centre of ~/map_image")
    map_image_lon_deg: float = Field(0.0, ge=-180, le=180, description="longitude of the centre of ~/map_image")
    map_image_cell_m: float = Field(0.5, gt=0, le=10, description="side of a pixel of ~/map_image, metres; north is up")
    map_image_legend: str = Field("", description='JSON: class of each colour of ~/map_image, {"#ff0000": "road"}')
    checkpoint: str = Field("default", description="default, classical, a .safetensors file or the folder of a run")
    precision: Precision = Field(
        "auto", description="in which the network computes; auto: bfloat16 on processors that have it, else float32"
    )
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the network; 0: as torch chooses")

    map_frame: str = Field("map", min_length=1, description="frame of the map: metres east and north of its centre")
    odom_frame: str = Field("odom", min_length=1, description="frame of ~/odom; messages of another are refused")
    base_frame: str = Field("base_link", min_length=1, description="frame of the vehicle, whose pose is published")
    extrinsics: Numbers = Field(
        (),
        description="base_from_lidar: x y z (m) roll pitch yaw (rad), or x y z qx qy qz qw; empty: from TF at the "
        "stamp of the cloud",
    )
    lidar_frame: str = Field("", description="frame that extrinsics belong to; clouds of another are refused; any: ''")
    odometry: Literal["auto", "required", "none"] = Field(
        "auto",
        description="required: no TF before ~/odom; none: TF is map to base, ~/odom unread; auto: if it is there",
    )
    deskew: bool = Field(
        True, description="undo the motion during a turn, where points carry times and there is odometry"
    )
    publish_tf: bool = Field(True, description="broadcast TF")
    transform_wait_s: float = Field(0.1, ge=0, le=5, description="longest wait for TF and ~/odom of a cloud's stamp")
    odometry_age_s: float = Field(0.2, ge=0, le=5, description="odometry may be so much older than the cloud")

    initial_pose: Numbers = Field((), description="x y (m) yaw (rad) on the map at the start; empty: none")
    start_from_fix: bool = Field(True, description="start at the first valid ~/fix, with any heading")
    offset_m: float = Field(20.0, gt=0, le=100, description="a start may be off by so much, east and north")
    offset_deg: float = Field(10.0, gt=0, le=180, description="the same for its heading; 180: any")
    map_error_m: float = Field(
        1.0, ge=0, le=20, description="the map may be off as a whole by so much (std), which covariances then hold"
    )

    route: str = Field(
        "",
        description="file with the route to follow: GeoJSON, GPX, or a graph of nav2's route server; ~/route and "
        "~/goal take its place",
    )
    goal: Numbers = Field(
        (), description="latitude and longitude of where to go, by the shortest way on the roads; empty: nowhere"
    )
    direction_range_m: float = Field(
        32.0, ge=5, le=100, description="~/direction_field and ~/drivable reach so far from the vehicle, along x and y"
    )
    direction_cell_m: float = Field(1.0, ge=0.25, le=5, description="cell of both")

    filter: str = Field(
        "",
        description="settings of the filter that differ from the checkpoint's, as in its configuration's section "
        "filter: limits.speak=0.6 noise.floor_m=0.05 ...",
    )

    autostart: bool = Field(True, description="configure and activate at once (ROS 2: without a lifecycle manager)")
    bond: bool = Field(
        True,
        description="bond with the lifecycle manager (nav2), where bondpy is installed and autostart is false (ROS 2)",
    )
    reliability: Literal["auto", "reliable", "best_effort"] = Field(
        "auto", description="of the subscription of ~/points; auto: what its publishers offer (ROS 2)"
    )
    geopose: Literal["auto", "geopose", "fix"] = Field(
        "auto",
        description="type of ~/geopose: geographic_msgs/GeoPoseStamped (geopose) or sensor_msgs/NavSatFix (fix); auto: "
        "the first where geographic_msgs is installed",
    )
    map_cell_m: float = Field(1.0, gt=0, le=10, description="cell of the published map")
    late_s: float = Field(1.0, gt=0, le=60, description="clouds older than this on arrival count as late")
    silence_s: float = Field(2.0, gt=0, le=60, description="no cloud for so long is a warning")
    reset_s: float = Field(0.5, ge=0, le=60, description="stamps that go back by more reset the node; by less: refused")
    slow_ms: float = Field(200.0, gt=0, description="steps longer than this are a warning")

    @model_validator(mode="after")
    def _parts_fit(self) -> "NodeParameters":
        if self.extrinsics:
            extrinsics_matrix(self.extrinsics)
        if len(self.initial_pose) not in (0, 3):
            raise ValueError(f"initial_pose is x y yaw, got {len(self.initial_pose)} numbers")
        if len(self.goal) not in (0, 2):
            raise ValueError(f"goal is latitude longitude, got {len(self.goal)} numbers")
        if self.goal:
            GeoPose(*self.goal)
        if len({self.map_frame, self.odom_frame, self.base_frame}) < 3:
            raise ValueError("map_frame, odom_frame and base_frame must differ")
        overridden(Config(), self.filter_overrides, within="filter")
        return self

    @property
    def filter_overrides(self) -> list[str]:
        """The settings of the filter as `localizer.filter_config` takes them."""
        return [f"filter.{word}" for word in self.filter.split()]

    @property
    def base_from_lidar(self) -> Float[np.ndarray, "4 4"] | None:
        """The extrinsics as a matrix; None: they come from TF."""
        return extrinsics_matrix(self.extrinsics) if self.extrinsics else None


def parse_parameters(values: Mapping[str, Any]) -> NodeParameters:
    """Parameters from plain values; integers pass for floats, empty lists for none.

    Raises:
        DataError: in one line, if a name is unknown or a value out of range.
    """
    for name in values:
        if name not in NodeParameters.model_fields:
            near = difflib.get_close_matches(name, NodeParameters.model_fields, n=1, cutoff=0.0)
            raise DataError(f"unknown parameter '{name}'; did you mean '{near[0]}'?")
    try:
        return NodeParameters.model_validate(dict(values))
    except ValidationError as error:
        problems = (f"{'.'.join(str(part) for part in item['loc'])} {item['msg']}" for item in error.errors())
        raise DataError("parameters: " + "; ".join(problem.strip() for problem in problems)) from error


def range_of(field: FieldInfo) -> tuple[float, float]:
    """Lowest and highest value of a numeric parameter; infinite where there is no bound."""
    low, high = -math.inf, math.inf
    for rule in field.metadata:
        if isinstance(rule, Ge | Gt):
            low = float(rule.ge if isinstance(rule, Ge) else rule.gt)  # type: ignore[arg-type]
        if isinstance(rule, Le | Lt):
            high = float(rule.le if isinstance(rule, Le) else rule.lt)  # type: ignore[arg-type]
    return low, high


def schema_text() -> str:
    """Content of `SCHEMA`."""
    return json.dumps(NodeParameters.model_json_schema(), indent=2) + "\n"


def file_text(version: int) -> str:
    """Content of the parameter file for ROS 1 or 2: every parameter with its default, its range and what it does.

    A list that is empty by default is commented out: ROS 2 cannot tell the type of an empty list.
    """
    made_by = "Made by `python -m bevfusion.ros.parameters`: copy it and change the copy."
    lines = [f"# Every parameter of the node with its default. {made_by}"]
    indent = ""
    if version == 2:
        lines += [
            "/**:",
            "  ros__parameters:",
            "    use_sim_time: false  # true: the clock of a log, played with --clock",
        ]
        indent = "    "
    for name, field in NodeParameters.model_fields.items():
        said = " ".join(part for part in (field.description, _allowed(field)) if part)
        lines += ["", *(f"{indent}# {line}" for line in textwrap.wrap(said, 110 - len(indent)))]
        empty = field.default == ()
        value = json.dumps(EXAMPLES[name] if empty else field.default)
        lines.append(f"{indent}# {name}: {value}" if empty else f"{indent}{name}: {value}")
    return "\n".join(lines) + "\n"


def _allowed(field: FieldInfo) -> str:
    """The range or the choices of a parameter in words."""
    if get_origin(field.annotation) is Literal:
        return f"({', '.join(get_args(field.annotation))})"
    low, high = range_of(field)
    bounds = (
        [] if math.isinf(low) else [f"{'above' if any(isinstance(r, Gt) for r in field.metadata) else 'from'} {low:g}"]
    )
    bounds += [] if math.isinf(high) else [f"to {high:g}"]
    return f"({' '.join(bounds)})" if bounds else ""


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    for version, path in FILES.items():
        path.write_text(file_text(version), encoding="utf-8")
