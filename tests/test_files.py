"""Files that are there whole or not at all."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bevfusion import files
from bevfusion.files import atomic_file, atomic_folder, check_writable, uninterrupted, write_text


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


@pytest.fixture
def small_files() -> Iterator[None]:
    """As on a full disk: no file grows beyond 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_earlier_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "earlier")
    with pytest.raises(OSError, match=str(path)) as full:
        write_text(path, "x" * 20_000)
    assert full.value.errno == errno.EFBIG
    assert path.read_text() == "earlier"
    with pytest.raises(OSError, match=str(path)), atomic_folder(path) as draft:
        (draft / "a").write_text("x" * 20_000)
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]
    with pytest.raises(OSError, match="report"):
        check_writable(tmp_path / "report")
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_place_that_cannot_be_written_to_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="report"):  # root may write everywhere, but not into a file
        check_writable(tmp_path / "file" / "report")
    check_writable(tmp_path / "new" / "report")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    path = tmp_path / "out"
    for content in ("first", "second"):
        with atomic_folder(path) as draft:
            (draft / "inner").mkdir()
            (draft / "inner" / content).write_text(content)
        assert [file.name for file in (path / "inner").iterdir()] == [content]
        assert [file.name for file in tmp_path.iterdir()] == ["out"]
        assert path.stat().st_mode & 0o777 == 0o777 & ~_umask()

    def fail() -> None:
        with atomic_folder(path) as draft:
            (draft / "third").write_text("third")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [file.name for file in path.iterdir()] == ["inner"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_folders_change_places_at_once_where_the_system_can(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    if files._exchanged(tmp_path / "a", tmp_path / "b"):
        assert (tmp_path / "a" / "b").is_file()
        assert (tmp_path / "b" / "a").is_file()
    else:
        assert (tmp_path / "a" / "a").is_file()


def test_a_mount_point_is_filled_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    path, rename = tmp_path / "out", Path.rename

    def busy(self: Path, target: Path) -> Path:
        if self == path:
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    (path / "plots").mkdir(parents=True)
    (path / "plots" / "old.png").write_text("")
    (path / "other").write_text("stays")
    with atomic_folder(path) as draft:
        (draft / "plots").mkdir()
        (draft / "plots" / "new.png").write_text("")
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*")) == ["other", "plots", "plots/new.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number: int) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before, done = signal.signal(number, interrupt), []

    def write() -> None:
        with uninterrupted():
            os.kill(os.getpid(), number)
            done.append("first")
            os.kill(os.getpid(), number)
            done.append("second")
        done.append("never")

    try:
        with pytest.raises(KeyboardInterrupt):
            write()
        assert signal.getsignal(number) == interrupt
    finally:
        signal.signal(number, before)
    assert done == ["first", "second"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
