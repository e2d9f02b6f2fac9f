"""One hypothesis of where the vehicle is: a belief that follows it, and how far the evidence bears it out."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bevfusion.filters.histogram import Agreement, HistogramFilter
from bevfusion.filters.motion import Motion
from bevfusion.filters.settings import TrackEvidence
from bevfusion.filters.transition import Snapshot
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.structures import DataError, Locator, PoseEstimate, Scan

log = logging.getLogger(__name__)

_NEWEST_SHARE = 0.05  # of the running means of agreement
_MOST_USUAL = 1.0
_LEAST_SUPPORT = 0.01  # from here it takes six frames to come back
NARROW_RAD = math.radians(16.0)  # the window's headings, once the vehicle's is known ...
_KNOWN_RAD, _KNOWN_MASS = math.radians(12.0), 1.0 - 1e-5  # ... to within this, with this probability


@runtime_checkable
class Reading(Protocol):
    """One pose read out of a volume (`heads.read_out.PoseReading`)."""

    @property
    def offset(self) -> SE2:
        """From the window's centre."""

    @property
    def covariance(self) -> Float[np.ndarray, "3 3"]:
        """Of x, y in m and yaw in rad."""

    @property
    def confidence(self) -> float:
        """Probability close to the pose."""


ReadVolume = Callable[[Float[np.ndarray, "r y x"], PoseWindow], Reading]


@dataclass(frozen=True, slots=True)
class AgreementMeans:
    """How a track has agreed with its volumes so far: running means, slow enough to outlive a surprise."""

    usual: float = 0.3  # best - nats, bounded by `_MOST_USUAL`: no track may get used to being wrong
    level: float = -math.inf  # nats

    def after(self, agreement: Agreement, news: float) -> "AgreementMeans":
        """With one more frame."""
        short = min(max(agreement.best - agreement.nats, 0.0), _MOST_USUAL)
        share = _NEWEST_SHARE * news
        level = agreement.nats if agreement.nats > self.level else self.level + share * (agreement.nats - self.level)
        return AgreementMeans(self.usual + share * (short - self.usual), level)

    def moved(self, nats: float) -> "AgreementMeans":
        """In a window of another size, where everything counts `nats` more."""
        return AgreementMeans(self.usual, self.level + nats)


def news_share(evidence: TrackEvidence, distance_m: float, scale_m: float) -> float:
    """Share of a scan that the one before did not show already, after so many metres."""
    return max(evidence.least_news, 1.0 - math.exp(-distance_m / scale_m))


def updated_log_odds(
    evidence: TrackEvidence, log_odds: float, agreement: Agreement, news: float, means: AgreementMeans
) -> float:
    """The log odds of a track after one more frame, by the formula of `TrackEvidence`."""
    gain = evidence.worth * agreement.best - evidence.shortfall * (agreement.best - agreement.nats - means.usual)
    if means.level > 0.0:
        informed = min(1.0, agreement.best / means.level)
        gain -= evidence.drop * informed * max(0.0, means.level - agreement.nats - evidence.tolerance)
    limit = math.log((1.0 - evidence.hazard) / evidence.hazard)
    changed = log_odds + news * min(max(gain, -evidence.contradiction), evidence.support)
    return min(max(changed, -limit), limit)


def probability(log_odds: float) -> float:
    """The probability that log odds stand for."""
    return 1.0 / (1.0 + math.exp(-log_odds)) if log_odds > -700.0 else 0.0


class Track:
    """A belief about one stretch of map, asked of the network frame by frame."""

    def __init__(
        self,
        prior: SE2,
        offset_m: float,
        offset_rad: float,
        log_odds: float,
        evidence: TrackEvidence,
        *,
        record: bool = False,
    ) -> None:
        """Anywhere within +-offset_m (map axes) and +-offset_rad of a prior pose of the map frame.

        Args:
            prior: where the window starts.
            offset_m: half its side, kept while it moves.
            offset_rad: half its range of headings, pi is any; narrowed to `NARROW_RAD` once the heading is known.
            log_odds: for the vehicle being there.
            evidence: how odds change.
            record: keep a history for a smoother, which has to bound it.
        """
        self.offset_m, self.offset_rad = offset_m, offset_rad
        self.log_odds = log_odds
        self.score = 0.0  # sum of agreements: compares tracks that have seen the same frames
        self.history: list[Snapshot] = []
        self._record = record
        self._support = 1.0  # of the last frames: falls at once, comes back by a square root a frame
        self._evidence, self._means = evidence, AgreementMeans()
        self.waiting = False  # to be right again: it must agree with the volumes as well as before it went wrong
        self._prior = prior
        self._filter: HistogramFilter | None = None  # its grid is that of the first answer

    @property
    def centre(self) -> SE2:
        """The pose, map frame, that the window is centred on."""
        return self._prior if self._filter is None else self._filter.centre

    @property
    def mean(self) -> SE2:
        """Mean pose of the belief, map frame."""
        if self._filter is None:
            return self._prior
        x_m, y_m = self._filter.mean_xy_m
        return SE2(x_m, y_m, self._filter.heading()[0])

    @property
    def probability(self) -> float:
        """That the track follows the vehicle."""
        return probability(self.log_odds)

    @property
    def relative_spread(self) -> float:
        """Spread of the positions over that of an even window: 1 says that nothing is known, 0 is a point."""
        if self._filter is None:
            return 1.0
        return self._filter.spread_m / (self.offset_m * math.sqrt(2.0 / 3.0))

    def predict(self, motion: Motion) -> None:
        """Follow a step of the vehicle."""
        if self._filter is None:
            self._prior = self._prior @ motion.before_from_after
            return
        escaped = self._filter.predict(motion)
        # what has left the window is a way of being elsewhere
        staying = min(max(self.probability * (1.0 - escaped), 1e-12), 1.0 - self._evidence.hazard)
        self.log_odds = min(self.log_odds, math.log(staying / (1.0 - staying)))

    def observe(self, locator: Locator, scan: Scan, distance_m: float, number: int = 0) -> None:
        """Take in a scan.

        Args:
            locator: is asked about the window as it stands.
            scan: what was seen.
            distance_m: driven since the scan before.
            number: of the scan in its sequence, for the history.

        Raises:
            ValueError: if the locator does not show its belief.
        """
        if self._filter is not None:
            self._filter.recentre()
            if self.offset_rad > NARROW_RAD and self._filter.heading_mass(_KNOWN_RAD) > _KNOWN_MASS:
                self.offset_rad = NARROW_RAD
        try:
            answer = locator.locate(scan, self.centre, self.offset_m, self.offset_rad)
        except DataError as error:
            log.warning("a scan is left out: %s", error)
            if self._filter is not None:
                self._remember(self._filter, self._filter.prob, number)
            return
        if answer.belief is None:
            raise ValueError("a filter needs a locator whose estimates carry the whole belief, this one has none")
        first = self._filter is None
        if self._filter is None:
            self._filter = HistogramFilter.uniform(answer.belief.window, answer.prior)
        elif self._filter.window.shape != answer.belief.window.shape:
            before = self._filter.prob.numel()
            self._filter.narrow(answer.belief.window)
            self._means = self._means.moved(math.log(self._filter.prob.numel() / before))
        predicted = self._filter.prob
        news = 1.0 if first else news_share(self._evidence, distance_m, self._evidence.update_m)
        agreement = self._filter.update(answer.belief, answer.prior, news)
        news = news_share(self._evidence, distance_m, self._evidence.independent_m)
        self.score += news * agreement.nats
        self.log_odds = updated_log_odds(self._evidence, self.log_odds, agreement, news, self._means)
        if not self.waiting:
            self._means = self._means.after(agreement, news)
        supported = math.exp(min(0.0, agreement.nats)) * agreement.support
        # a wrong belief may meet a stray peak by chance, but not again and again
        self._support = max(min(supported, math.sqrt(self._support)), _LEAST_SUPPORT)
        self._remember(self._filter, predicted, number)

    def estimate(self, read: ReadVolume) -> PoseEstimate | None:
        """The pose, its covariance and confidence; None before the first scan.

        The belief that is read is mixed with an even one by the chance that the track is wrong, at once and in full
        where the last volumes contradicted it or pointed elsewhere: a vehicle that was carried off is never placed with
        confidence.
        """
        if self._filter is None:
            return None
        belief = self._filter.belief(trust=self.probability * self._support)
        reading = read(belief.log_prob[0].numpy(), belief.window)
        centre = self._filter.centre
        pose = centre.moved_by(reading.offset)
        return PoseEstimate(
            pose, reading.covariance, self._filter.heading()[1], reading.confidence, prior=centre, belief=belief
        )

    def _remember(self, now: HistogramFilter, predicted: Float[Tensor, "r y x"], number: int) -> None:
        """Keep what a smoother needs of the frame, if one is there."""
        changes = tuple(now.changes)
        now.changes.clear()
        if self._record:
            self.history.append(
                Snapshot(number, predicted, now.prob, changes, now.window, now.centre, self.probability)
            )
