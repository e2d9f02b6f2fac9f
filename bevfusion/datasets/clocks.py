"""When the messages of a log were taken: one decision a topic, compared across topics, for the whole log.

Every message has two times: that of its header, by the clock of its sensor, and that of its recording. Headers are
the better ones, if the clocks agree. They often do not: a LiDAR counts in TAI or GPS time, 37 or 18 s ahead of UTC,
or from its own start; a clock is set while the log is recorded; headers are never set. A bag that was recorded anew
from a player has headers of one day and recording times of another, and nothing is wrong with that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.summary import InputSummary

TOLD_APART_S = 0.15  # less is what messages of their size take to the recorder
APART_S = 0.5  # topics whose headers differ by more, at one moment of recording, have different clocks
JUMP_S = 1.0
LEAP_TOLERANCE_S = 0.4
HALF_HOUR_S = 1800.0
STEADY_S = 0.2  # how far an offset between two clocks may wander before it counts as a drift
MAX_DRIFT_REST_S = 0.5
# first day -> seconds that GPS time is ahead of UTC; TAI is 19 s ahead of GPS time
GPS_AHEAD_S = (("1999-01-01", 13), ("2006-01-01", 14), ("2009-01-01", 15), ("2012-07-01", 16), ("2015-07-01", 17))
GPS_AHEAD_NOW_S, NOW_SINCE = 18, "2017-01-01"
TAI_AHEAD_OF_GPS_S = 19


@dataclass(frozen=True)
class TopicTimes:
    """The two times of each message of a topic, in order of recording.

    Args:
        name: of the topic.
        recorded_ns: when they were recorded.
        header_ns: stamps of their headers; 0 where one was never set or the message cannot be read.
    """

    name: str
    recorded_ns: Int[np.ndarray, " n"]
    header_ns: Int[np.ndarray, " n"]


def settled_stamps(topics: Sequence[TopicTimes], summary: InputSummary) -> list[Int[np.ndarray, " n"]]:
    """Stamps of all messages of all topics, on one clock.

    Args:
        topics: those that are read, the scans first.
        summary: is told which clock counts, and what was corrected.

    Returns:
        The stamps in ns of each topic.
    """
    own = [_by_own_clock(topic, summary) for topic in topics]
    trusted = [at for at, stamps_ns in enumerate(own) if stamps_ns is not None]
    if not trusted:
        if topics:
            summary.add("assumed", "clock", "no header is set: scans and poses take the times of their recording")
        return [topic.recorded_ns for topic in topics]
    offsets_s = {at: _offsets_s(own[at], topics[at]) for at in trusted}
    reference = _reference(trusted, offsets_s, topics)
    base = topics[reference].recorded_ns, offsets_s[reference]
    ahead_s = float(np.median(base[1]))
    told = "" if abs(ahead_s) < JUMP_S else f", {_ahead(ahead_s)} of the recorder's"
    summary.add("used", "clock", f"that of the headers of {topics[reference].name}{told}")
    return [
        _onto_clock(topics[at], own[at], offsets_s.get(at), base, topics[reference].name, summary)
        if at != reference
        else _ns(own[at])
        for at in range(len(topics))
    ]


def _ns(stamps_ns: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " n"]:
    assert stamps_ns is not None
    return stamps_ns


def _by_own_clock(topic: TopicTimes, summary: InputSummary) -> Int[np.ndarray, " n"] | None:
    """Headers of a topic with its steps taken out and the missing ones put in, or None if they are of no use."""
    known = topic.header_ns > 0
    if known.sum() < 0.5 * len(known) or not known.any():
        if len(known):
            told = f"{int((~known).sum())} of {len(known)} headers have no stamp: the times of recording count"
            summary.add("assumed", topic.name, told, count=int((~known).sum()), total=len(known))
        return None
    header_ns, recorded_ns = topic.header_ns[known], topic.recorded_ns[known]
    if len(header_ns) > 2 and len(np.unique(header_ns)) < 0.5 * len(header_ns):
        told = f"headers of {len(header_ns)} messages have {len(np.unique(header_ns))} stamps: times of recording count"
        summary.add("assumed", topic.name, told)
        return None
    shifts_ns = _steps_ns(header_ns, recorded_ns)
    if len(np.unique(shifts_ns)) > max(3, len(header_ns) // 10):
        told = f"its headers jump {len(np.unique(shifts_ns)) - 1} times: the times of recording count"
        summary.add("warning", topic.name, told)
        return None
    pieces, sizes = np.unique(shifts_ns, return_counts=True)
    latest = [abs(float(np.median((header_ns - recorded_ns)[shifts_ns == piece]))) for piece in pieces]
    # the piece with most messages keeps its time; of two alike that nearer to the recorder's
    usual = pieces[max(range(len(pieces)), key=lambda at: (sizes[at], -latest[at]))]
    moved = int((shifts_ns != usual).sum())
    if moved:
        far_s = max((abs(int(piece) - int(usual)) / 1e9 for piece in pieces), default=0.0)
        told = f"the clock of {moved} of {len(known)} headers is off by up to {far_s:.4g} s: put right by the recording"
        summary.add("warning", topic.name, told, count=moved, total=len(known))
    stamps_ns = np.empty(len(known), dtype=np.int64)
    stamps_ns[known] = header_ns - (shifts_ns - usual)
    if not known.all():
        missing = int((~known).sum())
        offsets_ns = np.interp(
            (topic.recorded_ns[~known] - recorded_ns[0]).astype(np.float64),
            (recorded_ns - recorded_ns[0]).astype(np.float64),
            (stamps_ns[known] - recorded_ns).astype(np.float64),
        )
        stamps_ns[~known] = topic.recorded_ns[~known] + offsets_ns.astype(np.int64)
        told = f"{missing} of {len(known)} headers have no stamp: taken from the times of recording"
        summary.add("assumed", topic.name, told, count=missing, total=len(known))
    return stamps_ns


def _steps_ns(header_ns: Int[np.ndarray, " n"], recorded_ns: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How far each header is off by the steps that its clock has made since the first message.

    A step of the headers that the recording does not share is one of their clock; a step of the recording alone is a
    pause of the player, and counts for nothing.
    """
    by_header, by_record = np.diff(header_ns), np.diff(recorded_ns)
    jump_ns = int(JUMP_S * 1e9)
    alone = (np.abs(by_record) <= jump_ns) | (by_header < -jump_ns) | (by_header > 3 * by_record + jump_ns)
    stepped = (np.abs(by_header - by_record) > jump_ns) & (np.abs(by_header) > jump_ns) & alone
    shifts: np.ndarray = np.concatenate([[0], np.cumsum(np.where(stepped, by_header - by_record, 0))])
    # equal but for the jitter of the recording: a clock that was set back stands where it stood
    values = np.unique(shifts)
    starts = np.concatenate([[True], np.diff(values) > jump_ns // 4])
    alike: np.ndarray = values[starts][np.cumsum(starts)[np.searchsorted(values, shifts)] - 1]
    return alike


def _offsets_s(stamps_ns: Int[np.ndarray, " n"] | None, topic: TopicTimes) -> Float[np.ndarray, " n"]:
    offsets: np.ndarray = (_ns(stamps_ns) - topic.recorded_ns) / 1e9
    return offsets


def _reference(trusted: Sequence[int], offsets_s: dict[int, np.ndarray], topics: Sequence[TopicTimes]) -> int:
    """The topic whose clock counts: of the largest group that agree, or the recorder's, or the scans'."""
    medians = {at: float(np.median(offsets_s[at])) for at in trusted}

    def votes(at: int) -> int:
        return sum(_agree(at, other, offsets_s, topics) for other in trusted)

    return max(trusted, key=lambda at: (abs(medians[at]) < JUMP_S, votes(at), -at))


def _agree(first: int, second: int, offsets_s: dict[int, np.ndarray], topics: Sequence[TopicTimes]) -> bool:
    apart_s = _apart_s(topics[second], offsets_s[second], (topics[first].recorded_ns, offsets_s[first]))
    return apart_s is not None and abs(float(np.median(apart_s))) <= APART_S


def _apart_s(
    topic: TopicTimes, offsets_s: Float[np.ndarray, " n"], base: tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]
) -> Float[np.ndarray, " k"] | None:
    """How far a topic's clock is ahead of another's, where both were recorded; None if they never were at once."""
    if len(topic.recorded_ns) > 1 and np.ptp(topic.recorded_ns) == 0:  # times of recording that tell nothing
        return None
    both = _overlap(topic.recorded_ns, base[0])
    return offsets_s[both] - _at(topic.recorded_ns[both], base) if both.any() else None


def _overlap(recorded_ns: Int[np.ndarray, " n"], other_ns: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    second_ns = 10**9
    both: np.ndarray = (recorded_ns >= other_ns[0] - second_ns) & (recorded_ns <= other_ns[-1] + second_ns)
    return both


def _at(
    recorded_ns: Int[np.ndarray, " n"], base: tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]
) -> Float[np.ndarray, " n"]:
    """Offset of a clock from the recorder's at some moments of recording."""
    origin_ns = base[0][0]
    offsets: np.ndarray = np.interp(
        (recorded_ns - origin_ns).astype(np.float64), (base[0] - origin_ns).astype(np.float64), base[1]
    )
    return offsets


def _onto_clock(
    topic: TopicTimes,
    own_ns: Int[np.ndarray, " n"] | None,
    offsets_s: Float[np.ndarray, " n"] | None,
    base: tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]],
    reference: str,
    summary: InputSummary,
) -> Int[np.ndarray, " n"]:
    """Stamps of a topic on the clock of the reference."""
    if len(topic.recorded_ns) == 0:
        return topic.recorded_ns
    by_recording_ns = topic.recorded_ns + (_at(topic.recorded_ns, base) * 1e9).astype(np.int64)
    if own_ns is None or offsets_s is None:
        return by_recording_ns
    apart_s = _apart_s(topic, offsets_s, base)
    if apart_s is None:
        summary.add("warning", topic.name, f"was never recorded at the same time as {reference}: clocks not compared")
        return own_ns
    middle_s = float(np.median(apart_s))
    if abs(middle_s) <= APART_S:
        if abs(middle_s) > TOLD_APART_S:
            told = f"{_ahead(middle_s)} of {reference}: left as it is, for it may be the way to the recorder"
            summary.add("assumed", topic.name, told)
        return own_ns
    low_s, high_s = (float(value) for value in np.quantile(apart_s, [0.05, 0.95]))
    leap = _leap(middle_s, int(own_ns[len(own_ns) // 2]))
    if high_s - low_s <= STEADY_S or leap:
        shift_s, reason = leap or (middle_s, "another clock")
        told = f"{_ahead(middle_s)} of {reference} ({reason}): put right by {-shift_s:+.3f} s"
        summary.add("assumed", topic.name, told)
        return own_ns - round(shift_s * 1e9)
    since_s = (topic.recorded_ns - topic.recorded_ns[0]) / 1e9
    both = _overlap(topic.recorded_ns, base[0])
    slope, start_s = np.polyfit(since_s[both], apart_s, 1)
    rest_s = np.abs(apart_s - start_s - slope * since_s[both])
    if float(np.quantile(rest_s, 0.95)) <= MAX_DRIFT_REST_S:
        told = f"{_ahead(middle_s)} of {reference}, and drifts by {1e6 * slope:+.0f} ppm: put right"
        summary.add("assumed", topic.name, told)
        drifted_ns: np.ndarray = ((start_s + slope * since_s) * 1e9).astype(np.int64)
        return np.asarray(own_ns - drifted_ns)
    told = f"its headers are {low_s:+.1f} to {high_s:+.1f} s from those of {reference}: the times of recording count"
    summary.add("warning", topic.name, told)
    return by_recording_ns


def _leap(apart_s: float, stamp_ns: int) -> tuple[float, str] | None:
    """The whole seconds between two time scales or zones, and their names, if that is what lies between two clocks."""
    try:
        day = datetime.fromtimestamp(stamp_ns / 1e9, tz=timezone.utc).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return None
    then_s = GPS_AHEAD_NOW_S if day >= NOW_SINCE else max((s for since, s in GPS_AHEAD_S if since <= day), default=0)
    scales = {TAI_AHEAD_OF_GPS_S: "TAI against GPS time"}
    for gps_s in (GPS_AHEAD_NOW_S, then_s):  # sensors that do not know the date have the number of today
        if gps_s:
            scales |= {gps_s: "GPS time against UTC", gps_s + TAI_AHEAD_OF_GPS_S: "TAI against UTC"}
    hours = round(apart_s / HALF_HOUR_S)
    if 0 < abs(hours) <= 2 * 14 and abs(apart_s - hours * HALF_HOUR_S) <= LEAP_TOLERANCE_S:
        return hours * HALF_HOUR_S, f"a time zone of {hours / 2:+g} h"
    for seconds, names in scales.items():
        if abs(abs(apart_s) - seconds) <= LEAP_TOLERANCE_S:
            return float(np.copysign(seconds, apart_s)), names
    return None


def _ahead(seconds: float) -> str:
    return f"{abs(seconds):.4g} s {'ahead' if seconds > 0 else 'behind'}"


def leap_of_spans(first: tuple[int, int], second: tuple[int, int]) -> str | None:
    """What may lie between two clocks, if all that is known is when each began and ended to count the same drive.

    Args:
        first: moments in ns.
        second: moments in ns.

    Returns:
        By how much the second is ahead, and which scales of time are that far apart; None if no scales are.
    """
    begin_s, end_s = ((after - before) / 1e9 for before, after in zip(first, second, strict=True))
    if abs(begin_s - end_s) > 2 * LEAP_TOLERANCE_S:
        return None
    leap = _leap(0.5 * (begin_s + end_s), first[0])
    return None if leap is None else f"{_ahead(leap[0])} ({leap[1]})"
