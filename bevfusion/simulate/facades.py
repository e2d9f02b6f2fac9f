"""The looks of houses: windows and doors set back, balconies set out, and how bright each wall is.

They are not meshed. A ray that meets a wall reads there, from the table of its building, how far the surface lies
behind or before the wall's plane: thousands of windows cost nothing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True)
class Facades:
    """One row a building; lengths in metres."""

    bay_m: Float[np.ndarray, " s"]  # distance between windows
    window_m: Float[np.ndarray, " s"]  # their width
    sill_m: Float[np.ndarray, " s"]  # their lower edge above the floor
    top_m: Float[np.ndarray, " s"]  # their upper edge above the floor
    storey_m: Float[np.ndarray, " s"]
    recess_m: Float[np.ndarray, " s"]  # depth of the pane behind the wall
    balcony_m: Float[np.ndarray, " s"]  # reach of balconies on every third bay, 0 for none
    door_every: Int[np.ndarray, " s"]  # every so many bays the ground floor has a door or a gate
    plinth_m: Float[np.ndarray, " s"]  # height of a base that stands 5 cm out
    brightness: Float[np.ndarray, " s"]  # reflectance of the plaster
    base_m: Float[np.ndarray, " s"]  # height of the ground floor above the datum

    @classmethod
    def random(cls, count: int, rng: np.random.Generator) -> "Facades":
        """As many facades as there are buildings."""
        bay = rng.uniform(2.0, 4.5, count)
        sill = rng.uniform(0.5, 1.3, count)
        return cls(
            bay_m=bay,
            window_m=bay * rng.uniform(0.25, 0.6, count),
            sill_m=sill,
            top_m=sill + rng.uniform(1.0, 1.5, count),
            storey_m=rng.uniform(2.8, 3.6, count),
            recess_m=rng.uniform(0.08, 0.3, count),
            balcony_m=np.where(rng.random(count) < 0.2, rng.uniform(0.4, 1.2, count), 0.0),
            door_every=rng.integers(3, 8, count),
            plinth_m=np.where(rng.random(count) < 0.5, rng.uniform(0.3, 1.0, count), 0.0),
            brightness=np.clip(rng.normal(0.48, 0.11, count), 0.12, 0.9),
            base_m=np.zeros(count),
        )

    def relief(
        self, style: Int[np.ndarray, " n"], along_m: Float[np.ndarray, " n"], up_m: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """(depth behind the wall's plane in metres, whether it is glass) at places of walls.

        Args:
            style: row of the table.
            along_m: distance from the wall's first corner.
            up_m: height above the ground.
        """
        bay = np.floor(along_m / self.bay_m[style]).astype(int)
        across = np.abs(along_m - (bay + 0.5) * self.bay_m[style])
        storey = np.floor(up_m / self.storey_m[style]).astype(int)
        in_storey = up_m - storey * self.storey_m[style]
        narrow = across < 0.5 * self.window_m[style]
        pane = narrow & (in_storey > self.sill_m[style]) & (in_storey < self.top_m[style])
        # shifted by the row, so that neighbours do not align their doors
        gate = ((bay + 3 * style) % self.door_every[style] == 0) & (storey == 0)
        door = gate & (across < 0.7) & (in_storey < 2.1)
        depth = np.where(door, self.recess_m[style] * 2.0, np.where(pane & ~gate, self.recess_m[style], 0.0))
        depth = np.where((depth == 0.0) & (up_m < self.plinth_m[style]), -0.05, depth)
        balcony = (bay % 3 == 1) & (storey > 0) & (in_storey < 1.0) & (self.balcony_m[style] > 0)
        depth = np.where(balcony, -self.balcony_m[style], depth)
        return depth, pane & ~gate & ~balcony
