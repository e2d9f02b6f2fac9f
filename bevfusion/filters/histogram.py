"""A Bayes filter over (x, y, yaw) on the network's volumes.

With belief P over the poses of a window, motion u and scan z the recursion is

    predict  P'(b) = sum_a p(b | a, u) P(a)          shift by the motion, blur by its covariance
    update   P(b)  = P'(b) l(z | b) / sum            l: the measured volume, tempered and bounded

The window's centre is a continuous pose that moves with the vehicle, so that the cells near the best heading hardly
move inside the window and nothing is lost to rounding.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.filters.motion import Motion
from bevfusion.filters.shifting import interpolated
from bevfusion.filters.transition import Change, Narrowing, Transition, WindowMove
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2, circular_mean, wrap_angle
from bevfusion.structures import PoseBelief

TEMPER = 0.5
"""Exponent on a volume: networks are surer of themselves than they are right."""

BOUND_NATS = 8.0
"""No volume counts by more than this for one pose against another: a wrong one must not silence the rest for good."""

OUTLIER_SHARE = 0.2
"""Chance that a volume says nothing of the pose, in `Agreement`."""

ANYWHERE_SHARE = 1e-12
"""Mass that each prediction spreads over the window, only to keep all poses possible. With more of it a vehicle that
was carried off would settle on whatever looks alike nearby, instead of being noticed."""

LEAST_VARIANCE = 0.5
"""Of a prediction along each axis, in bins^2: a narrower peak would snap to the middle of its bin and stay there."""

PLACE_M, PLACE_RAD = 4.0, math.radians(8.0)
"""As far to each side of a peak is the same place."""

_MAY_CUT = 1e-4  # mass that may leave the window when it is moved
_DEEPEST_NATS = 60.0  # lower log-probabilities are all the same, and minus infinity would not interpolate


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a volume M and the prediction P' before it agree.

    `nats` is log((1 - o) N sum P' M + o) with N poses and the share o of outliers: the evidence for P' against
    "anywhere in the window". Positive: they agree; 0: the volume is flat, or the belief is; log o at worst.
    `support` is the mass of P' ((1 - o) M + o / N), normalised, about the peak of the belief over the belief's own mass
    there, at most 1: low where the volume, taken at its word, points to another place that the belief holds possible.
    `best` is what `nats` could be: the smaller of what M and P' reach with themselves, 0 where one of them is flat.
    """

    nats: float
    support: float
    best: float


class HistogramFilter:
    """The belief over a window of poses that follows the vehicle."""

    def __init__(self, window: PoseWindow, centre: SE2, prob: Float[Tensor, "r y x"]) -> None:
        """A belief; `uniform` and `gaussian` are the usual ways to one.

        Args:
            window: the poses.
            centre: the pose in the map frame that they are offsets from.
            prob: their probabilities; normalised here.

        Raises:
            ValueError: if the shapes differ or nothing is probable.
        """
        total = float(prob.sum(dtype=torch.float64))
        if tuple(prob.shape) != window.shape or not total > 0.0:
            raise ValueError(f"expected probabilities of shape {window.shape}, got {tuple(prob.shape)}, sum {total}")
        self.window = window
        self.centre = centre
        self.prob = prob.float() / total
        self.changes: list[Change] = []  # since the last update, for a smoother

    @classmethod
    def uniform(cls, window: PoseWindow, centre: SE2) -> "HistogramFilter":
        """Every pose of the window alike."""
        return cls(window, centre, torch.ones(window.shape))

    @property
    def yaw_step_rad(self) -> float:
        """Angle between two headings; on a full circle it divides the turn."""
        window = self.window
        return 2.0 * math.pi / window.shape[0] if window.full_circle else window.yaw_step_rad

    @property
    def mean_xy_m(self) -> tuple[float, float]:
        """Mean position, map frame."""
        x_m, y_m = self._marginal_means_m()
        return self.centre.x_m + x_m, self.centre.y_m + y_m

    @property
    def spread_m(self) -> float:
        """Root mean square distance from the mean position."""
        shifts_m = self.window.shifts_m()
        x_m, y_m = self._marginal_means_m()
        prob_x, prob_y = self._marginal(2), self._marginal(1)
        return math.sqrt(prob_x @ (shifts_m - x_m) ** 2 + prob_y @ (shifts_m - y_m) ** 2)

    def heading(self) -> tuple[float, float]:
        """Circular mean of the heading (map frame) and its circular standard deviation, radians."""
        return circular_mean(self._marginal(0), self.centre.yaw_rad + self.window.yaw_offsets_rad())

    def belief(self, trust: float = 1.0) -> PoseBelief:
        """The belief as a volume of offsets from `centre`.

        Args:
            trust: the rest, 1 - trust, is spread evenly over the window.
        """
        mixed = self.prob * trust + ((1.0 - trust) / self.prob.numel() + 1e-30)
        return PoseBelief(mixed.log_()[None], self.window)

    def predict(self, motion: Motion) -> float:
        """Move the belief by a step of the vehicle.

        A slice of one heading theta moves by R(theta) d, less what the centre moves: the mean of that over the belief.

        Returns:
            The mass that left the window (the rest is scaled up).
        """
        step, cell_m = motion.before_from_after, self.window.cell_m
        yaws_rad = self.centre.yaw_rad + self.window.yaw_offsets_rad()
        cos, sin = np.cos(yaws_rad), np.sin(yaws_rad)
        moved_m = np.stack([cos * step.x_m - sin * step.y_m, sin * step.x_m + cos * step.y_m], axis=1)
        centre_m = self._marginal(0) @ moved_m
        wide_m, narrow_m = motion.std_along_m, motion.std_across_m
        axis = np.stack([cos, sin], axis=1)
        if wide_m < narrow_m:
            wide_m, narrow_m, axis = narrow_m, wide_m, np.stack([-sin, cos], axis=1)
        even_blur = (narrow_m / cell_m) ** 2
        transition = Transition(
            (moved_m - centre_m) / cell_m,
            variances=(max(even_blur, self._missing_variance(2)), max(even_blur, self._missing_variance(1))),
            axis=axis,
            axis_variance=(wide_m**2 - narrow_m**2) / cell_m**2,
            yaw_variance=max((motion.std_yaw_rad / self.yaw_step_rad) ** 2, self._missing_variance(0)),
            full_circle=self.window.full_circle,
        )
        prob = transition.forward(self.prob)
        self.changes.append(transition)
        self.centre = SE2(
            self.centre.x_m + float(centre_m[0]),
            self.centre.y_m + float(centre_m[1]),
            wrap_angle(self.centre.yaw_rad + step.yaw_rad),
        )
        kept = float(prob.sum(dtype=torch.float64))
        even = 1.0 / prob.numel()
        if kept < 1e-6:  # the whole belief drove out
            self.prob = torch.full_like(prob, even)
            return 1.0
        self.prob = prob.mul_((1.0 - ANYWHERE_SHARE) / kept).add_(ANYWHERE_SHARE * even)
        return max(0.0, 1.0 - kept)

    def update(self, measured: PoseBelief, prior: SE2, weight: float = 1.0) -> Agreement:
        """Multiply with what a scan says: l = exp(weight * max(TEMPER (log M - max log M), -BOUND_NATS)).

        Args:
            measured: the volume M (batch of one) about `prior`, with the same window.
            prior: the pose in the map frame that the volume is centred on, within a cell or so of `centre`.
            weight: 0 to 1, how much of it is news: successive scans see the same walls.

        Raises:
            ValueError: if the windows differ.
        """
        if measured.window.shape != self.window.shape:
            raise ValueError(f"expected a volume of shape {self.window.shape}, got {measured.window.shape}")
        log_prob = measured.log_prob[0].detach().to(self.prob)
        highest = float(log_prob.max())
        if not math.isfinite(highest):  # nothing was measured
            return Agreement(0.0, 1.0, 0.0)
        log_prob = interpolated(
            (log_prob - highest).clamp_(min=-_DEEPEST_NATS), self._bins_from(prior), self.window.full_circle
        )
        posterior = self.prob * (TEMPER * log_prob).clamp_(min=-BOUND_NATS).mul_(weight).exp_()
        posterior.div_(float(posterior.sum(dtype=torch.float64)))
        likelihood = log_prob.exp_()
        best = min(_log_peakedness(likelihood), _log_peakedness(self.prob))
        likelihood.mul_((1.0 - OUTLIER_SHARE) / float(likelihood.mean(dtype=torch.float64))).add_(OUTLIER_SHARE)
        trusting = likelihood.mul_(self.prob)
        ratio = float(trusting.sum(dtype=torch.float64))
        self.prob = posterior
        there, held = float(self._about_the_peak(trusting).sum()), float(self._about_the_peak(posterior).sum())
        return Agreement(math.log(ratio), min(1.0, there / (ratio * held)), best)

    def heading_mass(self, reach_rad: float) -> float:
        """Mass of the headings within `reach_rad` of the centre's."""
        near = np.abs(self.window.yaw_offsets_rad()) <= reach_rad
        return float(self._marginal(0)[near].sum())

    def narrow(self, window: PoseWindow) -> None:
        """Go on with fewer headings, those of another window about the same centre.

        Raises:
            ValueError: if the places differ or the new headings reach beyond the old ones.
        """
        change = Narrowing.between(self.window, window)
        self.changes.append(change)
        self.prob = change.forward(self.prob)
        self.prob.div_(float(self.prob.sum(dtype=torch.float64)))
        self.window = window

    def recentre(self) -> None:
        """Bring the mean to the middle by whole bins, as far as no more than `_MAY_CUT` of the mass is cut off."""
        step_rad, cell_m = self.yaw_step_rad, self.window.cell_m
        x_m, y_m = self._marginal_means_m()
        yaw_rad = wrap_angle(self.heading()[0] - self.centre.yaw_rad)
        turned = self._move_window(0, round(yaw_rad / step_rad), self.window.full_circle)
        north = self._move_window(1, round(y_m / cell_m), False)
        east = self._move_window(2, round(x_m / cell_m), False)
        self.centre = SE2(
            self.centre.x_m + east * cell_m,
            self.centre.y_m + north * cell_m,
            wrap_angle(self.centre.yaw_rad + turned * step_rad),
        )

    def _move_window(self, axis: int, bins: int, wraps: bool) -> int:
        """Move the window by whole bins along an axis, fewer where that would cut mass; the bins that were moved."""
        if not wraps:
            marginal = self._marginal(axis)
            while bins and _cut_mass(marginal, bins) > _MAY_CUT:
                bins -= int(math.copysign(1, bins))
        if bins == 0:
            return 0
        change = WindowMove(axis, bins, wraps)
        self.changes.append(change)
        prob = change.forward(self.prob)
        if not wraps:
            size = prob.shape[axis]
            start, count = (size - bins, bins) if bins > 0 else (0, -bins)
            # where nothing was known before, the share that may be anywhere
            prob.narrow(axis, start, count).fill_(ANYWHERE_SHARE / prob.numel())
            prob.div_(float(prob.sum(dtype=torch.float64)))
        self.prob = prob
        return bins

    def _about_the_peak(self, volume: Float[Tensor, "r y x"]) -> Float[Tensor, "_ _ _"]:
        """The part of a volume that lies within `PLACE_M` and `PLACE_RAD` of the belief's peak."""
        peak = np.unravel_index(int(self.prob.argmax()), self.window.shape)
        reach_m = math.ceil(PLACE_M / self.window.cell_m)
        reaches = (math.ceil(PLACE_RAD / self.yaw_step_rad), reach_m, reach_m)
        for axis, (place, reach, size) in enumerate(zip(peak, reaches, self.window.shape, strict=True)):
            index = int(place) + torch.arange(-reach, reach + 1)
            inside = (index >= 0) & (index < size)
            wraps = axis == 0 and self.window.full_circle and size > 2 * reach
            volume = volume.index_select(axis, index % size if wraps else index[inside])
        return volume

    def _missing_variance(self, axis: int) -> float:
        """What the peak's spread along an axis falls short of `LEAST_VARIANCE`, bins^2."""
        marginal = self._marginal(axis)
        steps = np.arange(-3, 4)
        index = int(np.argmax(marginal)) + steps
        wraps = axis == 0 and self.window.full_circle
        near = marginal[index % len(marginal)] if wraps else np.pad(marginal, 3)[index + 3]
        near = near / near.sum()
        return max(0.0, LEAST_VARIANCE - float(near @ steps**2 - (near @ steps) ** 2))

    def _bins_from(self, prior: SE2) -> tuple[float, float, float]:
        """How many bins (r, y, x) the window's centre lies beyond another pose."""
        cell_m = self.window.cell_m
        return (
            wrap_angle(self.centre.yaw_rad - prior.yaw_rad) / self.yaw_step_rad,
            (self.centre.y_m - prior.y_m) / cell_m,
            (self.centre.x_m - prior.x_m) / cell_m,
        )

    def _marginal(self, axis: int) -> Float[np.ndarray, " n"]:
        others = tuple(a for a in range(3) if a != axis)
        summed = self.prob.sum(others).double().numpy()
        marginal: np.ndarray = summed / summed.sum()
        return marginal

    def _marginal_means_m(self) -> tuple[float, float]:
        shifts_m = self.window.shifts_m()
        return float(self._marginal(2) @ shifts_m), float(self._marginal(1) @ shifts_m)


def _log_peakedness(volume: Float[Tensor, "r y x"]) -> float:
    """Log N sum p^2 of a volume, normalised: 0 if it is flat, log N if it is a single bin."""
    total = float(volume.sum(dtype=torch.float64))
    return math.log(volume.numel() * float((volume * volume).sum(dtype=torch.float64)) / total**2)


def _cut_mass(marginal: Float[np.ndarray, " n"], bins: int) -> float:
    """What a window loses that moves by so many bins."""
    return float(marginal[:bins].sum() if bins > 0 else marginal[bins:].sum())
