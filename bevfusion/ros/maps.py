"""The map of the node: a file, an invented town, or a picture that arrives as a message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from bevfusion.datasets.simulated import map_file
from bevfusion.geometry.geodesy import LocalFrame
from bevfusion.maps.georeference import Georeference
from bevfusion.maps.image import ImageMap, classes_of
from bevfusion.maps.source import MapSource, open_map
from bevfusion.parsing import parse_json
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

TOWN = "town:"
CACHE = Path("~/.cache/bevfusion")  # of invented towns: nodes are started in any folder
_CHANNELS = {"mono8": 1, "8UC1": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}


def map_of_name(name: str) -> MapSource:
    """A map file, or town:SEED.

    Raises:
        DataError: if there is no such file or it cannot be used.
    """
    return open_map(map_file(name, CACHE.expanduser()) if name.startswith(TOWN) else Path(name).expanduser())


def map_of_image(message: Any, parameters: NodeParameters) -> ImageMap:
    """A map from a picture (sensor_msgs/Image): north is up, place, scale and legend are parameters.

    Raises:
        DataError: if sizes and data disagree, or the legend cannot be used.
    """
    encoding, height, width, step = message.encoding, int(message.height), int(message.width), int(message.step)
    if encoding not in _CHANNELS:
        raise DataError(f"~/map_image has the encoding {encoding!r}, expected {', '.join(_CHANNELS)}")
    channels = _CHANNELS[encoding]
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or width < 1 or step < width * channels or len(data) < height * step:
        raise DataError(f"~/map_image declares {height} rows of {step} bytes, but holds {len(data)} bytes")
    pixels = data[: height * step].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    pixels = pixels[..., 2::-1] if encoding.startswith("bgr") else pixels[..., :3]
    path = Path("map_image.png")  # for messages
    summary = InputSummary("~/map_image")
    grey_or_colour = np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)
    classes = classes_of(grey_or_colour, _description(parameters), path, summary)
    if not classes.bits.any():
        raise DataError("~/map_image shows nothing that map_image_legend maps to a layer")
    frame = LocalFrame(parameters.map_image_lat_deg, parameters.map_image_lon_deg)
    crs = pyproj.CRS.from_dict(
        {"proj": "aeqd", "lat_0": frame.origin_lat_deg, "lon_0": frame.origin_lon_deg, "datum": "WGS84", "units": "m"}
    )
    cell_m = parameters.map_image_cell_m
    crs_from_pixel = np.array(
        [[cell_m, 0.0, -0.5 * (width - 1) * cell_m], [0.0, -cell_m, 0.5 * (height - 1) * cell_m]], np.float64
    )
    return ImageMap(classes, Georeference.centred(crs, crs_from_pixel, height, width), "map_image", summary)


def _description(parameters: NodeParameters) -> Mapping[str, Any]:
    if not parameters.map_image_legend:
        return {}
    return {"legend": parse_json(parameters.map_image_legend, "~/map_image_legend")}
