from pathlib import Path

import numpy as np
import pytest

from bevfusion.maps.feature_file import SIDE, FeatureContents, FeatureFile, write_feature_file
from bevfusion.structures import DataError

ABOUT = FeatureContents("a" * 64, "b" * 64, channels=3, cell_m=1.0, first_block=(-1, 2), blocks=(2, 2))


def blocks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(2, 3, SIDE, SIDE)).astype(np.float16)
    nothing = np.full((3, SIDE, SIDE), 0.25, np.float16)
    return [some[0], nothing, some[1], nothing.copy()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "city.features"
    write_feature_file(path, ABOUT, blocks())
    return path


def test_what_is_written_is_read(path: Path):
    file = FeatureFile(path)
    assert file.contents == ABOUT
    for place, expected in zip(((-1, 2), (-1, 3), (0, 2), (0, 3)), blocks(), strict=True):
        np.testing.assert_array_equal(file.block(*place), expected)
    assert file.block(1, 2) is None
    assert file.block(0, 1) is None
    assert not file.block(0, 2).flags.writeable


def test_blocks_that_are_alike_are_kept_once(path: Path):
    assert path.stat().st_size < 3.1 * 2 * 3 * SIDE * SIDE


def test_no_bit_can_change_unnoticed(path: Path):
    """In the first line and the table it is noticed at once, in a block when that is read."""
    whole = path.read_bytes()
    line = whole.index(b"\n")
    ends = len(whole) - 4 * 12
    at_once = [3, 40, 90, line - 4, ends + 1, len(whole) - 1]
    for place in (*at_once, line + 5, ends - 9):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(bytes(damaged))
        if place in at_once:
            with pytest.raises(DataError, match="features") as raised:
                FeatureFile(path)
            assert "\n" not in str(raised.value)
        else:
            file = FeatureFile(path)
            with pytest.raises(DataError, match="a block is damaged"):
                [file.block(row, column) for row in (-1, 0) for column in (2, 3)]


@pytest.mark.parametrize("length", [0, 10, 200, 5000, -1, -40])
def test_a_file_that_was_cut_off_is_refused(path: Path, length: int):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="features"):
        FeatureFile(path)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "bevfusion features"}\n', '{"format": "bevfusion features", "version']
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "a.features"
    path.write_text(text)
    with pytest.raises(DataError, match="features"):
        FeatureFile(path)


@pytest.mark.parametrize(
    "changed", [{"blocks": (0, 2)}, {"channels": 0}, {"cell_m": float("nan")}, {"blocks": (10**4, 10**4)}]
)
def test_contents_that_make_no_sense(changed: dict):
    with pytest.raises(ValueError, match=r"blocks|cells"):
        FeatureContents(**({name: getattr(ABOUT, name) for name in ABOUT.__slots__} | changed))
