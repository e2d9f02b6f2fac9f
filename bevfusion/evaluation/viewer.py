"""A recording for the rerun viewer (extra `viewer`): scan, map, belief and attention over the drive.

One .rrd file a drive. Everything lies in metres of the map frame about the first true pose: coordinates of a town
would lose their centimetres in float32. https://rerun.io
"""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from bevfusion.evaluation.results import BeliefMarginals, ScoredEstimate
from bevfusion.geometry.grid import Grid
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import AttentionHook
from bevfusion.maps.pictures import paint
from bevfusion.maps.source import MapSource
from bevfusion.structures import DataError, PoseEstimate, Scan

SUFFIX = ".rrd"
TIMELINE, FRAMES = "log time", "frame"
TRUTH, ESTIMATE, PRIOR = (0, 80, 200), (216, 27, 96), (240, 160, 0)
_MAP_HALF_M, _MAP_CELL_M = 60.0, 0.25
_MAP_LIFE_M = 25.0  # a new piece of map after so many metres
_MAX_POINTS = 15_000  # of a scan: the viewer draws more, but files grow
_TRAJECTORY_EVERY = 10  # frames: each trajectory is written whole
_FAINT = 0.005  # of the highest probability: below, the map shows through


class Recorder:
    """A recording of one drive that grows frame by frame."""

    def __init__(self, path: Path, drive: str) -> None:
        """Open the file.

        Args:
            path: of the recording; replaced if it is there.
            drive: name in the viewer.

        Raises:
            DataError: if rerun is not installed.
        """
        self._rr = _rerun()
        self._stream: Any = self._rr.RecordingStream("bevfusion", recording_id=drive)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream.save(path)
        self._origin_m: tuple[float, float] | None = None
        self._map_at: tuple[float, float] | None = None
        self._trajectories: dict[str, list[tuple[float, float]]] = {"truth": [], "estimate": []}

    def add(
        self, scan: Scan, scored: ScoredEstimate, estimate: PoseEstimate, source: MapSource, hook: AttentionHook | None
    ) -> None:
        """Show one answer: the scan at the estimate, the map below, what the belief and the attention are."""
        rr, truth = self._rr, scored.truth
        if self._origin_m is None:
            self._origin_m = (truth.x_m, truth.y_m)
        self._stream.set_time(FRAMES, sequence=scored.frame_index)
        self._stream.set_time(TIMELINE, timestamp=np.datetime64(scored.stamp_ns, "ns"))
        self._show_map(source, truth)
        pose = scored.estimate
        keep = scan.xyz[:: max(1, len(scan) // _MAX_POINTS)].astype(np.float64)
        place_m = self._near(pose.apply(keep[:, :2]))
        height_m = keep[:, 2] - np.percentile(keep[:, 2], 2.0) if len(keep) else keep[:, 2]
        points = np.column_stack([place_m, height_m])
        self._stream.log("scan", rr.Points3D(points, colors=_heat(height_m / 8.0), radii=0.06))
        for name, shown, colour in (
            ("truth", truth, TRUTH),
            ("estimate", pose, ESTIMATE),
            ("prior", scored.prior, PRIOR),
        ):
            self._show_pose(name, shown, colour)
        if estimate.belief is not None:
            self._show_belief(BeliefMarginals.of(estimate.belief, estimate.prior))
        seen = None if hook is None else hook.attention()
        if hook is not None and seen is not None:
            for slot, weight in seen.items():
                self._show_attention(slot, weight, pose, hook.half_extent_m)
        errors = {
            "position_m": math.hypot(pose.x_m - truth.x_m, pose.y_m - truth.y_m),
            "heading_deg": abs(math.degrees(math.remainder(pose.yaw_rad - truth.yaw_rad, 2.0 * math.pi))),
            "confidence": scored.confidence,
        }
        for name, value in errors.items():
            self._stream.log(f"plots/{name}", rr.Scalars(value))

    def close(self) -> None:
        """Write what is left."""
        self._stream.flush()
        self._stream.disconnect()

    def _near(self, xy_m: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """From map metres to those of the recording."""
        near: np.ndarray = xy_m - np.array(self._origin_m)
        return near

    def _show_map(self, source: MapSource, about: SE2) -> None:
        if self._map_at is not None and math.dist(self._map_at, (about.x_m, about.y_m)) < _MAP_LIFE_M:
            return
        self._map_at = (about.x_m, about.y_m)
        picture = paint(source.draw(Grid.square(_MAP_HALF_M, _MAP_CELL_M), SE2(about.x_m, about.y_m)))
        self._show_square("map", picture, SE2(about.x_m, about.y_m), _MAP_HALF_M, -0.2)

    def _show_pose(self, name: str, pose: SE2, colour: tuple[int, int, int]) -> None:
        rr = self._rr
        start = self._near(np.array([[pose.x_m, pose.y_m]]))[0]
        ahead = (6.0 * math.cos(pose.yaw_rad), 6.0 * math.sin(pose.yaw_rad), 0.0)
        self._stream.log(
            f"poses/{name}", rr.Arrows3D(origins=[[*start, 2.0]], vectors=[ahead], colors=[colour], radii=0.4)
        )
        if name in self._trajectories:
            self._trajectories[name].append((float(start[0]), float(start[1])))
            if len(self._trajectories[name]) % _TRAJECTORY_EVERY == 1:
                line = [[x, y, 1.0] for x, y in self._trajectories[name]]
                self._stream.log(f"trajectories/{name}", rr.LineStrips3D([line], colors=[colour], radii=0.15))

    def _show_belief(self, belief: BeliefMarginals) -> None:
        share = belief.place / max(float(belief.place.max()), 1e-30)
        half_m = float(belief.window.shifts_m()[-1]) + 0.5 * belief.window.cell_m
        picture = np.dstack([_heat(share), np.where(share > _FAINT, 80 + 175 * share, 0)]).astype(np.uint8)
        self._show_square("belief/place", picture[::-1], belief.centre, half_m, 0.3)
        self._stream.log("belief/heading", self._rr.BarChart(belief.heading))

    def _show_attention(self, slot: str, weight: Float[np.ndarray, "h w"], pose: SE2, half_m: float) -> None:
        known = weight[np.isfinite(weight)]
        low, high = np.percentile(known, (2, 98)).tolist() if len(known) else (0.0, 1.0)
        level = np.clip((np.nan_to_num(weight, nan=low) - low) / max(high - low, 1e-9), 0.0, 1.0)
        picture = np.dstack([_heat(level), np.where(np.isfinite(weight), 160, 0)]).astype(np.uint8)
        self._show_square(f"attention/{slot}", picture[::-1], pose, half_m, 0.1)

    def _show_square(
        self, name: str, picture: UInt8[np.ndarray, "h w c"], pose: SE2, half_m: float, height_m: float
    ) -> None:
        """A picture, its top row the farthest to the left of the pose, lying flat as a textured square."""
        corners = np.array([[-half_m, -half_m], [half_m, -half_m], [half_m, half_m], [-half_m, half_m]])
        turned = pose.apply(corners)
        self._stream.log(
            name,
            self._rr.Mesh3D(
                vertex_positions=np.column_stack([self._near(turned), np.full(4, height_m)]),
                triangle_indices=[[0, 1, 2], [0, 2, 3]],
                vertex_texcoords=[[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]],
                albedo_texture=np.ascontiguousarray(picture),
            ),
        )


def show(paths: list[Path]) -> None:
    """Open recordings in the viewer, in a window of its own.

    Raises:
        DataError: if rerun is not installed, or there is nothing to show.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob(f"**/*{SUFFIX}")) if path.is_dir() else [path]
        if not inside or not all(file.is_file() for file in inside):
            raise DataError(f"{path}: no {SUFFIX} recording there; evaluate --viewer writes one for each drive")
        found += inside
    _rerun()
    # as of its command line; returns when the window is closed
    status = subprocess.run([sys.executable, "-m", "rerun", *map(str, found)], check=False).returncode
    if status != 0:
        raise DataError(f"the rerun viewer ended with status {status}: it needs a screen")


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise DataError("recordings need rerun: pip install 'bevfusion[viewer]'") from error
    return rerun


def _heat(level: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
    """Colours (RGB) of 0 to 1."""
    grey = (255.0 * np.clip(level, 0.0, 1.0)).astype(np.uint8).reshape(-1, 1)
    coloured = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_PLASMA), cv2.COLOR_BGR2RGB)
    result: np.ndarray = coloured.reshape(*level.shape, 3)
    return result
