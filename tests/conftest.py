"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from bevfusion.datasets.kitti import KittiRawDrive
from bevfusion.datasets.simulated import map_file, simulated_drive
from bevfusion.maps.source import MapSource, open_map
from bevfusion.simulate.drive import DriveOptions

# A shared machine stalls now and then: a slow example is no failure.
settings.register_profile("bevfusion", deadline=None)
settings.load_profile("bevfusion")

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads of each would mostly wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real drives and maps beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def town_drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[KittiRawDrive, MapSource]:
    """Six frames through an invented town by a small sensor, and the town's map."""
    cache = tmp_path_factory.mktemp("town")
    options = DriveOptions(sensor="vlp16", frames=6, spacing_m=12.0, columns=512)
    return simulated_drive("town:7", options, cache), open_map(map_file("town:7", cache))
