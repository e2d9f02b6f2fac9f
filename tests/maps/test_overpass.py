import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import osmium
import pytest

from bevfusion.geometry.geodesy import GeoPose
from bevfusion.maps.osm import read_osm
from bevfusion.maps.overpass import Box, cached_extract, fetch_extract
from bevfusion.structures import DataError
from tests.maps import overpass_server as server
from tests.maps.overpass_server import overpass_server

PLACE = GeoPose(49.0, 8.4)
BOX = Box.around([PLACE], 300.0)


def fetched(path: Path, url: str, box: Box = BOX, **options: Any) -> list[float]:
    """Fetch; the pauses that were made."""
    pauses: list[float] = []
    fetch_extract(box, path, url, sleep=pauses.append, **{"waits_s": (1.0, 2.0, 4.0), "timeout_s": 5.0, **options})
    return pauses


@pytest.mark.parametrize("suffix", [".osm.pbf", ".osm", ".osm.gz", ".osm.bz2"])
def test_an_extract_is_sorted_and_knows_its_box(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"town{suffix}"
    with overpass_server(server.data) as told:
        assert fetched(path, told.url) == []
    (query,) = told.queries
    assert query.startswith("[out:xml][timeout:5];")
    assert re.fullmatch(r"bevfusion/\S+ .*", told.agents[0])
    items = [(item.type_str(), item.id) for item in osmium.FileProcessor(str(path))]
    assert items == sorted(items, key=lambda item: ("nwr".index(item[0]), item[1]))
    assert len(items) == 14 + 4 + 1
    extract = read_osm(path)
    x0, y0, x1, y1 = extract.bounds_m
    assert (x0, y0, x1, y1) == pytest.approx((-300.0, -300.0, 300.0, 300.0), abs=0.1)
    assert [road.kind for road in extract.roads] == ["residential"]
    assert sorted(area.kind for area in extract.areas) == ["building", "vegetation"]
    (wood,) = (area for area in extract.areas if area.kind == "vegetation")
    assert len(wood.holes_m) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_box_reaches_as_far_as_asked() -> None:
    box = Box.around([GeoPose(60.0, 8.0), GeoPose(60.001, 8.004)], 500.0)
    width_m, height_m = box.size_m
    assert (width_m, height_m) == (pytest.approx(1223.0, abs=2.0), pytest.approx(1111.0, abs=2.0))
    assert box.holds(Box.around([GeoPose(60.0, 8.0)], 500.0))
    assert not box.holds(Box.around([GeoPose(60.0, 8.0)], 510.0))


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([], "without a place"),
        ([GeoPose(49.0, 8.4), GeoPose(49.5, 8.4)], "55.* km is too large"),
        ([GeoPose(0.0, 0.0), GeoPose(49.0, 8.4)], "too large"),
        ([GeoPose(-17.0, 179.999), GeoPose(-17.0, -179.999)], "antimeridian"),
        ([GeoPose(-17.0, 179.9999)], "antimeridian"),
        ([GeoPose(89.99, 8.4)], "pole"),
    ],
)
def test_boxes_that_are_not_asked_for(places: list[GeoPose], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Box.around(places, 100.0)


@pytest.mark.parametrize(
    "trouble",
    [
        server.busy(429),
        server.busy(504),
        server.busy(503),
        server.broken_off,
        server.cut,
        server.hung_up,
    ],
)
def test_a_busy_server_is_asked_again(trouble: server.Answer, tmp_path: Path) -> None:
    path = tmp_path / "town.osm.pbf"
    with overpass_server(trouble, trouble, server.data) as told:
        assert fetched(path, told.url) == [1.0, 2.0]
    assert len(told.queries) == 3
    assert len(read_osm(path).roads) == 1


def test_the_server_says_how_long_to_wait(tmp_path: Path) -> None:
    with overpass_server(server.busy(429, Retry_After="17"), server.data) as told:
        assert fetched(tmp_path / "town.osm", told.url) == [17.0]


def test_a_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bevfusion.maps.overpass._GRACE_S", 0.2)
    with (
        overpass_server(server.silent) as told,
        pytest.raises(DataError, match="does not answer in time, 2 times"),
    ):
        fetched(tmp_path / "town.osm", told.url, timeout_s=0.3, waits_s=(0.0,))


@pytest.mark.parametrize(
    ("trouble", "message", "requests"),
    [
        (server.busy(429), "too busy .status 429: runtime error: open64.*, 4 times", 4),
        (server.cut, "broke off, 4 times", 4),
        (server.remark, "did not finish .runtime error: Query timed out", 1),
        (server.bad_request, "status 400: runtime error: line 1: parse error", 1),
        (server.page, "says: Under maintenance", 1),
        (server.half, "half of the data: 5 nodes of its 4 ways", 1),
        (server.empty, "knows no ways", 1),
    ],
)
def test_what_is_no_whole_answer_is_refused(
    trouble: server.Answer, message: str, requests: int, tmp_path: Path
) -> None:
    path = tmp_path / "town.osm.pbf"
    with overpass_server(trouble) as told, pytest.raises(DataError, match=message) as caught:
        fetched(path, told.url)
    assert len(told.queries) == requests
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all(tmp_path: Path) -> None:
    with overpass_server(server.data) as told:
        url = told.url
    with pytest.raises(DataError, match="refused"):
        fetched(tmp_path / "town.osm", url, waits_s=())
    for address in ("file:///etc/passwd", "ftp://x/y", "overpass", ""):
        with pytest.raises(DataError, match="--overpass expects"):
            fetched(tmp_path / "town.osm", address)
    with pytest.raises(DataError, match="is written as"):
        fetched(tmp_path / "town.json", url)


def test_extracts_are_kept_with_date_and_attribution(tmp_path: Path) -> None:
    with overpass_server(server.data) as told:
        first = cached_extract(BOX, told.url, tmp_path)
        again = cached_extract(BOX, told.url, tmp_path)
        within = cached_extract(Box.around([PLACE], 200.0), told.url, tmp_path)
        assert len(told.queries) == 1
        wider = cached_extract(Box.around([PLACE], 400.0), told.url, tmp_path)
        assert len(told.queries) == 2
    assert first == again == within != wider
    about = json.loads(first.with_name(first.name.replace(".osm.pbf", ".json")).read_text())
    assert about["data_date"] == "2026-11-27T10:20:30Z"
    assert "OpenStreetMap contributors" in about["attribution"]
    assert datetime.now(timezone.utc) - datetime.fromisoformat(about["fetched"]) < timedelta(minutes=5)
    assert about["server"] == told.url


def test_of_a_cache_that_was_tampered_with_nothing_is_taken(tmp_path: Path) -> None:
    with overpass_server(server.data) as told:
        path = cached_extract(BOX, told.url, tmp_path)
        (about,) = tmp_path.glob("*.json")
        for text in ("", "[]", "{}", '{"box": 3}', '{"box": {"south": 1}}'):
            about.write_text(text)
            assert cached_extract(BOX, told.url, tmp_path) == path
        assert len(told.queries) == 6
        path.unlink()
        assert cached_extract(BOX, told.url, tmp_path) == path
        assert len(told.queries) == 7


def test_nothing_is_kept_of_a_refused_answer(tmp_path: Path) -> None:
    with overpass_server(server.remark, server.data) as told:
        with pytest.raises(DataError, match="did not finish"):
            cached_extract(BOX, told.url, tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert cached_extract(BOX, told.url, tmp_path).is_file()
