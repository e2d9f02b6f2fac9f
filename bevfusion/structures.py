"""The values that travel between the stages of the flow figure; checked where data enters, frozen ever after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8, Int32, UInt32
from torch import Tensor, nn

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.geometry.grid import Grid, PoseWindow
from bevfusion.geometry.se2 import SE2


class DataError(ValueError):
    """Input from outside that cannot be used: the message is one line for the user, saying what came and what to do."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One turn of a LiDAR in its own frame (x forward, y left, z up, origin at the sensor).

    Raises:
        DataError: if the arrays do not belong together.
    """

    xyz: Float[np.ndarray, "n 3"]  # metres, float32, finite
    intensity: Float[np.ndarray, " n"]  # reflectance, 0 to 1
    labels: UInt32[np.ndarray, " n"] | None = None  # SemanticKITTI class of each point, where known

    def __post_init__(self) -> None:
        count = len(self.xyz)
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise DataError(f"expected points of shape (N, 3), got {self.xyz.shape}")
        if len(self.intensity) != count or (self.labels is not None and len(self.labels) != count):
            raise DataError(f"expected one intensity and label a point, got {len(self.intensity)} for {count} points")

    @classmethod
    def cleaned(
        cls,
        xyz: Float[np.ndarray, "n 3"],
        intensity: Float[np.ndarray, " n"],
        labels: UInt32[np.ndarray, " n"] | None = None,
    ) -> "Scan":
        """A scan of the finite points only: sensors mark missing returns by NaN or infinity."""
        good = np.isfinite(xyz).all(axis=1)
        strength = np.clip(np.nan_to_num(intensity, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
        return cls(xyz[good], strength[good], None if labels is None else labels[good])

    def __len__(self) -> int:
        return len(self.xyz)

    def select(self, keep: np.ndarray) -> "Scan":
        """The points at a boolean mask or at indices."""
        return replace(
            self,
            xyz=self.xyz[keep],
            intensity=self.intensity[keep],
            labels=None if self.labels is None else self.labels[keep],
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of a drive: the scan and what else the log knows of it. All poses are those of the LiDAR."""

    index: int
    stamp_ns: int
    scan: Scan
    odom_from_ego: SE2 | None = None
    gnss: GeoPose | None = None
    gnss_std_m: float | None = None  # of the fix, along its worse axis on the ground; None: it does not say
    truth: GeoPose | None = None


@dataclass(frozen=True, slots=True)
class MapTile:
    """A square of the map, one plane a layer of `maps.schema.LAYERS`; its frame's axes are the grid's.

    In use the tile's axes are the map's. Training turns them, so that no compass direction is special.
    """

    layers: Int8[np.ndarray, "l h w"]  # 127 stands for 1.0, -127 for -1.0
    grid: Grid
    map_from_tile: SE2


@dataclass(frozen=True, slots=True)
class Voxels:
    """Occupied cells of space, of one or many scans; see `lidar/voxelize.py`."""

    features: Float[Tensor, "v f"]
    cells: Int32[Tensor, "v 4"]  # sample of the batch, layer, row, column; ascending, each once

    def to(self, device: torch.device | str) -> "Voxels":
        """The same voxels on another device."""
        return Voxels(self.features.to(device), self.cells.to(device))

    def pin_memory(self) -> "Voxels":
        """The same voxels in page-locked memory."""
        return Voxels(self.features.pin_memory(), self.cells.pin_memory())

    @classmethod
    def together(cls, parts: "Sequence[Voxels]") -> "Voxels":
        """Many batches of one as one batch."""
        cells = [part.cells + part.cells.new_tensor([sample, 0, 0, 0]) for sample, part in enumerate(parts)]
        return cls(torch.cat([part.features for part in parts]), torch.cat(cells))


@dataclass(frozen=True, slots=True)
class AskedWay:
    """The way that a field of directions is asked for, cells of the ego raster; n questions."""

    yaw_rad: Float[Tensor, "n h w"]  # of the way at its point nearest to the cell
    left_m: Float[Tensor, "n h w"]  # of the cell, from the way
    along_m: Float[Tensor, "n h w"]  # of that point, from the vehicle
    direction_rad: Float[Tensor, "n h w"]  # where one drives from the cell to follow the way
    known: Float[Tensor, " n"]  # 1, or 0 where there is neither route nor road: straight on is asked
    position_std_m: Float[Tensor, " n"]  # of the pose that the way was seen from
    heading_std_rad: Float[Tensor, " n"]

    def mapped(self, change: "Callable[[Tensor], Tensor]") -> "AskedWay":
        """The same with every tensor changed."""
        return AskedWay(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class FieldTruth:
    """What a field of directions should be."""

    drivable: Float[Tensor, "n h w"]  # 1 or 0; negative: not known
    direction_rad: Float[Tensor, "n h w"]  # where one drives from the cell to follow the way that was driven
    left_m: Float[Tensor, "n h w"]  # of the cell, from that way
    along_m: Float[Tensor, "n h w"]
    path_m: Float[Tensor, "n k 2"]  # that was driven, points 2 m apart
    points: Float[Tensor, " n"]  # of the path that are known

    def mapped(self, change: "Callable[[Tensor], Tensor]") -> "FieldTruth":
        """The same with every tensor changed."""
        return FieldTruth(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class DirectionSample:
    """A question about the direction for each scan of a batch, and its answer."""

    poses: Float[Tensor, "b 3"]  # that are thought: offsets from the prior, x, y in m and yaw in rad
    way: AskedWay
    truth: FieldTruth

    def mapped(self, change: "Callable[[Tensor], Tensor]") -> "DirectionSample":
        """The same with every tensor changed."""
        return DirectionSample(change(self.poses), self.way.mapped(change), self.truth.mapped(change))

    @classmethod
    def together(cls, parts: "Sequence[DirectionSample]") -> "DirectionSample":
        """Many batches as one."""
        way = AskedWay(*(torch.cat([getattr(p.way, field.name) for p in parts]) for field in fields(AskedWay)))
        truth = FieldTruth(*(torch.cat([getattr(p.truth, field.name) for p in parts]) for field in fields(FieldTruth)))
        return cls(torch.cat([part.poses for part in parts]), way, truth)


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network sees, and what it should say."""

    bev: Float[Tensor, "b c h w"]  # ego frame; its last plane says what was never seen
    tile: Float[Tensor, "b l hm wm"] | Int8[Tensor, "b l hm wm"]  # tile frame, about the prior; int8: 127 is 1.0
    prior_yaw_rad: Float[Tensor, " b"]  # heading of the prior in the tile frame
    truth: Float[Tensor, "b 3"] | None = None  # x, y in m and yaw in rad: offset of the truth from the prior
    voxels: Voxels | None = None  # for the sparse encoder; the planes of `bev` are then (free, never seen)
    contrast: Float[Tensor, "b 3 hf wf"] | None = None  # of the ground, cells of the features; None: it does not count
    direction: DirectionSample | None = None  # for the direction head

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        truth = None if self.truth is None else self.truth.to(device)
        voxels = None if self.voxels is None else self.voxels.to(device)
        contrast = None if self.contrast is None else self.contrast.to(device)
        direction = None if self.direction is None else self.direction.mapped(lambda tensor: tensor.to(device))
        bev, tile, yaw_rad = self.bev.to(device), self.tile.to(device), self.prior_yaw_rad.to(device)
        return Batch(bev, tile, yaw_rad, truth, voxels, contrast, direction)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (called by torch's DataLoader)."""
        truth = None if self.truth is None else self.truth.pin_memory()
        voxels = None if self.voxels is None else self.voxels.pin_memory()
        contrast = None if self.contrast is None else self.contrast.pin_memory()
        direction = None if self.direction is None else self.direction.mapped(Tensor.pin_memory)
        bev, tile, yaw_rad = self.bev.pin_memory(), self.tile.pin_memory(), self.prior_yaw_rad.pin_memory()
        return Batch(bev, tile, yaw_rad, truth, voxels, contrast, direction)


@dataclass(frozen=True, slots=True)
class Fused:
    """Scan and map at a pose, ego frame, as they become one; n poses."""

    attended: Float[Tensor, "n c2 h w"]  # both branches side by side, after channel attention
    joined: Float[Tensor, "n c h w"]  # one tensor of the two
    joint: Float[Tensor, "n c h w"]  # after spatial attention
    auxiliary_losses: tuple[Callable[[Tensor, Tensor], Tensor], ...] = ()  # of mechanisms, see attention/contract.py


@dataclass(frozen=True, slots=True)
class PoseBelief:
    """Log-probability of every pose of the window, summing to one over (R, Y, X)."""

    log_prob: Float[Tensor, "b r y x"]
    window: PoseWindow


@dataclass(frozen=True, slots=True)
class PoseCheck:
    """What scan and map, laid on each other at n poses, say of each."""

    residual: Float[Tensor, "n 3"]  # x, y in m and yaw in rad, ego frame at the pose: where the scan was taken
    covariance: Float[Tensor, "n 3 3"]  # of the residual
    log_odds: Float[Tensor, " n"]  # that the scan was taken within 2 m and 4 degrees of the pose


@dataclass(frozen=True, slots=True)
class FollowedWay:
    """A path that was read out of a field of directions, ego frame."""

    xy_m: Float[np.ndarray, "n 2"]  # 2 m apart along it, the first 2 m ahead
    yaw_rad: Float[np.ndarray, " n"]  # direction of driving at each
    std_rad: Float[np.ndarray, " n"]  # of that direction
    drivable: float  # mean probability along it that one can drive there


@runtime_checkable
class DirectionReader(Protocol):
    """What scan and map show of the direction where a scan was found."""

    def follow(
        self,
        xy_m: Float[np.ndarray, "n 2"],
        yaw_rad: Float[np.ndarray, " n"],
        position_std_m: float,
        heading_std_rad: float,
    ) -> FollowedWay:
        """The way that leads on, asked for by points and directions of the map's way, ego frame."""


@dataclass(frozen=True, slots=True)
class PoseEstimate:
    """The answer: a pose in the map frame and how far to trust it."""

    map_from_ego: SE2
    covariance: Float[np.ndarray, "3 3"]  # x, y in m, yaw in rad, map axes
    heading_std_rad: float  # of the heading, whatever the place
    confidence: float  # probability within 2 m and 4 degrees of the estimate, if it is anywhere in the window
    prior: SE2  # the pose that the window was centred on
    belief: PoseBelief | None = None  # the whole volume (batch of one, on the CPU), offsets from `prior`
    probability_here: float | None = None  # the same, but from how well scan and map fit; None: not known
    direction: DirectionReader | None = None  # None: the network knows nothing of it, or the pose is not one scan's


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that a scan may have been taken at."""

    pose: SE2  # map frame
    score: float  # log, comparable between candidates of one search


OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all) of work that takes long."""


@runtime_checkable
class SearchArea(Protocol):
    """The part of a map in which a vehicle may be."""

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of it, map frame."""

    def near_road(self, grid: Grid, centre: SE2) -> Bool[np.ndarray, "h w"]:
        """Which cells of a grid about a pose (map axes) are searched."""


@runtime_checkable
class MapSearch(Protocol):
    """A locator's way to look for scans all over an area."""

    def candidates(self, scan: Scan, on_step: OnStep | None = None) -> list[Candidate]:
        """The best places for a scan, some of them near each other; none where the scan says nothing."""


@runtime_checkable
class Locator(Protocol):
    """What finds a scan on a map, trained or not: the evaluation and the ROS node know no more of it."""

    @property
    def model(self) -> nn.Module | None:
        """The network that introspection may look into; None where there is none."""
        return None

    @property
    def map_error_m(self) -> float:
        """The error of the map as a whole that beliefs count already, see `heads/map_error.py`."""
        return 0.0

    def locate(self, scan: Scan, prior: SE2, offset_m: float, offset_rad: float) -> PoseEstimate:
        """The pose within +-offset_m (map axes) and +-offset_rad of the prior (map frame); offset_rad = pi is any."""

    def prepare(self, places: Sequence[SE2], offset_m: float) -> None:
        """Scans between these places (map frame) may be asked for soon, within +-offset_m: returns at once.

        What takes long of the map can begin beside; answers are the same without.
        """

    def map_search(self, area: SearchArea) -> MapSearch | None:
        """A search of all of an area; None: this locator cannot compare places that are far from each other."""
        return None
