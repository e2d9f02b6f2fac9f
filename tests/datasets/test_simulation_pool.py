import hashlib
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bevfusion.datasets import simulated
from bevfusion.datasets.simulated import DriveRequest, make_drives, map_file, simulated_drive
from bevfusion.simulate.drive import DriveOptions
from bevfusion.simulate.town import write_town
from bevfusion.structures import DataError


def request(spec: str, frames: int = 2, spacing_m: float = 10.0) -> DriveRequest:
    return DriveRequest(spec, DriveOptions(sensor="vlp16", frames=frames, spacing_m=spacing_m, columns=128))


def contents(cache: Path) -> dict[str, str]:
    """Digest of every file but the locks."""
    files = [path for path in cache.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def half_made(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name.startswith(".") and path.name != ".locks"]


def wait_for(what, limit_s: float = 120.0) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < limit_s, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two small towns."""
    paths = [tmp_path_factory.mktemp("maps") / f"small_{seed}.osm" for seed in (3, 4)]
    for seed, path in enumerate(paths):
        write_town(path, seed, 400.0)
    return [str(path) for path in paths]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towns of this process are small ones."""
    monkeypatch.setattr(simulated, "write_town", lambda path, seed: write_town(path, seed, 400.0))


def test_processes_make_the_same_bytes_as_one(tmp_path: Path, maps: list[str], caplog: pytest.LogCaptureFixture):
    requests = [request(maps[0]), request(maps[1]), request(maps[0], frames=3), request(maps[0])]
    before = dict(os.environ)
    with caplog.at_level(logging.INFO):
        make_drives(requests, tmp_path / "many", processes=2)
    assert os.environ == before
    assert "simulating 3 drives in 2 processes: 7 of 7" in caplog.text
    make_drives(requests, tmp_path / "one", processes=1)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(list((tmp_path / "one").glob("small_*_vlp16_*"))) == 3
    assert not multiprocessing.active_children()


def test_an_error_in_a_process_is_the_error_of_one(tmp_path: Path, maps: list[str]):
    broken, many = tmp_path / "broken.osm", tmp_path / "many"
    broken.write_text("<osm version='0.6'><node id='1'")
    many.mkdir()
    with pytest.raises(DataError) as alone:
        make_drives([request(str(broken))], tmp_path / "one")
    with pytest.raises(DataError, match=f"^{re.escape(str(alone.value))}$"):
        make_drives([request(maps[0], frames=900, spacing_m=0.1), request(str(broken))], many, processes=2)
    assert not half_made(many)
    assert not multiprocessing.active_children()


def test_a_killed_process_is_an_error_and_leaves_nothing_half_made(tmp_path: Path, maps: list[str]):
    def kill() -> None:
        wait_for(lambda: half_made(tmp_path))
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DataError, match=r"small_[34].osm: the process that simulated it was killed"):
        make_drives([request(path, 900, 0.1) for path in maps], tmp_path, processes=2)
    killer.join()
    assert not half_made(tmp_path)
    assert not multiprocessing.active_children()


SCRIPT = """
import signal
import sys
from pathlib import Path
from bevfusion.datasets.simulated import make_drives
from bevfusion.datasets.simulated import DriveRequest
from bevfusion.simulate.drive import DriveOptions

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background inherits deafness to it
    # so long that neither is done before the other is begun, however busy the machine
    options = DriveOptions(sensor="vlp16", frames=9000, spacing_m=0.01, columns=128)
    make_drives([DriveRequest(path, options) for path in sys.argv[2:]], Path(sys.argv[1]), 2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes, as a terminal makes them")
@pytest.mark.parametrize("death", [signal.SIGINT, signal.SIGKILL])
def test_drives_end_with_the_program_that_asked_for_them(tmp_path: Path, maps: list[str], death: signal.Signals):
    """Ctrl-C reaches every process, SIGKILL the asking one alone."""
    cache, script = tmp_path / "cache", tmp_path / "script.py"
    cache.mkdir()
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(cache), *maps]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(half_made(cache)) == 2)
    if death == signal.SIGINT:
        os.killpg(program.pid, death)
    else:
        program.kill()
    errors = program.communicate(timeout=200)[1]  # ends when no process holds the pipe any more
    assert errors.count("Traceback") == (death == signal.SIGINT)  # KeyboardInterrupt of the asking one
    assert not half_made(cache)


def test_a_script_without_a_main_guard_ends_and_says_why(tmp_path: Path, maps: list[str]):
    """The processes that make drives import it: they must not ask for drives in their turn, and wait for ever."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace('__name__ == "__main__"', "True"))
    command = [sys.executable, str(script), str(tmp_path / "cache"), *maps]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode != 0
    assert "put what it does under if __name__ == '__main__'" in run.stderr
    assert "ended with the error above" in run.stderr.splitlines()[-1]


@pytest.mark.usefixtures("_small")
def test_two_who_want_the_same_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The second waits for the first, for towns and for drives."""
    made: list[str] = []

    def slowly(name: str):
        original = getattr(simulated, name)

        def make(*args, **options):
            made.append(name)
            time.sleep(0.2)
            return original(*args, **options)

        monkeypatch.setattr(simulated, name, make)

    slowly("write_town")
    slowly("simulate_drive")
    wanted, names = request("town:3"), []
    threads = [
        threading.Thread(target=lambda: names.append(simulated_drive(wanted.spec, wanted.options, tmp_path).name))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["write_town", "simulate_drive"]
    assert len(names) == 3
    assert len(set(names)) == 1


@pytest.mark.usefixtures("_small")
def test_others_wait_for_who_makes_the_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As the ranks of torchrun do: one makes all of them."""
    calls: list[int] = []
    original = simulated.simulated_drive

    def counted(*args):
        calls.append(threading.get_ident())
        return original(*args)

    monkeypatch.setattr(simulated, "simulated_drive", counted)
    requests = [request("town:3"), request("town:4")]
    threads = [threading.Thread(target=make_drives, args=(requests, tmp_path, 1)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 2
    assert len(set(calls)) == 1


@pytest.mark.usefixtures("_small")
def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path):
    wanted = request("town:3")
    name = simulated_drive(wanted.spec, wanted.options, tmp_path).name
    (tmp_path / name).rename(tmp_path / f".{name}-abcdef")
    (tmp_path / ".town_3.osm.gz-1a2b3c4d.gz").touch()
    map_file("town:3", tmp_path).unlink()
    make_drives([wanted], tmp_path)
    assert not half_made(tmp_path)
    assert (tmp_path / name).is_dir()


@pytest.mark.usefixtures("_small")
def test_a_drive_alone_takes_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulated, "_make_in_processes", None)
    make_drives([request("town:3"), request("town:3")], tmp_path, processes=8)
    assert len(list(tmp_path.glob("town_3_vlp16_*"))) == 1


def test_a_map_that_is_not_there_is_said_before_anything_is_made(tmp_path: Path):
    with pytest.raises(DataError, match="no such map"):
        make_drives([request("town:3"), request("nowhere.osm")], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("memory", "count"), [(100_000_000, 1), (2_000_000_000, 2), (1 << 40, 3), (None, 3)])
def test_no_more_processes_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory, count: int):
    counts: list[int] = []
    monkeypatch.setattr(simulated, "available_cores", lambda: 8)
    monkeypatch.setattr(simulated, "available_memory", lambda: memory)
    monkeypatch.setattr(simulated, "_make_in_processes", lambda requests, cache, count: counts.append(count))
    make_drives([request("town:3"), request("town:3", frames=3), request("town:3", frames=4)], tmp_path)
    assert (counts or [1]) == [count]
