from pathlib import Path

import pytest

from bevfusion.machine import available_cores, available_memory


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 1), ("20000 100000", 1), ("", None)]
)
def test_cores(tmp_path: Path, text: str, cores: int | None):
    (tmp_path / "cpu.max").write_text(text)
    everything = available_cores(tmp_path / "none")
    assert everything >= 1
    assert available_cores(tmp_path) == (cores or everything)


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        (None, None, 3_000_000 * 1024),
        ("max", "5", 3_000_000 * 1024),
        ("1000000", "400000", 600_000),
        ("1000", "4000", 0),
        ("9000000000000", "1", 3_000_000 * 1024),
        ("nonsense", "", 3_000_000 * 1024),
    ],
)
def test_memory_is_the_less_of_machine_and_container(tmp_path: Path, limit, used, expected: int):
    (tmp_path / "meminfo").write_text("MemTotal:  8000000 kB\nMemFree:  100 kB\nMemAvailable:  3000000 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text(used + "\n")
    assert available_memory(tmp_path, tmp_path / "meminfo") == expected


def test_a_system_that_does_not_tell(tmp_path: Path):
    assert available_memory(tmp_path, tmp_path / "meminfo") is None


def test_this_machine_has_some():
    memory = available_memory()
    assert memory is None or 0 < memory < 1 << 50
