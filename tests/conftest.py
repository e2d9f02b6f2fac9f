"""Fixtures that more than one folder of tests uses."""

from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine stalls now and then: a slow example is no failure.
settings.register_profile("bevfusion", deadline=None)
settings.load_profile("bevfusion")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real drives and maps beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA
