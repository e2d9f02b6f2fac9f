"""Whether a scan was taken where it fits best at all: the truth may lie outside the window, or in another town.

Probabilities of a window sum to one whatever it holds, so they cannot say. Two things can, in absolute terms:

* the lead l: by how many nats the best pose is ahead of every pose more than 5 m from it. Where a scan does not belong,
  many places fit about as badly;
* the fit of the ground g = sqrt(-sum_c log(1 - max(rho_c, 0)^2)): how much of its contrast the map's roads explain
  (`road_contrast.py`), per cell, so that it does not grow with what was seen.

    log odds = 2.61 log(1 + l) + 6.14 g - 7.34

A logistic regression (both classes weighted alike) on 350 questions about simulated scans on streets of twelve real
maps that trained nothing, half of them asked on the map of another town; no real scan was used. On eight real drives
(83 right answers; 277 wrong ones: other towns, the right town 70 to 130 m off, missed) the area under its ROC is
0.987, that of the lead alone 0.981, and 0.866 that of the log-odds that are learned of the fused tensor
(`pose_check.py`).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.geometry.grid import PoseWindow
from bevfusion.heads.pose_volume import best_pose_elsewhere

AWAY_M = 5.0
_LEAD, _GROUND, _BIAS = 2.61, 6.14, -7.34


def log_odds_here(
    scores: Float[Tensor, "b r y x"], poses: Float[Tensor, "b 3"], explained: Float[Tensor, " b"], window: PoseWindow
) -> Float[Tensor, " b"]:
    """Log-odds that each scan was taken within 2 m and 4 degrees of its best pose.

    Args:
        scores: of all poses of the window, nats.
        poses: the best of them, x, y in m and yaw in rad.
        explained: -sum_c log(1 - rho_c^2) at these poses, at least 0.
        window: of the scores.

    Returns:
        NaN where the window is so small that no pose may lie `AWAY_M` from the best one: nothing to compare with.
    """
    if window.reach * window.cell_m * math.sqrt(2.0) <= AWAY_M:
        return torch.full_like(explained, torch.nan)
    lead = lead_over_elsewhere(scores, poses, window).clamp(min=0.0)
    return _LEAD * lead.log1p() + _GROUND * explained.clamp(min=0.0).sqrt() + _BIAS


def lead_over_elsewhere(
    scores: Float[Tensor, "b r y x"], poses: Float[Tensor, "b 3"], window: PoseWindow
) -> Float[Tensor, " b"]:
    """How far the highest score is ahead of all that belong to places more than `AWAY_M` off; infinite without any."""
    _, elsewhere = best_pose_elsewhere(scores, window, poses, AWAY_M, 2.0 * math.pi)  # whichever way it faces
    return scores.flatten(1).amax(1) - elsewhere
