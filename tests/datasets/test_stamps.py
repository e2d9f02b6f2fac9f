"""Stamps in text: units and ways of writing them, decided for all of a file."""

import pytest

from bevfusion.datasets.stamps import dates_in_names, stamps_by_line, stamps_from_text, whole_numbers_are_stamps
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary

T0 = 1_700_000_000


def read(words, **options):
    summary = InputSummary("a")
    return stamps_from_text(words, "a.txt", summary, **options), summary


@pytest.mark.parametrize(
    ("word", "stamp_ns"),
    [
        ("0", 0),
        ("12", 12 * 10**9),
        ("1700000000", T0 * 10**9),
        ("1700000000.000000001", T0 * 10**9 + 1),
        ("1700000000123", 1_700_000_000_123 * 10**6),
        ("1700000000123.5", 1_700_000_000_123_500_000),
        ("1700000000123456", 1_700_000_000_123_456 * 10**3),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("-1", -(10**9)),
        ("-0.25", -250_000_000),
        ("1.700000000123456955e+09", 1_700_000_000_123_456_955),
        ("1.037875e-01", 103_787_500),
        ("2011-09-26 13:04:32.349659964", 1_317_042_272_349_659_964),
        ("2011-09-26T15:04:32.5+02:00", 1_317_042_272_500_000_000),
        ("2011/09/26 13:04:32Z", 1_317_042_272 * 10**9),
        ("1700000000 7", T0 * 10**9 + 7),
        ("1700000000_100000005", T0 * 10**9 + 100_000_005),
    ],
)
def test_stamps_of_every_kind(word, stamp_ns):
    assert read([word])[0] == [stamp_ns]


@pytest.mark.parametrize("word", ["scan", "", "9999999999999999999", "1" * 5000, "1e99", "2011-13-26 13:00:00", "nan"])
def test_what_is_no_stamp(word):
    with pytest.raises(DataError, match="1 of 1 are none"):
        read([word])


@pytest.mark.parametrize(("unit", "factor"), [("ns", 10**9), ("us", 10**6), ("ms", 10**3)])
def test_whole_numbers_from_zero_have_the_unit_of_their_steps(unit, factor):
    stamps, summary = read([str(number * factor // 10) for number in range(200)])
    assert stamps == [number * 10**8 for number in range(200)]
    assert unit in summary.notes[0].text


def test_the_name_of_a_column_decides_before_the_numbers_do():
    assert read(["0", "100", "200"], unit="ns")[0] == [0, 100, 200]


@pytest.mark.parametrize("phase_ns", [7_000_000, 7_654_321])
def test_nanoseconds_without_leading_zeros(phase_ns):
    """10 Hz at some ms past the tenths, as str(sec) + '.' + str(nanosec) writes it."""
    stamps_ns = [T0 * 10**9 + number * 10**8 + phase_ns for number in range(25)]
    words = [f"{stamp_ns // 10**9}.{stamp_ns % 10**9}" for stamp_ns in stamps_ns]
    assert words[0].endswith(f".{phase_ns}")
    stamps, summary = read(words)
    assert stamps == stamps_ns
    assert "without leading zeros" in summary.notes[0].text
    assert read(words[::-1], in_order=False)[0] == stamps_ns[::-1]  # names of files have no order


@pytest.mark.parametrize("step_s", [0.1, 0.05, 1.0, 0.37])
def test_decimals_without_trailing_zeros_stay_decimals(step_s):
    words = [repr(round(T0 + 0.123456 + number * step_s, 6)) for number in range(60)]
    assert len({len(word) for word in words}) >= 1
    stamps, summary = read(words)
    expected = [round((0.123456 + number * step_s) * 1e9) for number in range(60)]
    assert [stamp_ns - T0 * 10**9 for stamp_ns in stamps] == pytest.approx(expected, abs=1000)
    assert not summary.notes


def test_a_bad_one_in_many_is_none_and_more_are_an_error():
    words = [str(number / 10) for number in range(20)]
    assert read([*words[:5], "x", *words[6:]])[0][4:7] == [400_000_000, None, 600_000_000]
    with pytest.raises(DataError, match="3 of 20 are none, as line 6: 'x'"):
        read([*words[:5], "x", "y", "z", *words[8:]])


def test_rounded_stamps_are_refused():
    with pytest.raises(DataError, match="too few digits"):
        read(["1.7e+09"] * 5)


def test_lines_without_a_stamp_are_told(tmp_path):
    path = tmp_path / "times.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(b"%d.5\r\n" % number for number in range(15)) + b"\n?\n17.5\n")
    summary = InputSummary("a")
    stamps_ns = stamps_by_line(path, summary)
    assert (stamps_ns[0], stamps_ns[17]) == (500_000_000, 17_500_000_000)
    assert 15 not in stamps_ns
    assert 16 not in stamps_ns
    assert (summary.notes[0].count, summary.notes[0].total) == (1, 17)


@pytest.mark.parametrize(
    ("names", "first_ns", "step_ns"),
    [
        (["20231114_221320_250000", "20231114_221321_350000"], 1_700_000_000_250_000_000, 1_100_000_000),
        (["cam0_2023-11-14-22-13-20", "cam0_2023-11-14-22-13-25"], 1_700_000_000_000_000_000, 5_000_000_000),
        (["20231114221320", "20231114221400"], 1_700_000_000_000_000_000, 40_000_000_000),
        (["2023-11-14T22.13.20.500", "2023-11-14T22.13.20.600"], 1_700_000_000_500_000_000, 100_000_000),
    ],
)
def test_dates_in_names(names: list[str], first_ns: int, step_ns: int) -> None:
    assert dates_in_names(names) == [first_ns, first_ns + step_ns]


@pytest.mark.parametrize(
    "names",
    [
        ["20231114_000060", "20231114_000075"],  # a day and a number
        ["20231350_221320"],
        ["1700000000123456789"],
        ["000001", "000002"],
        ["20231114_221320", "20231114_221320_500"],
        ["20231114_221320_a", "20231114_221320_b"],
        [],
    ],
)
def test_what_is_no_date_in_a_name(names: list[str]) -> None:
    assert dates_in_names(names) is None


def test_names_that_share_their_longest_number() -> None:
    assert not whole_numbers_are_stamps([20231114, 20231114])
