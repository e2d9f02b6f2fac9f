"""A scan as the same sensor would have taken it in a worse hour: fewer beams, rain, a blocked view, a bent mount.

Pure functions of a scan; what is drawn at random is drawn from the generator that is given.
"""

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from bevfusion.datasets.augment import Vehicle, insert_boxes
from bevfusion.lidar.ground import fit_ground
from bevfusion.structures import Scan

_PERSON_CLASS = 30  # of SemanticKITTI
_PERSON_M = (0.5, 0.5, 1.75)
_PEOPLE_AWAY_M = (3.0, 30.0)
_CONTRAST = 3.912  # ln 50: a black thing is seen against the sky down to a contrast of 2 % (Koschmieder 1924)


def fewer_beams(scan: Scan, beams: int, of: int = 64) -> Scan:
    """Every (of / beams)-th elevation ring.

    Rings are `of` equal steps from the lowest to the highest elevation of the scan, the outermost half percent of the
    points apart: what a sensor of other beams leaves is about right, whatever the sensor.

    Raises:
        ValueError: if beams is not from 1 to `of`.
    """
    if not 1 <= beams <= of:
        raise ValueError(f"beams lie from 1 to {of}, got {beams}")
    if beams == of or not len(scan):
        return scan
    rings = _rings(scan, of)
    kept = np.unique(np.round((np.arange(beams) + 0.5) * of / beams - 0.5).astype(np.int64))
    return scan.select(np.isin(rings, kept))


def _rings(scan: Scan, count: int) -> Int[np.ndarray, " n"]:
    elevation = np.arctan2(scan.xyz[:, 2], np.hypot(scan.xyz[:, 0], scan.xyz[:, 1]))
    low, high = np.percentile(elevation, (0.5, 99.5))
    rings: np.ndarray = np.clip((elevation - low) / max(high - low, 1e-6) * count, 0, count - 1).astype(np.int64)
    return rings


def within_range(scan: Scan, range_m: float) -> Scan:
    """Without what is farther away than so much."""
    return scan.select(np.linalg.norm(scan.xyz, axis=1) <= range_m)


def without_sector(scan: Scan, width_rad: float, centre_rad: float = 0.0) -> Scan:
    """Without what lies in a sector about a direction (0 ahead, to the left positive): a blocked view."""
    off_rad = np.angle(np.exp(1j * (np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]) - centre_rad)))
    return scan.select(np.abs(off_rad) >= 0.5 * width_rad)


def in_weather(scan: Scan, visibility_m: float, back_share: float, rng: np.random.Generator) -> Scan:
    """In rain, snow or fog: returns are lost, and some of the lost come back from drops or flakes near the sensor.

    Light is scattered with the extinction alpha = 3.912 / V a metre, so that of the returns from a range R the share
    exp(-2 alpha R) is left. What is lost comes back, with the probability `back_share`, from a place along its ray
    whose distance is exponential with the mean 1 / (2 alpha), cut at R: of rain little does, of snow half.

    Args:
        scan: in clear air.
        visibility_m: V, the meteorological visibility; infinite: clear air.
        back_share: 0 to 1.
        rng: draws who is lost.
    """
    if math.isinf(visibility_m):
        return scan
    loss_per_m = 2.0 * _CONTRAST / visibility_m
    range_m = np.linalg.norm(scan.xyz, axis=1)
    left = np.exp(-loss_per_m * range_m)
    kept = rng.random(len(scan)) < left
    back = ~kept & (rng.random(len(scan)) < back_share)
    # of an exponential distribution that is cut at R, by its inverse
    near_m = -np.log1p(-rng.random(len(scan)) * (1.0 - left)) / loss_per_m
    xyz, intensity = scan.xyz.copy(), scan.intensity.copy()
    share = np.minimum(near_m[back] / np.maximum(range_m[back], 1e-6), 1.0)
    xyz[back] *= share[:, None].astype(xyz.dtype)
    intensity[back] = 0.05
    labels = None
    if scan.labels is not None:
        labels = scan.labels.copy()
        labels[back] = 1  # outlier
    return Scan(xyz, intensity, labels).select(kept | back)


def turned(scan: Scan, yaw_rad: float) -> Scan:
    """As if the sensor were mounted turned by so much, and nobody knew: points turn the other way."""
    return _moved(scan, _about_z(-yaw_rad), (0.0, 0.0, 0.0))


def tilted(scan: Scan, pitch_rad: float, roll_rad: float = 0.0) -> Scan:
    """As if the sensor's nose hung down by `pitch_rad` and it leaned to the right by `roll_rad`, unknown to anybody."""
    cos, sin = math.cos(pitch_rad), math.sin(pitch_rad)
    about_y = np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    cos, sin = math.cos(roll_rad), math.sin(roll_rad)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
    return _moved(scan, about_x @ about_y, (0.0, 0.0, 0.0))


def raised(scan: Scan, up_m: float) -> Scan:
    """As if the sensor sat higher on its vehicle: the same points lie lower in its frame."""
    return _moved(scan, np.eye(3), (0.0, 0.0, -up_m))


def smeared(scan: Scan, speed_m_s: float, yaw_rate_rad_s: float = 0.0, turn_s: float = 0.1) -> Scan:
    """As a moving sensor sees it whose motion is not undone: the stamp is the middle of the turn, when it looks ahead.

    A point at the azimuth phi is seen phi / (2 pi) turns before that (the sensor turns clockwise), from where the
    vehicle was by then.

    Args:
        scan: as of one moment.
        speed_m_s: of the vehicle, ahead.
        yaw_rate_rad_s: to the left.
        turn_s: one revolution.
    """
    time_s = -np.arctan2(scan.xyz[:, 1], scan.xyz[:, 0]) / (2.0 * math.pi) * turn_s
    yaw_rad, ahead_m = yaw_rate_rad_s * time_s, speed_m_s * time_s
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    x_m, y_m = scan.xyz[:, 0] - ahead_m, scan.xyz[:, 1]
    xyz = np.stack([cos * x_m + sin * y_m, -sin * x_m + cos * y_m, scan.xyz[:, 2]], axis=1)
    return replace(scan, xyz=xyz.astype(scan.xyz.dtype))


def insert_people(scan: Scan, count: int, rng: np.random.Generator) -> Scan:
    """With so many people on the ground, 3 to 30 m away in any direction; what stands behind them is hidden."""
    if not count:
        return scan
    ground = fit_ground(scan.xyz)
    away_m, angle = rng.uniform(*_PEOPLE_AWAY_M, count), rng.uniform(-math.pi, math.pi, count)
    xy_m = np.stack([away_m * np.cos(angle), away_m * np.sin(angle)], axis=1)
    size_m = np.array(_PERSON_M)
    people = [
        Vehicle(np.array([*place, z_m + 0.5 * size_m[2]]), float(yaw_rad), size_m)
        for place, z_m, yaw_rad in zip(xy_m.tolist(), ground.z_m(xy_m).tolist(), angle.tolist(), strict=True)
    ]
    return insert_boxes(scan, people, rng, _PERSON_CLASS)


def _about_z(yaw_rad: float) -> Float[np.ndarray, "3 3"]:
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _moved(scan: Scan, turn: Float[np.ndarray, "3 3"], shift_m: tuple[float, float, float]) -> Scan:
    return replace(scan, xyz=(scan.xyz @ turn.T + np.array(shift_m)).astype(scan.xyz.dtype))
