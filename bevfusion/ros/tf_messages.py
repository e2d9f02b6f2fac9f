"""tf2_msgs/TFMessage into a buffer."""

import logging
from typing import Any

from bevfusion.datasets.pointcloud2 import header_stamp_ns
from bevfusion.datasets.rigid import bare, transform
from bevfusion.ros.transforms import TransformBuffer
from bevfusion.structures import DataError

log = logging.getLogger(__name__)


def take_transforms(message: Any, buffer: TransformBuffer, static: bool) -> None:
    """Keep all transforms of a message; those that are no rigid motion are left out with a warning."""
    for item in message.transforms:
        shift, turn = item.transform.translation, item.transform.rotation
        parent, child = bare(item.header.frame_id), bare(item.child_frame_id)
        try:
            matrix = transform((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))
        except DataError as error:
            log.warning("TF %s to %s: %s", parent, child, error)
            continue
        if static:
            buffer.add_static(parent, child, matrix)
        else:
            buffer.add(parent, child, header_stamp_ns(item), matrix)
