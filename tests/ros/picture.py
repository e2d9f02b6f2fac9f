"""Draws what the node said: python -m tests.ros.picture RESULT.json DRIVE.npz MAP PICTURE.png [NUMBER]

RESULT and DRIVE are what `test_a_minute_of_driving_is_what_evaluation_says` leaves behind (`pytest --basetemp`).
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Wedge

from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import open_map
from tests.ros.processes import BASE_FROM_LIDAR

HALF_M, CELL_M = 55.0, 0.25
PINK, BLUE = "#d81b60", "#0050c8"


def draw(result: Path, drive: Path, map_path: Path, picture: Path, number: int) -> None:
    """Map, scan, pose, heading and trail at one of the node's poses."""
    said = json.loads(result.read_text())
    row = said["poses"][number]
    pose, stamp = SE2(*row[1:4]), row[0]
    with np.load(drive) as arrays:
        position = int(np.flatnonzero(arrays["stamps"] == stamp)[0])
        points = arrays["points"][slice(*arrays["bounds"][position : position + 2])]
    standing = points[points[:, 2] > np.percentile(points[:, 2], 5) + 0.6]
    scan_m = (pose @ SE2(BASE_FROM_LIDAR.x_m, BASE_FROM_LIDAR.y_m, 0.0)).apply(standing[:, :2].astype(np.float64))
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    axis = figure.subplots()
    cells = round(2 * HALF_M / CELL_M)
    extent = (pose.x_m - HALF_M, pose.x_m + HALF_M, pose.y_m - HALF_M, pose.y_m + HALF_M)
    around = paint(open_map(map_path).draw(Grid(cells, cells, CELL_M), SE2(pose.x_m, pose.y_m)))
    axis.imshow(around, origin="upper", extent=extent, alpha=0.75)
    axis.plot(*scan_m.T, ".", color="black", markersize=1.2, label="what stands in the scan")
    trail = np.array([item[1:3] for item in said["poses"][: number + 1]])
    axis.plot(*trail.T, ".", color=BLUE, markersize=3, label="poses so far")
    variance = next(item[2] for item in said["headings"] if item[0] == stamp)
    middle, spread = math.degrees(pose.yaw_rad), 3.0 * math.degrees(math.sqrt(variance))
    axis.add_patch(Wedge((pose.x_m, pose.y_m), 22.0, middle - spread, middle + spread, color=PINK, alpha=0.35))
    covariance = np.array(row[6]).reshape(6, 6)[:2, :2]
    lengths, turns = np.linalg.eigh(covariance)
    angle_deg = math.degrees(math.atan2(turns[1, 1], turns[0, 1]))
    size_m = 6.0 * np.sqrt(lengths[::-1])  # three deviations to either side
    axis.add_patch(Ellipse((pose.x_m, pose.y_m), *size_m, angle=angle_deg, color=PINK, alpha=0.5))
    tip = (10.0 * math.cos(pose.yaw_rad), 10.0 * math.sin(pose.yaw_rad))
    axis.arrow(pose.x_m, pose.y_m, *tip, color=PINK, width=0.7, head_width=3.0, label="pose, heading and 3 deviations")
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
    axis.set_xlabel("east (m)")
    axis.set_ylabel("north (m)")
    axis.legend(loc="upper right", fontsize=8)
    figure.savefig(picture, dpi=90, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:5]]
    draw(*paths, int(sys.argv[5]) if len(sys.argv) > 5 else -1)
