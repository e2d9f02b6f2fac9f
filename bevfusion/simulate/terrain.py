"""The lie of the land: gentle hills that OpenStreetMap does not know of."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Terrain:
    """Height above the datum as a sum of plane waves: smooth, endless, and cheap anywhere."""

    wave_per_m: Float[np.ndarray, "k 2"]  # angular wave numbers
    phase_rad: Float[np.ndarray, " k"]
    amplitude_m: Float[np.ndarray, " k"]

    @classmethod
    def random(cls, rng: np.random.Generator, slope: float = 0.015) -> "Terrain":
        """Long waves (150 to 800 m) that make slopes of about `slope`, and short ones (15 to 40 m) of centimetres."""
        length_m = np.concatenate([rng.uniform(150.0, 800.0, 4), rng.uniform(15.0, 40.0, 4)])
        heading = rng.uniform(-math.pi, math.pi, 8)
        number = 2.0 * np.pi / length_m
        amplitude = np.concatenate([slope * rng.uniform(0.2, 0.8, 4) / number[:4], rng.uniform(0.005, 0.02, 4)])
        return cls(
            number[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1),
            rng.uniform(0.0, 2.0 * math.pi, 8),
            amplitude,
        )

    @classmethod
    def flat(cls) -> "Terrain":
        """Height zero everywhere."""
        return cls(np.zeros((0, 2)), np.zeros(0), np.zeros(0))

    def height_m(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
        """Height of the road surface at points of the map frame."""
        waves = np.sin(xy_m.astype(float) @ self.wave_per_m.T + self.phase_rad) @ self.amplitude_m
        return np.asarray(waves, float)

    def gradient(self, xy_m: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """(dz/dx, dz/dy) at points of the map frame."""
        slopes: np.ndarray = (
            np.cos(xy_m.astype(float) @ self.wave_per_m.T + self.phase_rad) * self.amplitude_m
        ) @ self.wave_per_m
        return slopes

    def mesh(self, centre_m: Float[np.ndarray, " 2"], half_m: float, cell_m: float = 3.0) -> Float[np.ndarray, "n 4 3"]:
        """The land around a place as upward quads."""
        ticks = np.arange(-half_m, half_m + cell_m, cell_m)
        x, y = np.meshgrid(centre_m[0] + ticks, centre_m[1] + ticks, indexing="ij")
        xyz = np.stack([x, y, self.height_m(np.stack([x, y], axis=2))], axis=2)
        return np.stack([xyz[:-1, :-1], xyz[1:, :-1], xyz[1:, 1:], xyz[:-1, 1:]], axis=2).reshape(-1, 4, 3)
