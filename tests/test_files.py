"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from bevfusion.files import atomic_file, write_text


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with atomic_file(path) as draft:
        draft.write_text("half")
        assert not path.exists()
        assert draft.parent == path.parent
        assert draft.suffix == ".csv"  # writers choose the format by it
        draft.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "report.html"
    write_text(path, "earlier: ±1 m")

    def write() -> None:
        with atomic_file(path) as draft:
            draft.write_text("later")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text(encoding="utf-8") == "earlier: ±1 m"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomic_file(path) as first, atomic_file(path) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # moved last
