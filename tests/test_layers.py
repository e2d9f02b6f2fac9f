"""Imports point down: the order of the layers, read off the source."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bevfusion"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("choices", "files", "geometry", "machine", "progress", "summary", "tables"),
    ("nn", "structures"),
    ("array_files", "attention", "decompression", "extras", "metrics", "parsing", "precision"),
    ("lidar", "maps", "filters"),
    ("config", "drawing"),
    ("checkpoint",),
    ("fusion",),
    ("heads",),
    ("simulate", "classical", "direction"),
    ("datasets",),
    ("model",),
    ("build",),
    ("localizer",),
    ("introspection", "map_encoding", "sequence"),
    ("benchmark", "export", "ros", "training"),
    ("api", "streets", "tracking"),
    ("evaluation",),  # scores all of these: nothing that runs on a vehicle or trains may need it
    ("cli",),
    ("__main__",),
)
RANK = {box: rank for rank, boxes in enumerate(LAYERS) for box in boxes}
MODULES = sorted(PACKAGE.rglob("*.py"))

# What is heavy or optional enters in these places alone.
ONLY_IN = {
    "lightning": ("training",),
    "open3d": ("simulate/sensor.py",),
    "osmium": ("maps",),
    "matplotlib": ("drawing.py",),
    "rasterio": ("maps/raster.py",),
    "pyogrio": ("maps/vector.py",),
    "typer": ("cli",),
    "onnxruntime": ("export/runtime.py",),
    "rclpy": ("ros/node_ros2.py", "ros/player.py"),
    "rospy": ("ros/node_ros1.py", "ros/player.py"),
    "spconv": ("lidar/sparse_spconv.py",),
    "rerun": ("evaluation/viewer.py",),
    "ray": ("evaluation/jobs.py",),
    "mcap": ("tracking/outputs.py",),
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def box(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    own = box(path)
    if own == "__init__":  # imports when asked, and for type checkers
        assert not re.search("^(from|import) bevfusion", path.read_text(), re.MULTILINE)
        return
    for name in imported(path):
        if name.startswith("bevfusion."):
            other = name.split(".")[1]
            assert other == own or RANK[other] < RANK[own], f"{own} imports {other}, which is not below it"


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_where_they_belong(package: str):
    for path in MODULES:
        if any(name.split(".")[0] == package for name in imported(path)):
            place = path.relative_to(PACKAGE).as_posix()
            assert place.startswith(ONLY_IN[package]), f"{place} imports {package}"


def test_what_is_named_here_exists():
    """A rule about a file that is gone would hold for ever."""
    boxes = {box(path) for path in MODULES} - {"__init__"}
    assert set(RANK) == boxes
    places = [place for places in ONLY_IN.values() for place in places]
    assert [place for place in places if not (PACKAGE / place).exists()] == []


@pytest.mark.parametrize("room", ["benchmark", "export", "filters", "localizer", "ros", "sequence", "training"])
def test_evaluation_is_needed_by_nothing_that_runs_or_trains(room: str):
    mine = [path for path in MODULES if box(path) == room]
    assert mine
    for path in mine:
        assert not {name for name in imported(path) if name.startswith("bevfusion.evaluation")}, path


def test_no_file_is_called_utils():
    assert not [path for path in MODULES if path.stem in ("utils", "helpers", "common", "misc")]
