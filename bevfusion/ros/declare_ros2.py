"""The parameters of the model as ROS 2 declares them."""

import math
import sys
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

from bevfusion.ros.parameters import NodeParameters, parse_parameters, range_of

TYPES = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE}
MIDDLEWARE = ("use_sim_time", "start_type_description_service")  # parameters of every node


def descriptor_of(name: str) -> ParameterDescriptor:
    """Description and range of a parameter, from the model."""
    field = NodeParameters.model_fields[name]
    descriptor = ParameterDescriptor(name=name, description=field.description or "", type=type_of(name).value)
    low, high = range_of(field)
    if math.isinf(low) and math.isinf(high):
        return descriptor
    if field.annotation is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        bounds = (max(low, -sys.float_info.max), min(high, sys.float_info.max))
        descriptor.floating_point_range = [FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)]
    return descriptor


def overridden(name: str) -> NodeParameters:
    """The parameters of the command line and its files for the node of a name, checked.

    They are read through a node that lives for that only: the real one is to declare nothing that is not its own.

    Raises:
        DataError: if one is unknown or out of range.
    """
    probe = rclpy.create_node(
        name, automatically_declare_parameters_from_overrides=True, start_parameter_services=False, enable_rosout=False
    )
    try:
        found = {key: plain(item.value) for key, item in probe.get_parameters_by_prefix("").items()}
    finally:
        probe.destroy_node()
    return parse_parameters(
        {key: value for key, value in found.items() if key not in MIDDLEWARE and not key.startswith("qos_overrides.")}
    )


def type_of(name: str) -> Parameter.Type:
    """Of a parameter of the model."""
    annotation = NodeParameters.model_fields[name].annotation
    if annotation in TYPES:
        return TYPES[annotation]
    return Parameter.Type.DOUBLE_ARRAY if "tuple" in str(annotation) else Parameter.Type.STRING


def parameter(name: str, value: Any) -> Parameter:
    """A value of the model as rclpy has it."""
    return Parameter(name, type_of(name), list(value) if isinstance(value, tuple) else value)


def plain(value: Any) -> Any:
    """Arrays as tuples; None, of a parameter without a value, as an empty one."""
    if value is None:
        return ()
    return value if isinstance(value, bool | int | float | str) else tuple(value)
