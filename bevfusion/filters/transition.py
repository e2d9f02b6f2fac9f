"""What a step of the vehicle makes of a belief, and its adjoint, which carries what is learned later back in time."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.filters.shifting import blur_yaw, move_slices
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2


@dataclass(frozen=True, slots=True)
class Transition:
    """p(b | a, u) over the bins of a window: each heading's slice is shifted and blurred, then the headings are."""

    shifts: Float[np.ndarray, "r 2"]  # (x, y) of each slice, cells
    variances: tuple[float, float]  # along x and y, cells^2
    axis: Float[np.ndarray, "r 2"]  # unit vector of each slice ...
    axis_variance: float  # ... along which it is blurred further, cells^2
    yaw_variance: float  # bins^2
    full_circle: bool

    def forward(self, prob: Float[Tensor, "r y x"]) -> Float[Tensor, "r y x"]:
        """Sum over a of p(b | a) P(a); what leaves the window is gone."""
        moved = move_slices(prob, self.shifts, self.variances, self.axis, self.axis_variance)
        return blur_yaw(moved, self.yaw_variance, self.full_circle)

    def backward(self, message: Float[Tensor, "r y x"]) -> Float[Tensor, "r y x"]:
        """Sum over b of p(b | a) w(b): every kernel is turned round, and all but the shifts are symmetric."""
        blurred = blur_yaw(message, self.yaw_variance, self.full_circle)
        return move_slices(blurred, -self.shifts, self.variances, self.axis, self.axis_variance)


@dataclass(frozen=True, slots=True)
class WindowMove:
    """A window that moves by whole bins along one axis, with its content."""

    axis: int
    bins: int
    wraps: bool

    def forward(self, prob: Float[Tensor, "r y x"]) -> Float[Tensor, "r y x"]:
        """The content in the moved window; zero where it shows what it did not before."""
        return _rolled(prob, -self.bins, self.axis, self.wraps)

    def backward(self, message: Float[Tensor, "r y x"]) -> Float[Tensor, "r y x"]:
        """The content back where it was; zero where the moved window did not reach."""
        return _rolled(message, self.bins, self.axis, self.wraps)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A window of fewer headings about the same centre; `mixing` has a row for each new heading, linear between old."""

    mixing: Float[Tensor, "new old"]

    @classmethod
    def between(cls, old: PoseWindow, new: PoseWindow) -> "Narrowing":
        """From one window to one that it contains.

        Raises:
            ValueError: if the places differ or the new headings reach beyond the old ones.
        """
        yaws_rad = old.yaw_offsets_rad()
        step_rad = 2.0 * math.pi / len(yaws_rad) if old.full_circle else old.yaw_step_rad
        at = (new.yaw_offsets_rad() - float(yaws_rad[0])) / step_rad
        if old.shape[1:] != new.shape[1:] or at[0] < -1e-6 or at[-1] > len(yaws_rad) - 1 + 1e-6:
            raise ValueError(f"expected a window inside that of shape {old.shape}, got one of shape {new.shape}")
        low = np.clip(np.floor(at + 1e-6).astype(int), 0, len(yaws_rad) - 1)
        share = np.clip(at - low, 0.0, 1.0)
        mixing = np.zeros((len(at), len(yaws_rad)), dtype=np.float32)
        rows = np.arange(len(at))
        mixing[rows, low] += 1.0 - share
        mixing[rows, np.minimum(low + 1, len(yaws_rad) - 1)] += share
        return cls(torch.from_numpy(mixing))

    def forward(self, prob: Float[Tensor, "old y x"]) -> Float[Tensor, "new y x"]:
        """The belief at the new headings."""
        return torch.einsum("no,oyx->nyx", self.mixing, prob)

    def backward(self, message: Float[Tensor, "new y x"]) -> Float[Tensor, "old y x"]:
        """What is known at the new headings, told to the old ones that they were mixed of."""
        return torch.einsum("no,nyx->oyx", self.mixing, message)


Change = Transition | WindowMove | Narrowing
"""A linear change of a belief between two scans."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A belief just before and just after a scan, and the changes that led to it from the one before."""

    number: int  # of the frame in its sequence, from 0
    predicted: Float[Tensor, "r y x"]
    posterior: Float[Tensor, "r y x"]
    changes: tuple[Change, ...]  # in the order of time
    window: PoseWindow
    centre: SE2  # of the window, map frame
    probability: float  # of the track, that it follows the vehicle


def _rolled(prob: Tensor, bins: int, axis: int, wraps: bool) -> Tensor:
    moved = torch.roll(prob, bins, dims=axis)
    if not wraps and bins:
        size = prob.shape[axis]
        count = min(abs(bins), size)
        moved.narrow(axis, 0 if bins > 0 else size - count, count).zero_()
    return moved
