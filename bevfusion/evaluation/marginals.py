"""Beliefs of the worst answers, kept small: a whole volume for every frame would not fit into memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from bevfusion.evaluation.predictions import Prediction
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.introspection import AttentionHook
from bevfusion.structures import PoseBelief


@dataclass(frozen=True, slots=True)
class Marginals:
    """A belief without its joint structure: each sums to one."""

    centre: SE2  # of the window, map frame
    window: PoseWindow
    place: Float[np.ndarray, "y x"]  # whatever the heading; row 0 is the lowest y
    heading: Float[np.ndarray, " r"]  # whatever the place
    attention: Mapping[str, Float[np.ndarray, "h w"]] = field(default_factory=dict)  # ego frame, by slot
    attention_half_m: float = 0.0  # half the side of the square it covers

    @classmethod
    def of(cls, belief: PoseBelief, centre: SE2, hook: AttentionHook | None = None) -> "Marginals":
        """Sums over a belief (batch of one) whose window lies about `centre`, and the attention that led to it."""
        prob = belief.log_prob[0].double().exp().cpu().numpy()
        seen = None if hook is None else hook.attention()
        half_m = 0.0 if hook is None else hook.half_extent_m
        return cls(centre, belief.window, prob.sum(0), prob.sum((1, 2)), seen or {}, half_m)


class WorstMarginals:
    """The marginals of the answers farthest from the truth, each frame once, as they come."""

    def __init__(self, count: int) -> None:
        """Room for so many frames."""
        self._count = count
        self._kept: dict[tuple[int, int], tuple[float, int, int, Marginals]] = {}  # distance, -order, draw, marginals
        self._offered = 0

    def offer(self, prediction: Prediction, belief: PoseBelief, centre: SE2, hook: AttentionHook | None = None) -> None:
        """Keep the marginals if the answer is among the worst so far.

        Args:
            prediction: the answer.
            belief: that it was read from (batch of one).
            centre: of the belief's window, map frame.
            hook: where the network's attention can still be seen.
        """
        self._offered += 1
        frame = (prediction.drive_index, prediction.position)
        wrong = prediction.estimate.x_m - prediction.truth.x_m, prediction.estimate.y_m - prediction.truth.y_m
        distance_m = float(np.hypot(*wrong))
        if frame in self._kept:
            if distance_m <= self._kept[frame][0]:
                return
        elif len(self._kept) == self._count:
            best = min(self._kept, key=lambda kept: self._kept[kept][:2])
            if distance_m <= self._kept[best][0]:
                return
            del self._kept[best]
        self._kept[frame] = distance_m, -self._offered, prediction.draw, Marginals.of(belief, centre, hook)

    def of(self, prediction: Prediction) -> Marginals | None:
        """The marginals of an answer, if they were kept."""
        kept = self._kept.get((prediction.drive_index, prediction.position))
        return kept[3] if kept is not None and kept[2] == prediction.draw else None

    def items(self) -> list[tuple[int, int, float, Marginals]]:
        """(position, draw, distance in m, marginals) of what is kept."""
        return [(at[1], kept[2], kept[0], kept[3]) for at, kept in self._kept.items()]

    def keep(self, frame: tuple[int, int], draw: int, distance_m: float, marginals: Marginals) -> None:
        """Put back what `items` gave, under (index of the drive, position)."""
        self._kept[frame] = (distance_m, 0, draw, marginals)

    def add(self, other: "WorstMarginals") -> None:
        """Keep also all that another one has, of other drives."""
        self._kept |= other._kept
