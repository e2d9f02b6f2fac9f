"""Poses in hindsight: what the scans after a frame say of it, too. For logs; it is not causal.

The filter's beliefs are passed again from the last to the first. With posterior P_t, prediction P'_t and the transition
p(b | a) from one to the next, the smoothed belief S_t is

    S_t(a) = P_t(a) sum_b p(b | a) S_{t+1}(b) / P'_{t+1}(b),    S_T = P_T

(Rauch, Tung, Striebel 1965, on a grid: Kitagawa, JASA 82, 1987, eq. 2.4). That is exact on the beliefs as they are;
what a filter has lost by moving its window stays lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bevfusion.filters.sequence import SequenceLocalizer
from bevfusion.filters.track import ReadVolume, Track
from bevfusion.filters.transition import Snapshot
from bevfusion.geometry.se2 import circular_mean
from bevfusion.structures import Frame, PoseBelief, PoseEstimate

LAG_FRAMES = 50
"""What lies farther ahead says nothing new of a frame: odometry has drifted by as much as one scan is worth."""

_LEAST = 1e-30


@dataclass(frozen=True, slots=True)
class Hindsight:
    """What is finally said of a frame."""

    number: int  # of the frame in its sequence, from 0
    estimate: PoseEstimate | None  # None: nobody knows, not even afterwards


def smoothed(history: Sequence[Snapshot]) -> list[Float[Tensor, "_ _ _"]]:
    """Smoothed beliefs of a track, in the order of its snapshots, each over its own window and summing to one."""
    if not history:
        return []
    beliefs = [history[-1].posterior]
    for now, after in zip(reversed(history[:-1]), reversed(history[1:]), strict=True):
        message = torch.where(after.predicted > _LEAST, beliefs[-1] / after.predicted.clamp(min=_LEAST), 0.0)
        for change in reversed(after.changes):
            message = change.backward(message)
        belief = now.posterior * message.clamp_(min=0.0)
        total = float(belief.sum(dtype=torch.float64))
        # beliefs that exclude each other: the later ones know nothing of the earlier
        beliefs.append(belief / total if math.isfinite(total) and total > 0.0 else now.posterior)
    return beliefs[::-1]


class Smoother:
    """A sequence whose answers wait for the frames that follow.

    Answers come in blocks, each at least `lag_frames` and at most twice as many frames late; without a lag, at the end.
    A track that got lost counts up to the last frame at which it was likely, and one that was found counts from its
    first frame on: in hindsight the doubt about it is gone.
    """

    def __init__(self, localizer: SequenceLocalizer, read: ReadVolume, lag_frames: int | None = LAG_FRAMES) -> None:
        """A smoother of a sequence that has been started.

        Args:
            localizer: made with `record=True`.
            read: reads a pose out of a volume.
            lag_frames: None waits for the whole sequence, and keeps all its beliefs in memory.

        Raises:
            ValueError: if the lag is not positive.
        """
        if lag_frames is not None and lag_frames < 1:
            raise ValueError(f"a smoother waits for at least one frame, got a lag of {lag_frames}")
        self._localizer, self._read, self._lag = localizer, read, lag_frames
        self._count = 0
        self._said = 0  # frames that are final
        self._found: dict[int, PoseEstimate] = {}  # of frames that are not

    def step(self, frame: Frame) -> list[Hindsight]:
        """Take in the next frame; the frames that have become final with it, in order."""
        before = self._localizer.track
        self._localizer.step(frame)
        self._count += 1
        track = self._localizer.track
        if before is not None and before is not track:
            self._settle(before, before.history)
        if self._lag is None:
            return []
        if track is None:
            for other in self._localizer.alternatives:
                del other.history[: -self._lag]
            return self._final(self._count - 2 * self._lag)
        if len(track.history) < 2 * self._lag:
            return self._final(track.history[0].number if track.history else self._count - 2 * self._lag)
        self._settle(track, track.history)
        del track.history[: -self._lag]
        return self._final(track.history[0].number)

    def finish(self) -> list[Hindsight]:
        """All that is left, once there are no more frames."""
        if self._localizer.track is not None:
            self._settle(self._localizer.track, self._localizer.track.history)
        return self._final(self._count)

    def _settle(self, track: Track, history: Sequence[Snapshot]) -> None:
        """Smooth what a track remembers, up to the last frame at which it was likely."""
        likely = [i for i, snapshot in enumerate(history) if snapshot.probability >= self._localizer.limits.found]
        counted = history[: likely[-1] + 1] if likely else ()
        for snapshot, belief in zip(counted, smoothed(counted), strict=True):
            if snapshot.number < self._said:
                continue
            estimate = self._estimate(snapshot, belief, max(s.probability for s in counted))
            if estimate.confidence >= self._localizer.limits.least_confidence:
                self._found[snapshot.number] = estimate
            else:
                self._found.pop(snapshot.number, None)

    def _estimate(self, snapshot: Snapshot, belief: Float[Tensor, "r y x"], trust: float) -> PoseEstimate:
        mixed = (belief * trust + ((1.0 - trust) / belief.numel() + _LEAST)).log()
        reading = self._read(mixed.numpy(), snapshot.window)
        centre = snapshot.centre
        pose = centre.moved_by(reading.offset)
        headings = belief.sum((1, 2)).double().numpy()
        _, spread_rad = circular_mean(headings / headings.sum(), snapshot.window.yaw_offsets_rad())
        return PoseEstimate(
            pose,
            reading.covariance,
            spread_rad,
            reading.confidence,
            prior=centre,
            belief=PoseBelief(mixed[None], snapshot.window),
        )

    def _final(self, until: int) -> list[Hindsight]:
        """Frames before `until` that were not final yet."""
        numbers = range(self._said, max(self._said, until))
        self._said = numbers.stop
        return [Hindsight(number, self._found.pop(number, None)) for number in numbers]
