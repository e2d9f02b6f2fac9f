"""What a bare installation can do, and what it says of the rest."""

import subprocess
import sys
from pathlib import Path

import pytest

from bevfusion.extras import MissingExtraError, is_installed, needs
from bevfusion.structures import DataError

TRAIN, SIMULATE, REPORT = ("lightning", "tensorboard"), ("open3d", "libusb_package"), ("matplotlib",)

# importing one of the named packages fails as if it were not installed
WITHOUT = """
import importlib.machinery, importlib.util, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
original = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {names!r} else original(name, package)
"""


def run_without(names: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT.format(names=names) + program], capture_output=True, text=True)


def test_a_missing_package_is_told_by_its_extra():
    told = r"flying needs the package wings: pip install 'bevfusion\[air\]'"
    with pytest.raises(MissingExtraError, match=told), needs("air", "flying"):
        raise ModuleNotFoundError("No module named 'wings'", name="wings.feather")


def test_it_is_bad_input_and_an_import_error():
    assert issubclass(MissingExtraError, DataError)
    assert issubclass(MissingExtraError, ImportError)


def test_a_fault_of_our_own_stays_what_it_is():
    with pytest.raises(ModuleNotFoundError, match="absent"), needs("air", "flying"):
        import bevfusion.absent  # noqa: F401


def test_installed_or_not():
    assert is_installed("numpy")
    assert not is_installed("no_such_package")


@pytest.mark.slow
def test_locating_evaluating_and_ros_import_without_any_extra():
    program = """
import bevfusion.api, bevfusion.cli.entry, bevfusion.evaluation.run, bevfusion.ros.core, bevfusion.tracking.run
import bevfusion.export.runtime, bevfusion.datasets.open, bevfusion.simulate.drive
"""
    ran = run_without((*TRAIN, *SIMULATE, *REPORT), program)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "words", "told"),
    [
        (TRAIN, ["train", "fusion_cbam"], "training needs the package lightning: pip install 'bevfusion[train]'"),
        (SIMULATE, ["simulate", "town:1", "--output", "OUT"], "pip install 'bevfusion[simulate]'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    tmp_path: Path, names: tuple[str, ...], words: list[str], told: str
):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    ran = run_without(names, f"from bevfusion.cli import main; raise SystemExit(main(None, {words!r}))")
    assert ran.returncode == 2, ran.stderr
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
