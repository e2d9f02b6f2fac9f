"""Many drives at once: in processes, resumed, and with one that fails."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli import main
from bevfusion.datasets.logged import LogOptions
from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.evaluation import jobs, result_cache
from bevfusion.evaluation.protocol import Protocol
from bevfusion.evaluation.results import BeliefMarginals, DriveResult, ScoredEstimate, TrafficShift
from bevfusion.geometry.grid import PoseWindow
from bevfusion.geometry.se2 import SE2
from bevfusion.simulate.drive import DriveOptions


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.evaluation.run.write_plots", lambda folder, *_, **__: folder.mkdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Two drives of two frames, a broken one between them, and their map."""
    folder = tmp_path_factory.mktemp("many")
    options = DriveOptions(sensor="vlp16", frames=2, spacing_m=5.0, columns=256)
    simulated_drive("town:7", options, folder / "cache")
    original = next((folder / "cache").glob("town_7_vlp16_*"))
    drives = [folder / name for name in ("one", "broken", "two")]
    for drive in drives:
        shutil.copytree(original, drive)
    scan = sorted((drives[1] / "velodyne_points" / "data").iterdir())[1]
    scan.write_bytes(scan.read_bytes()[:-5])
    return drives, map_file("town:7", folder / "cache")


def words(made: tuple[list[Path], Path], output: Path, *options: str) -> list[str]:
    drives, map_path = made
    return ["evaluate", "classical", *map(str, drives), "--map", str(map_path), "--output", str(output), *options]


@pytest.mark.parametrize("options", [(), ("--jobs", "2")], ids=["one process", "two"])
def test_a_drive_that_fails_ends_no_other(
    capsys: pytest.CaptureFixture[str], made: tuple[list[Path], Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    output = tmp_path / "out"
    assert main(None, words(made, output, *options)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "1 of 3 drives failed: broken: " in lines[0]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["frames"] == 4
    assert list(metrics["per_drive"]) == ["one", "two"]
    assert list(metrics["failed"]) == ["broken"]
    assert "broken: failed" in (output / "report.html").read_text()
    assert len(list((tmp_path / "out-finished").glob("*.npz"))) == 2  # what is done need not be done again


def test_a_second_run_does_only_what_is_left(
    made: tuple[list[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    perform = jobs.perform

    def counted(task: jobs.DriveTask, **options: object) -> DriveResult:
        done.append(task.name)
        return perform(task, **options)

    monkeypatch.setattr(jobs, "perform", counted)
    output = tmp_path / "out"
    assert main(None, words(made, output)) == 2
    first = json.loads((output / "metrics.json").read_text())
    assert done == ["one", "broken", "two"]
    assert main(None, words(made, output)) == 2
    assert done[3:] == ["broken"]
    second = json.loads((output / "metrics.json").read_text())
    assert second["per_drive"] == first["per_drive"]
    # another protocol is another run
    assert main(None, words(made, output, "--seed", "1")) == 2
    assert done[4:] == ["one", "broken", "two"]


def test_when_all_is_done_nothing_is_left_beside(made: tuple[list[Path], Path], tmp_path: Path) -> None:
    drives, map_path = made
    assert main(None, words(([drives[0], drives[2]], map_path), tmp_path / "out")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_command_writes_the_same_bytes(made: tuple[list[Path], Path], tmp_path: Path) -> None:
    """Whatever the number of processes; how long it took stands in runtimes.csv."""
    drives, map_path = made
    whole = [drives[0], drives[2]], map_path
    runs = {"first": (), "again": (), "two": ("--jobs", "2")}
    for name, options in runs.items():
        assert main(None, words(whole, tmp_path / name, *options)) == 0
    first = tmp_path / "first"
    compared = ["predictions.csv", *(path.name for path in first.glob("*.tum"))]
    assert len(compared) == 5  # truth and estimates of two drives
    for name in ("again", "two"):
        for file in compared:
            assert (tmp_path / name / file).read_bytes() == (first / file).read_bytes(), (name, file)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bug_in_one_drive_is_reported(made: tuple[list[Path], Path], tmp_path: Path, processes: int) -> None:
    drives, map_path = made
    wrong = Protocol()
    object.__setattr__(wrong, "mode", "of no such name")  # nobody expects this: a KeyError deep inside
    tasks = [
        jobs.DriveTask("classical", "", drives[0], name, i, (map_path,), ("m",), wrong, LogOptions(), "log", tmp_path)
        for i, name in enumerate("ab")
    ]
    found = jobs.perform_all(tasks, tmp_path / "kept", jobs=processes)
    assert ["internal error: KeyError" in (answers.failed or "") for answers in found] == [True, True]


def prediction(position: int, mass: float | None) -> ScoredEstimate:
    pose = SE2(1.0, 2.0, 0.3)
    return ScoredEstimate(
        3, position, "d", 7, 10**18 + 1, 2, 1, "m", pose, pose @ pose, pose, np.eye(3), 0.5, 12.5, mass, mass
    )


def test_what_is_kept_comes_back() -> None:
    answers = DriveResult("d", "kiss-icp", not_covered=1, lost=2, box_deg=(1.0, 2.0, 3.0, 4.0))
    answers.estimates += [prediction(0, 0.25), prediction(1, None)]
    answers.classical += [prediction(1, 0.5)]
    answers.traffic += [
        TrafficShift("drive", 3, None, 0.25, 0.5, 0.125),
        TrafficShift("drive", 3, 40, 0.5, 1.5, 0.25, True, (1.0, 2.0, 0.5), (1.25, 2.0, 0.25), 1),
    ]
    window = PoseWindow(2.0, 0.5, 1.0, 0.25)
    marginals = BeliefMarginals(
        SE2(1.0), window, np.ones((5, 5)), np.ones(5), {"saliency": np.full((4, 4), np.nan)}, 9.0
    )
    answers.worst.restore((3, 1), 2, 4.5, marginals)
    back = result_cache.decode(result_cache.encode(answers), 3)
    assert (len(back.estimates), len(back.classical)) == (2, 1)
    assert back.traffic == answers.traffic
    for ours, theirs in zip(answers.estimates + answers.classical, back.estimates + back.classical, strict=True):
        assert np.array_equal(ours.covariance, theirs.covariance)
        for name in ("drive_index", "frame_index", "stamp_ns", "draw", "map_name", "prior", "truth", "estimate"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert (ours.credible_mass, ours.nll, ours.runtime_ms) == (theirs.credible_mass, theirs.nll, theirs.runtime_ms)
    assert (back.odometry, back.not_covered, back.lost, back.box_deg) == ("kiss-icp", 1, 2, (1.0, 2.0, 3.0, 4.0))
    found = back.worst.of(prediction(1, None))
    assert found is not None
    assert (found.window, found.centre, found.attention_half_m) == (window, SE2(1.0), 9.0)
    assert np.array_equal(found.attention["saliency"], marginals.attention["saliency"], equal_nan=True)


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_half_a_kept_file_is_none(cut: int) -> None:
    with pytest.raises(ValueError, match="cached result"):
        result_cache.decode(result_cache.encode(DriveResult("d", "none"))[:cut], 0)


def test_on_a_cluster(made: tuple[list[Path], Path], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is an extra")
    assert main(None, words(made, tmp_path / "out", "--ray")) == 2
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (list(metrics["per_drive"]), list(metrics["failed"])) == (["one", "two"], ["broken"])


def test_extras_that_are_missing_are_named(
    capsys: pytest.CaptureFixture[str],
    made: tuple[list[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package, option in (("ray", "--ray"), ("rerun", "--viewer")):
        monkeypatch.setitem(sys.modules, package, None)
        assert main(None, words(made, tmp_path / "out", option)) == 2
        assert "pip install 'bevfusion[" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
