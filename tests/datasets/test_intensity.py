"""Intensities of any scale come out as those that networks know, by their order within the drive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevfusion.datasets.cloud import Cloud, IntensityScale, RunningIntensity
from bevfusion.datasets.logged import LoggedDrive, Tracks

RNG = np.random.default_rng(5)
# a drive of reflectances: a tenth of the points answers too weakly to be measured
REFLECTANCE = np.where(RNG.random(40_000) < 0.1, 0.0, RNG.beta(4.0, 8.0, 40_000)).astype(np.float32)

DIALECTS = {
    "floats to 255": lambda r: (255 * r).astype("f4"),
    "Ouster's signal, floats to 3000": lambda r: (3000 * r).astype("f4"),
    "uint8": lambda r: np.round(255 * r).astype("u1"),
    "uint16 to 255": lambda r: np.round(255 * r).astype("u2"),
    "uint16": lambda r: np.round(65535 * r).astype("u2"),
    "big-endian uint16": lambda r: np.round(65535 * r).astype(">u2"),
    "int32": lambda r: np.round(4000 * r).astype("i4"),
    "int32 about zero": lambda r: np.round(4000 * r - 2000).astype("i4"),
    "uint32": lambda r: np.round(4e9 * r).astype("u4"),
    "float64": lambda r: 100.0 * r.astype(np.float64),
    "a thousandth": lambda r: (1e-3 * r).astype("f4"),
    "not linear": lambda r: (255 * r**2).astype("f4"),
}


def test_reflectances_of_0_to_1_stay_to_the_last_bit():
    scale = IntensityScale.of([REFLECTANCE])
    assert scale.is_reflectance
    np.testing.assert_array_equal(scale.reflectance(REFLECTANCE), REFLECTANCE)
    assert scale.reflectance(REFLECTANCE).dtype == np.float32


@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_the_order_counts(dialect):
    values = DIALECTS[dialect](REFLECTANCE)
    found = IntensityScale.of([values]).reflectance(values)
    reference = IntensityScale.of([DIALECTS["floats to 255"](REFLECTANCE)]).reflectance(255 * REFLECTANCE)
    np.testing.assert_allclose(found, reference, atol=0.06)
    # brighter stays brighter, and the drive looks like those of training
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0.0).all()
    assert np.quantile(found, 0.5) == pytest.approx(0.32, abs=0.02)
    assert np.quantile(found, 0.95) == pytest.approx(0.53, abs=0.02)


def test_a_scale_belongs_to_a_drive_not_to_a_scan():
    """A scan of nothing but dim points stays dim."""
    dim, bright = np.full(100, 10, "u1"), np.full(100, 200, "u1")
    scale = IntensityScale.of([dim, bright, np.arange(256, dtype="u1")])
    assert scale.reflectance(dim).max() < scale.reflectance(bright).min() - 0.1


class Clouds:
    def __init__(self, intensities):
        self.intensities = intensities

    def __len__(self):
        return len(self.intensities)

    def read(self, position):
        strength = self.intensities[position]
        return position, Cloud(np.ones((len(strength), 3), np.float32), strength)


def test_frames_of_a_drive_share_its_scale():
    values = 3000 * REFLECTANCE.reshape(20, -1)
    drive = LoggedDrive("a", Clouds(list(values)), Tracks())
    expected = IntensityScale.of(list(values)).reflectance(values.reshape(-1)).reshape(20, -1)
    for number, frame in enumerate(drive):
        np.testing.assert_allclose(frame.scan.intensity, expected[number], atol=0.06)
    clean = LoggedDrive("b", Clouds(list(REFLECTANCE.reshape(20, -1))), Tracks())
    np.testing.assert_array_equal(clean[3].scan.intensity, REFLECTANCE.reshape(20, -1)[3])


def test_the_scale_of_a_drive_that_goes_on_is_that_of_the_whole():
    running, values = RunningIntensity(), 3000 * REFLECTANCE.reshape(200, -1)
    whole = IntensityScale.of(list(values))
    for scan in values:
        found = running.reflectance(scan)
    np.testing.assert_allclose(found, whole.reflectance(values[-1]), atol=0.06)
    assert running.reflectance(np.full(3, np.nan)).tolist() == [0, 0, 0]
    clean = RunningIntensity()
    for scan in REFLECTANCE.reshape(200, -1):
        np.testing.assert_array_equal(clean.reflectance(scan), scan)


@pytest.mark.parametrize(
    ("values", "expected", "told"),
    [
        (np.zeros(9, np.float32), [0] * 9, "not used"),
        (np.full(9, 77, "u1"), [0] * 9, "not used"),
        (np.ones(9, np.float32), [0] * 9, "not used"),
        (np.float32([]), [], "as it is"),
        (np.float32([np.nan, np.inf, -np.inf, 0.5, 0.25]), [0, 0, 0, 0.5, 0.25], "as it is"),
    ],
)
def test_what_says_nothing(values, expected, told):
    scale = IntensityScale.of([values])
    np.testing.assert_array_equal(scale.reflectance(values), expected)
    assert told in scale.describe()


def test_one_reflector_does_not_change_the_scale():
    some = REFLECTANCE.copy()
    some[:3] = 1e6
    scale = IntensityScale.of([some])
    assert scale.is_reflectance
    np.testing.assert_array_equal(scale.reflectance(some)[3:], REFLECTANCE[3:])
    assert scale.reflectance(some)[:3].tolist() == [1, 1, 1]


@pytest.mark.fuzz
@given(st.lists(st.floats(width=32), max_size=60), st.lists(st.floats(width=32), max_size=60))
def test_any_numbers_become_0_to_1_in_order(known, asked):
    values = np.array(asked, np.float32)
    found = IntensityScale.of([np.array(known, np.float32)]).reflectance(values)
    assert ((found >= 0) & (found <= 1)).all()
    finite = np.isfinite(values)
    assert (np.diff(found[finite][np.argsort(values[finite], kind="stable")]) >= 0).all()
