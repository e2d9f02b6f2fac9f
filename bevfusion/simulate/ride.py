"""A car on its springs: how the land under the wheels lifts, rolls and pitches the body."""

import math

import numpy as np
from jaxtyping import Float

from bevfusion.simulate.route import Path
from bevfusion.simulate.terrain import Terrain

_WHEELBASE_M, _TRACK_M = 2.7, 1.55
_STEP_M = 0.25
_FREQUENCY_HZ, _DAMPING = 1.4, 0.4  # of the body on its springs (Gillespie, Fundamentals of Vehicle Dynamics, ch. 5)


def ride(
    path: Path, terrain: Terrain, speed_m_s: float, travelled_m: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """(height of the road under the body, roll, pitch) at distances along a path; positive pitch points the nose down.

    The road moves the wheels; the body follows as a damped oscillator in heave, roll and pitch, driven at `speed_m_s`.
    """
    ticks = np.arange(0.0, max(path.length_m, float(travelled_m[-1])) + _STEP_M, _STEP_M)
    place, yaw = path.at(ticks)
    ahead = 0.5 * _WHEELBASE_M * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    left = 0.5 * _TRACK_M * np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    wheel = {
        (front, side): terrain.height_m(place + front * ahead + side * left) for front in (1, -1) for side in (1, -1)
    }
    front, rear = (0.5 * (wheel[(end, 1)] + wheel[(end, -1)]) for end in (1, -1))
    left_m, right_m = (0.5 * (wheel[(1, side)] + wheel[(-1, side)]) for side in (1, -1))
    wanted = np.stack(
        [
            0.5 * (front + rear),
            np.arctan((left_m - right_m) / _TRACK_M),
            -np.arctan((front - rear) / _WHEELBASE_M),
        ],
        axis=1,
    )
    body = _follow(wanted, _STEP_M / speed_m_s)
    height, roll, pitch = (np.interp(travelled_m, ticks, body[:, axis]) for axis in range(3))
    return height, roll, pitch


def _follow(wanted: Float[np.ndarray, "n 3"], step_s: float) -> Float[np.ndarray, "n 3"]:
    """The oscillator's answer to what the wheels do; springs and dampers both stand on the wheels."""
    omega = 2.0 * math.pi * _FREQUENCY_HZ
    state, rate = wanted[0].copy(), np.zeros(3)
    out = np.empty_like(wanted)
    moved = np.diff(wanted, axis=0, prepend=wanted[:1]) / step_s
    for i, (place, motion) in enumerate(zip(wanted, moved, strict=True)):
        # semi-implicit Euler: stable to omega * step = 2, here it is 0.4 at most
        rate += step_s * (omega**2 * (place - state) + 2.0 * _DAMPING * omega * (motion - rate))
        state = state + step_s * rate
        out[i] = state
    return out
