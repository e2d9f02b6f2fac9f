"""Commands that are ended from outside: by Ctrl-C, SIGTERM, `kill -9` and a disk that takes no more."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.open import open_drive
from bevfusion.maps.source import open_map
from tests.maps.osm_text import OsmText

COMMAND = [sys.executable, "-c", "import sys; from bevfusion.cli import main; sys.exit(main())"]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Shells start what runs in the background deaf to Ctrl-C, pytest among it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street long enough to drive along, with houses."""
    text = OsmText(400.0)
    text.line([(x, 0.0) for x in range(-380, 381, 20)], {"highway": "residential"})
    for x in range(-360, 361, 40):
        for side in (-1, 1):
            text.box(x, side * 12, x + 18, side * 24, {"building": "yes"})
    path = tmp_path_factory.mktemp("town") / "town.osm"
    path.write_text(str(text))
    return path


def simulate(town: Path, output: Path, frames: int = 3) -> list[str]:
    words = ["simulate", str(town), "--output", str(output), "--frames", str(frames), "--sensor", "vlp16"]
    return [*words, "--set", "columns=128"]


@pytest.fixture(scope="module")
def drive(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("drive") / "drive"
    assert main(None, simulate(town, output, 4)) == 0
    return output


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_simulated_is_kept(
    town: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    status: int,
) -> None:
    from bevfusion.simulate.drive import Recording

    add, done = Recording.add, []

    def add_and_signal(self: Recording, *given: object) -> None:
        done.append(given)
        if len(done) == 2:
            os.kill(os.getpid(), number)  # amid the files of a frame
        add(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Recording, "add", add_and_signal)
    output = tmp_path / "out"
    assert main(None, simulate(town, output, 5)) == status
    assert f"interrupted: 2 of 5 frames are kept in {output}" in caplog.text
    assert len(list(open_drive(output))) == 2
    assert hidden(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_tile_leaves_the_earlier_file(
    town: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    status: int,
) -> None:
    output = tmp_path / "town.tiles"
    words = ["tile", str(town), "--output", str(output)]
    assert main(None, words) == 0
    before = output.read_bytes()

    def pack(layers: np.ndarray) -> bytes:
        os.kill(os.getpid(), number)
        time.sleep(10.0)
        raise AssertionError("the signal was not heard")

    monkeypatch.setattr("bevfusion.maps.tiled.pack", pack)
    assert main(None, words) == status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line == ("error: interrupted" if number == signal.SIGINT else "error: ended by SIGTERM")
    assert output.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["town.tiles"]


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Sets how large a file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def outputs(town: Path, drive: Path, folder: Path) -> dict[str, list[str]]:
    """Commands by name, each with an output in a folder."""
    evaluate = ["evaluate", "classical", str(drive), "--map", str(town), "--output", str(folder / "report")]
    track = ["track", str(drive), "--map", str(town), "--output", str(folder / "track"), "--no-plots"]
    return {
        "evaluate": [*evaluate, "--offset-m", "2", "--offset-deg", "4", "--no-plots"],
        "track": [*track, "--checkpoint", "classical", "--near", "49.0,8.4,0"],
        "simulate": simulate(town, folder / "simulated"),
        "tile": ["tile", str(town), "--output", str(folder / "town.tiles")],
    }


@pytest.mark.parametrize("name", ["evaluate", "track", "simulate", "tile"])
def test_a_full_disk_is_one_line_before_the_work(
    town: Path,
    drive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    full_disk: Callable[[int], None],
    name: str,
) -> None:
    words = outputs(town, drive, tmp_path)[name]
    full_disk(1000)
    status = main(None, words)
    full_disk(resource.RLIM_INFINITY)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (status, len(lines)) == (2, 1), lines
    assert str(tmp_path) in lines[0]
    assert "File too large" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_amid_the_work_leaves_what_was_there(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tile", str(town), "--output", str(tmp_path / "town.tiles")]
    assert main(None, words) == 0
    before = (tmp_path / "town.tiles").read_bytes()

    def write(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bevfusion.maps.tiled.pack", write)
    assert main(None, words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert (tmp_path / "town.tiles").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["town.tiles"]


def is_whole(name: str, folder: Path) -> bool:
    """Whether a command's output is all there; False if there is none. Fails on anything between."""
    if name == "tile":
        if not (folder / "town.tiles").exists():
            return False
        open_map(folder / "town.tiles")
        return True
    output = folder / {"evaluate": "report", "track": "track", "simulate": "simulated"}[name]
    if not output.exists():
        return False
    files = {path.name for path in output.iterdir()}
    if name == "evaluate":
        assert {"metrics.json", "predictions.csv", "runtimes.csv", "report.html"} <= files
    elif name == "track":
        assert {"poses.csv", "poses.tum", "track.geojson", "track.gpx", "summary.json"} <= files
    else:
        assert len(open_drive(output)) == 3
        assert {"simulation.json", "velodyne_points", "oxts", "labels"} <= files
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evaluate", "track", "simulate", "tile"])
def test_killed_at_any_moment_the_output_is_whole_or_absent(
    name: str, town: Path, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: the next run is not disturbed by what the killed ones left."""
    if name == "track":
        pytest.importorskip("kiss_icp", reason="the drive has no odometry of its own")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = outputs(town, drive, tmp_path)[name]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    done = subprocess.run([*COMMAND, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    longest_s = time.monotonic() - began
    assert is_whole(name, tmp_path)
    moments = np.random.default_rng(9).uniform(0.3, 1.05, int(os.environ.get("BEVFUSION_KILLS", "3")))
    for number, share in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = subprocess.Popen(
            [*COMMAND, *outputs(town, drive, folder)[name]],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(share * longest_s)
        run.kill()
        run.wait()
        if not is_whole(name, folder):
            assert main(None, outputs(town, drive, folder)[name]) == 0
            assert is_whole(name, folder)
