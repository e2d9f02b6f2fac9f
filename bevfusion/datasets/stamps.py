"""Times of scans and poses in text: one reader for file names, lists of times and columns of tables.

What a number means is decided for all stamps of a file together, never for one: its unit by the size of the numbers
or the steps between them, and whether `SECONDS.NANOSECONDS` was written without leading zeros by how steady they are.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import median

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
