"""When scans, poses and messages were taken: one reader of stamps in text, and one decision a topic about its clock.

What a number in text means (names of files, lists of times, columns of tables) is decided for all stamps of a file
together, never for one: its unit by the size of the numbers or the steps between them, and whether
`SECONDS.NANOSECONDS` was written without leading zeros by how steady they are.

Every message of a log has two times: that of its header, by the clock of its sensor, and that of its recording. Headers
are the better ones, if the clocks agree. They often do not: a LiDAR counts in TAI or GPS time, 37 or 18 s ahead of UTC,
or from its own start; a clock is set while the log is recorded; headers are never set. A bag that was recorded anew
from a player has headers of one day and recording times of another, and nothing is wrong with that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from jaxtyping import Bool, Float, Int

from bevfusion.datasets.side_files import read_lines
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

NUMBER = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,2})?")
DATE = re.compile(
    r"([12][0-9]{3})[-/]([0-9]{2})[-/]([0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:[.,]([0-9]{1,12}))?\s*(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?"
)
# in names of files: 20231114_221320_123456, 2023-11-14-22-13-20
DATE_IN_NAME = re.compile(
    r"(?<![0-9])([12][0-9]{3})([-_.]?)(0[1-9]|1[0-2])\2([0-3][0-9])[-_ T.]?"
    r"([01][0-9]|2[0-3])([-_.:]?)([0-5][0-9])\6([0-6][0-9])(?:[-_.,]?([0-9]{3}|[0-9]{6}|[0-9]{9}))?(?![0-9])"
)
PAIR = re.compile(r"([0-9]{1,12})[ _:\-]+([0-9]{1,9})")  # seconds and nanoseconds
SECONDS_AND_FRACTION = re.compile(r"([0-9]{1,12})\.([0-9]{1,9})")
UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
# since 1970: numbers at least as large as these have the unit, whatever the year from 1973 to 5138
LEAST_SINCE_1970 = (("ns", 10**17), ("us", 10**14), ("ms", 10**11), ("s", 10**8))
# steps between whole numbers that count from zero: scans and poses come every 15 ms to 7 s
LEAST_STEPS = (("ns", 7 * 10**6), ("us", 15_000), ("ms", 15), ("s", 0))
MAX_STEP_NS = 100 * 10**9  # the usual one: numbers that step farther have another unit
LEAST_NANOSECOND_DIGITS = 7  # the usual number: nine in ten have nine digits, nearly all the rest eight
MAX_NS = 2**63
MAX_BAD_SHARE = 0.1
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


def stamps_from_text(
    words: Sequence[str],
    source: str,
    summary: InputSummary,
    *,
    unit: str | None = None,
    in_order: bool = True,
    each: str = "line",
) -> list[int | None]:
    """Nanoseconds of each stamp: since 1970 where it is a date or large enough, else since a zero of its own.

    Read are dates (`2011-09-26 13:04:32.349659964`, with T, Z or an offset; UTC without one), two whole numbers
    (seconds and nanoseconds), and numbers, also negative or with an exponent, in s, ms, us or ns.

    Args:
        words: one stamp each, of one file or folder.
        source: what is read, for messages and notes.
        summary: is told what was assumed.
        unit: s, ms, us or ns where it is known, as from the name of a column.
        in_order: whether the words stand in order of time, as far as one knows.
        each: what one of them is called in messages.

    Returns:
        A stamp for each word; None for one that is none.

    Raises:
        DataError: if more than one in ten is none, or all of several are the same.
    """
    words = [word.strip().strip("\"'") for word in words]
    stamps = next(
        (found for found in (_dates(words), _pairs(words)) if _good(found)),
        None,
    )
    if stamps is None:
        stamps = _numbers(words, source, summary, unit, in_order)
    bad = [at for at, stamp_ns in enumerate(stamps) if stamp_ns is None]
    if not words or len(bad) > MAX_BAD_SHARE * len(words):
        told = (
            f"{len(bad)} of {len(words)} are none, as {each} {bad[0] + 1}: {words[bad[0]][:40]!r}"
            if bad
            else "got none"
        )
        raise DataError(f"{source}: expected stamps, {told}")
    known = {stamp_ns for stamp_ns in stamps if stamp_ns is not None}
    if len(words) > 1 and len(known) == 1:
        raise DataError(f"{source}: all {len(words)} stamps are {words[0][:40]}: written with too few digits?")
    return stamps


def stamps_by_line(path: Path, summary: InputSummary) -> dict[int, int]:
    """The stamps of a file with a line for each frame, by the number of the line from 0; empty lines have none.

    Raises:
        DataError: if the file is no text, or more than one line in ten is no stamp.
    """
    lines = {number: line for number, line in enumerate(read_lines(path)) if line.strip()}
    if not lines:
        return {}
    stamps = stamps_from_text(list(lines.values()), str(path), summary)
    known = {number: stamp_ns for number, stamp_ns in zip(lines, stamps, strict=True) if stamp_ns is not None}
    if len(known) < len(lines):
        bad = next(number for number in lines if number not in known)
        text = f"{len(lines) - len(known)} of {len(lines)} lines are no stamp, as line {bad + 1}: {lines[bad][:60]!r}"
        summary.add("lost", path.name, text, count=len(lines) - len(known), total=len(lines))
    return known


def whole_numbers_are_stamps(numbers: Sequence[int]) -> bool:
    """Whether whole numbers in file names are times; those that step by less than 15,000 number the files."""
    ordered = [Decimal(number) for number in sorted(numbers)]
    if ordered[0] >= LEAST_SINCE_1970[-1][1]:
        return True
    steps = _steps(ordered)
    return bool(steps) and median(steps) >= dict(LEAST_STEPS)["us"]


def dates_in_names(names: Sequence[str]) -> list[int] | None:
    """Nanoseconds since 1970 of dates in names of files, taken for UTC; None unless each has one of its own.

    All are written alike: a fraction of a second has three, six or nine digits, the same number in all of them.
    """
    found = [DATE_IN_NAME.search(name) for name in names]
    if not found or len({None if date is None else len(date[9] or "") for date in found}) > 1:
        return None
    stamps = []
    for date in found:
        if date is None:
            return None
        year, _, month, day, hour, _, minute, second, fraction = date.groups()
        stamp_ns = _date_ns(f"{year}-{month}-{day} {hour}:{minute}:{second}.{fraction or '0'}")
        if stamp_ns is None:
            return None
        stamps.append(stamp_ns)
    return stamps if len(set(stamps)) == len(stamps) else None


def _good(stamps: Sequence[int | None]) -> bool:
    return sum(stamp_ns is None for stamp_ns in stamps) <= MAX_BAD_SHARE * len(stamps)


def _dates(words: Sequence[str]) -> list[int | None]:
    return [_date_ns(word) for word in words]


def _date_ns(word: str) -> int | None:
    found = DATE.fullmatch(word)
    if found is None:
        return None
    year, month, day, clock, fraction, zone = found.groups()
    offset = "+00:00" if zone in (None, "Z", "UTC") else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        second = datetime.fromisoformat(f"{year}-{month}-{day}T{clock}{offset}").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return int(second.timestamp()) * 10**9 + int((fraction or "")[:9].ljust(9, "0"))


def _pairs(words: Sequence[str]) -> list[int | None]:
    found = [PAIR.fullmatch(word) for word in words]
    pairs = [pair for pair in found if pair is not None]
    since_1970 = bool(pairs) and median(int(pair[1]) for pair in pairs) >= LEAST_SINCE_1970[-1][1]
    if not since_1970 and (not pairs or median(len(pair[2]) for pair in pairs) < LEAST_NANOSECOND_DIGITS):
        return [None] * len(words)  # two numbers of another kind
    return [None if pair is None else int(pair[1]) * 10**9 + int(pair[2]) for pair in found]


def _numbers(
    words: Sequence[str], source: str, summary: InputSummary, unit: str | None, in_order: bool
) -> list[int | None]:
    values = [Decimal(word) if NUMBER.fullmatch(word) else None for word in words]
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(words)
    if unit is None:
        unit = _unit(known, [word for word in words if NUMBER.fullmatch(word)], source, summary)
    if unit == "s" and _without_leading_zeros(words, in_order):
        text = "fractions are whole nanoseconds without leading zeros"
        summary.add("assumed", "stamps", f"{source}: {text}, as {words[0][:40]}", total=len(words))
        split = [SECONDS_AND_FRACTION.fullmatch(word) for word in words]
        return [None if found is None else int(found[1]) * 10**9 + int(found[2]) for found in split]
    stamps = [None if value is None else int((value * UNITS_NS[unit]).to_integral_value()) for value in values]
    return [None if stamp_ns is None or abs(stamp_ns) >= MAX_NS else stamp_ns for stamp_ns in stamps]


def _unit(values: Sequence[Decimal], words: Sequence[str], source: str, summary: InputSummary) -> str:
    """The unit that fits all the numbers."""
    size = median(abs(value) for value in values)
    steps = _steps(sorted(values))
    step = median(steps) if steps else Decimal(0)
    for unit, least in LEAST_SINCE_1970:
        if size >= least and step * UNITS_NS[unit] <= MAX_STEP_NS:
            return unit
    if any("." in word or "e" in word.lower() for word in words):
        return "s"
    unit = next(unit for unit, least in LEAST_STEPS if step >= least)
    summary.add("assumed", "stamps", f"{source}: whole numbers from {values[0]}, by their steps in {unit}")
    return unit


def _steps(ordered: Sequence[Decimal]) -> list[Decimal]:
    """Differences of neighbours, without those of equal ones."""
    return [after - before for before, after in pairwise(ordered) if after != before]


def _without_leading_zeros(words: Sequence[str], in_order: bool) -> bool:
    """Whether `SECONDS.NANOSECONDS` was put together from two whole numbers: 5 s and 7 ms are then 5.7000000."""
    found = [SECONDS_AND_FRACTION.fullmatch(word) for word in words]
    split = [(int(pair[1]), pair[2]) for pair in found if pair is not None]
    if len(split) < max(3, (1.0 - MAX_BAD_SHARE) * len(words)) or len({len(fraction) for _, fraction in split}) == 1:
        return False
    if any(fraction.startswith("0") and len(fraction) > 1 for _, fraction in split):
        return False  # written as decimals
    if median(len(fraction) for _, fraction in split) < LEAST_NANOSECOND_DIGITS:
        return False
    if any(fraction.endswith("0") and len(fraction) > 1 for _, fraction in split):
        return True  # of decimals, those of unequal length have lost the zeros at their end
    decimal_ns = [second * 10**9 + int(fraction.ljust(9, "0")) for second, fraction in split]
    whole_ns = [second * 10**9 + int(fraction) for second, fraction in split]
    return _unsteadiness(whole_ns, in_order) < _unsteadiness(decimal_ns, in_order)


def _unsteadiness(stamps_ns: Sequence[int], in_order: bool) -> tuple[int, float]:
    """How often stamps step back, and how far steps differ from the usual one, in such steps."""
    back = sum(after < before for before, after in pairwise(stamps_ns)) if in_order else 0
    ordered = sorted(stamps_ns)
    steps = [after - before for before, after in pairwise(ordered)]
    usual = median(steps)
    return back, sum(abs(step - usual) for step in steps) / max(usual, 1)


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
