"""Damaged input of every kind ends in a result or in one line, soon, and never in a wrong copy of what was written.

`pytest` tries about 500 damaged inputs, `pytest -m fuzz` 10,000: the first of them are the same ones.
"""

import importlib.util
import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from bevfusion.config import ConfigError
from bevfusion.structures import DataError
from tests.fuzz.inputs import KINDS, Kind
from tests.fuzz.mutations import MUTATIONS, mutate

pytestmark = pytest.mark.fuzz

FEW, MANY = 500, 10_000
LONGEST_S = 20.0  # of processor time, for one input: usually it is a few milliseconds
LONGEST_LINE = 1000
SEED = 24
SHARES = sum(kind.share for kind in KINDS.values())


@contextmanager
def time_limit() -> Iterator[None]:
    """An error in place of a hang; of processor time, so that a busy machine counts for nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still at work after {LONGEST_S} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def check(kind: Kind, path: Path, whole: object) -> str:
    """Read a damaged input; what went wrong, or nothing."""
    try:
        with time_limit():
            found = kind.use(path)
    except (DataError, ConfigError) as error:
        line = str(error)
        if "\n" in line or not 0 < len(line) < LONGEST_LINE:
            return f"{len(line)} characters in {len(line.splitlines())} lines"
        return ""
    except Exception as error:  # noqa: BLE001 (any other exception is what is sought)
        return f"{type(error).__name__}: {str(error)[:200]}"
    if kind.exact and found is not None and found != whole:
        return "another content was read without a word"
    return ""


@pytest.mark.parametrize("name", KINDS)
def test_damage_ends_in_a_result_or_in_one_line(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    kind = KINDS[name]
    if kind.needs and importlib.util.find_spec(kind.needs) is None:
        pytest.skip(f"{kind.needs} is not installed")
    caplog.set_level(logging.CRITICAL)  # thousands of warnings would be kept until the end
    total = MANY if "fuzz" in request.config.getoption("-m") else FEW
    faults, number = damage(name, kind, tmp_path, round(max(1.0, total * kind.share / SHARES)), SEED)
    assert not faults, f"{len(faults)} of {number}: " + "; ".join(faults[:5])


def damage(name: str, kind: Kind, folder: Path, count: int, seed: int) -> tuple[list[str], int]:
    """Damage one file of an input again and again, and read it; the faults, and how often."""
    (folder / "whole").mkdir()
    path = kind.write(folder / "whole")
    files = files_of(folder / "whole")
    whole = kind.use(path)
    faults = []
    for number in range(count):
        rng = np.random.default_rng([seed, number, *name.encode()])
        file = files[int(rng.integers(len(files)))]
        original = file.read_bytes()
        spoilt, how = mutate(original, rng)
        file.write_bytes(spoilt)
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fault = check(kind, path, whole)
        if fault:
            faults.append(f"{name}, number {number}, {file.name}, {how} ({time.monotonic() - began:.0f} s): {fault}")
        file.write_bytes(original)
        for made in set(files_of(folder / "whole")) - set(files):
            made.unlink()
    return faults, count


def test_the_same_seed_gives_the_same_damage() -> None:
    data = bytes(range(256)) * 4
    for number in range(20):
        first, second = (mutate(data, np.random.default_rng([SEED, number])) for _ in range(2))
        assert first == second
    for mutation in MUTATIONS:
        changed = [mutation(data, np.random.default_rng(number)) != data for number in range(20)]
        assert sum(changed) > 15, mutation.__name__
    assert mutate(b"", np.random.default_rng(0)) == (b"", "")


def test_what_ten_thousand_found(tmp_path: Path) -> None:
    """Inputs of kinds that got through once."""
    damages: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "OpenStreetMap, .osm": ("town.osm", lambda data: b'<?xml version="1.0" encoding="UTF-x"?>\n' + data),
        "picture": ("town.pgw", lambda data: b"9" * 5000 + b"\n" + data),
        "configuration": ("c.yaml", lambda data: data.replace(b"name: mine", b"16: mine")),
    }
    for name, (file, damage_of) in damages.items():
        folder = tmp_path / file
        folder.mkdir()
        path = KINDS[name].write(folder)
        (folder / file).write_bytes(damage_of((folder / file).read_bytes()))
        assert check(KINDS[name], path, None) == "", name
