"""Fixtures for small OpenStreetMap files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.maps.osm_text import OsmText


@pytest.fixture
def osm_text() -> OsmText:
    return OsmText()


@pytest.fixture
def osm_text_without_box() -> OsmText:
    return OsmText(half_m=None)


@pytest.fixture
def write_osm(tmp_path: Path) -> Callable[[OsmText], Path]:
    def write(text: OsmText) -> Path:
        path = tmp_path / "small.osm"
        path.write_text(str(text), encoding="utf-8")
        return path

    return write
