"""What docs/security.md promises of names and texts from elsewhere, and that nothing that is read can run code."""

import ast
import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from bevfusion.cli.entry import _PrintableFormatter
from bevfusion.cli.options import fail
from bevfusion.datasets import odometry
from bevfusion.datasets.nuscenes import open_nuscenes
from bevfusion.datasets.tracks import PoseTrack
from bevfusion.evaluation.results import ScoredEstimate, write_csv, write_trajectories
from bevfusion.files import file_name
from bevfusion.geometry.se2 import SE2
from bevfusion.tables import no_formula, printable
from tests.fuzz.inputs import nuscenes

PACKAGE = Path(__file__).parents[1] / "bevfusion"
HOSTILE = (
    *("../../evil", "/etc/passwd", "..", "a/b\\c", "=cmd|' /C calc'!A0", "\x1b]0;owned\x07", "<script>x</script>"),
    "n" * 999,
)


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a file, by the dotted name of what is called."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keyword(call: ast.Call, name: str) -> object:
    values = [item.value for item in call.keywords if item.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_reader_can_run_code(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert not imported & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
    for name, call in calls(path):
        assert name not in ("eval", "exec", "os.system", "os.popen"), name
        assert keyword(call, "shell") is not True, name
        if name == "torch.load":
            assert keyword(call, "weights_only") is True
        if name in ("np.load", "numpy.load", "np.lib.format.read_array"):
            assert keyword(call, "allow_pickle") is False
        if name.startswith("yaml.") and "load" in name and "safe_load" not in name:
            assert path.name == "parsing.py"  # with a loader of its own, a safe one
        if name == "trainer.fit":
            assert keyword(call, "weights_only") is True


def test_the_search_above_finds_what_it_should() -> None:
    found = dict(calls(PACKAGE / "training" / "run.py"))
    assert "torch.load" in found
    assert keyword(found["torch.load"], "weights_only") is True


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_no_paths(name: str, tmp_path: Path) -> None:
    plain = file_name(name)
    assert "/" not in plain
    assert "\\" not in plain
    assert (tmp_path / f"truth_{plain}.tum").resolve().parent == tmp_path
    assert len(plain) <= 100


@pytest.mark.parametrize("name", HOSTILE[:3])
def test_a_scene_with_a_hostile_name_keeps_its_odometry_in_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    nuscenes(root)
    (root / "v1.0-mini/scene.json").write_text(json.dumps([{"token": "a", "name": name, "log_token": "l"}]))
    drive = open_nuscenes(root)
    assert drive.name == name
    asked: list[Path] = []

    def load(file: Path, frames: int) -> PoseTrack:
        asked.append(file)
        return PoseTrack(np.arange(frames), np.zeros((frames, 2)), np.zeros(frames))

    monkeypatch.setattr(odometry, "_load", load)
    odometry.kiss_icp_track(drive, tmp_path / "cache")
    assert asked[0].resolve().parent == tmp_path / "cache"


def estimate(name: str) -> ScoredEstimate:
    return ScoredEstimate(
        drive_index=0,
        frame_index=0,
        drive=name,
        frame=0,
        stamp_ns=1,
        draw=0,
        map_index=0,
        map_name=name,
        prior=SE2(),
        truth=SE2(),
        estimate=SE2(),
        covariance=np.eye(3),
        confidence=0.5,
        runtime_ms=1.0,
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_cells_are_no_formulas_and_files_lie_in_their_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write_csv(folder / "predictions.csv", [estimate(name)])
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    for cell in (row["drive"], row["map"]):
        assert cell.removeprefix("'") == name
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    names = write_trajectories(folder, [estimate(name)])
    assert {path.name for path in folder.iterdir()} == {"predictions.csv", *names}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_numbers_below_zero_stay_numbers() -> None:
    assert no_formula("plain") == "plain"
    assert [no_formula(text) for text in ("=1", "+1", "-1", "@a", "\t=1", "\r=1")] == [
        *("'=1", "'+1", "'-1", "'@a", "'\t=1", "'\r=1")
    ]


def test_a_terminal_obeys_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb\x07\n\té") == "a?[2Jb?\n\té"
    assert fail("bad \x1b]0;owned\x07 name") == 2
    assert capsys.readouterr().err == "error: bad ?]0;owned? name\n"
    record = logging.LogRecord("x", logging.INFO, "", 0, "topic %s", ("\x1b[31mred",), None)
    assert _PrintableFormatter("%(message)s").format(record) == "topic ?[31mred"
