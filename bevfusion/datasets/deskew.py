"""Motion compensation: the points of a turn as the sensor would have seen them all at one moment."""

import numpy as np
from jaxtyping import Float

from bevfusion.datasets.tracks import PoseTrack

MAX_SWEEP_S = 0.6  # a turn that claims to take longer has times of another meaning
LEAST_KNOWN = 0.5  # of the points: where fewer have times that can be, they mean something else
REACH_S = 0.3  # of the track before and after the turn, whose samples the motion is taken from


def deskewed(
    xyz: Float[np.ndarray, "n 3"], time_s: Float[np.ndarray, " n"], stamp_ns: int, odometry: PoseTrack
) -> Float[np.ndarray, "n 3"]:
    """Points moved to where they lie in the frame of the LiDAR at `stamp_ns`.

    The motion is that of the plane: x, y and yaw of the track, steady between its samples. Before its first and
    after its last sample the motion of the nearest interval goes on.

    Args:
        xyz: metres, each in the LiDAR's frame at its own moment.
        time_s: seconds of each point after `stamp_ns`; where it is not finite, or impossible, the point stays.
        stamp_ns: the moment of the scan.
        odometry: poses of the LiDAR.

    Returns:
        The points, or `xyz` itself where the track does not cover the turn or the times span no plausible turn.
    """
    times_s = time_s.astype(np.float64)
    known = np.isfinite(times_s) & (np.abs(np.nan_to_num(times_s)) <= MAX_SWEEP_S)
    if not known.any() or known.mean() < LEAST_KNOWN:
        return xyz
    times_s = np.where(known, times_s, 0.0)
    if odometry.at(stamp_ns) is None:
        return xyz
    first_s, last_s = float(times_s.min()), float(times_s.max())
    if last_s - first_s > MAX_SWEEP_S or first_s == last_s == 0.0:
        return xyz
    reach_ns = int(REACH_S * 1e9)
    low = int(np.searchsorted(odometry.stamps_ns, stamp_ns + int(first_s * 1e9) - reach_ns))
    high = int(np.searchsorted(odometry.stamps_ns, stamp_ns + int(last_s * 1e9) + reach_ns, side="right"))
    low, high = max(low - 1, 0), min(high + 1, len(odometry.stamps_ns))
    if high - low < 2:
        return xyz
    knots_s = (odometry.stamps_ns[low:high] - stamp_ns) / 1e9
    x_m, y_m, yaw_rad = (
        _steady(times_s, knots_s, values) for values in (*odometry.xy_m[low:high].T, odometry.yaw_rad[low:high])
    )
    x0_m, y0_m, yaw0_rad = (
        float(_steady(np.zeros(1), knots_s, values)[0])
        for values in (*odometry.xy_m[low:high].T, odometry.yaw_rad[low:high])
    )
    turn = yaw_rad - yaw0_rad
    cos, sin = np.cos(turn), np.sin(turn)
    cos0, sin0 = np.cos(yaw0_rad), np.sin(yaw0_rad)
    ahead_m = cos0 * (x_m - x0_m) + sin0 * (y_m - y0_m)
    left_m = -sin0 * (x_m - x0_m) + cos0 * (y_m - y0_m)
    moved = xyz.copy()
    moved[:, 0] = cos * xyz[:, 0] - sin * xyz[:, 1] + ahead_m
    moved[:, 1] = sin * xyz[:, 0] + cos * xyz[:, 1] + left_m
    return moved


def _steady(
    at_s: Float[np.ndarray, " n"], knots_s: Float[np.ndarray, " k"], values: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " n"]:
    """Linear interpolation that goes on beyond both ends with the slope found there."""
    inside = np.interp(at_s, knots_s, values)
    first = (values[1] - values[0]) / (knots_s[1] - knots_s[0])
    last = (values[-1] - values[-2]) / (knots_s[-1] - knots_s[-2])
    before, after = np.minimum(at_s - knots_s[0], 0.0), np.maximum(at_s - knots_s[-1], 0.0)
    result: np.ndarray = inside + first * before + last * after
    return result
