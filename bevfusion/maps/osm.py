"""OpenStreetMap files of any dialect -> `OsmMap`."""

from pathlib import Path

from bevfusion.maps.drawing import KEPT_KEYS
from bevfusion.maps.elements import ElementCollector, Elements
from bevfusion.maps.feature_builder import FeatureBuilder
from bevfusion.maps.features import OsmMap
from bevfusion.maps.osm_formats import PACKING_ERRORS, open_content, suffix_of
from bevfusion.maps.osm_json import read_json
from bevfusion.maps.osm_pbf import read_binary
from bevfusion.maps.osm_xml import XmlReader
from bevfusion.structures import DataError
from bevfusion.summary import InputSummary


def read_osm(path: Path) -> OsmMap:
    """Read an extract: roads, areas, lines and points above ground, in east-north metres about its centre.

    The file is taken for what it is, whatever its name says, and its elements in any order and dialect. Ways are cut
    where the file lacks their nodes; what lies in tunnels, under covers, under the ground or indoors is left out, and
    roads on bridges are marked. What was lost, left or assumed stands in the map's `summary`.

    Args:
        path: XML, PBF, o5m or JSON, plain or packed by gzip, bzip2, xz, zstd or zip.

    Raises:
        DataError: if the file is missing, broken, not OpenStreetMap, the answer of a server that stopped early, too
            wide, holds nothing to draw, or lacks most of what it should.
    """
    summary = InputSummary(path.name)
    return FeatureBuilder(_elements(path, summary), path, summary).build(_stem(path))


def _elements(path: Path, summary: InputSummary) -> Elements:
    collected = _collected(path, summary)
    _check_remarks(collected.remarks, path, summary)
    if collected.changes_only:
        summary.add("warning", "changes", "the file is a list of changes: what did not change is not on the map")
    return collected.settled(summary)


def _collected(path: Path, summary: InputSummary) -> ElementCollector:
    content, stream, packed = open_content(path, summary)
    collected = ElementCollector(KEPT_KEYS)
    try:
        with stream:
            if content == "xml":
                XmlReader(collected).read(stream)
            elif content == "json":
                read_json(stream, collected)
            else:
                read_binary(stream.read() if packed else path, content, collected)
    except (ValueError, KeyError, OverflowError, *PACKING_ERRORS) as error:
        reason = " ".join(str(error).split())
        reason = f"an element lacks its {reason}" if isinstance(error, KeyError) else reason
        raise DataError(f"{path} is not a readable OpenStreetMap file ({reason}); fetch or export it again") from error
    return collected


def _check_remarks(remarks: list[str], path: Path, summary: InputSummary) -> None:
    """Stop where the server says that it did not come to an end: such a map looks whole and is not."""
    for remark in remarks:
        if "error" in remark.lower() or "timed out" in remark.lower():
            raise DataError(f"{path} is not the whole answer of the server ({remark}); fetch it again")
        summary.add("warning", "remark", f"the server remarks: {remark}")


def _stem(path: Path) -> str:
    """File name without the suffix of its format."""
    return path.name[: len(path.name) - len(suffix_of(path) or "")]
