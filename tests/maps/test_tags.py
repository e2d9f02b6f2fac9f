import pytest

from bevfusion.maps.tags import earthwork, road_grade


@pytest.mark.parametrize(
    ("text", "grade"),
    [("7%", 0.07), ("-5,5 %", -0.055), ("+12%", 0.12), ("10", 0.1), ("10°", 0.17633), ("0%", 0.0)],
)
def test_inclines_with_a_number(text: str, grade: float) -> None:
    assert road_grade({"incline": text}) == pytest.approx(grade, abs=1e-5)


@pytest.mark.parametrize("text", ["up", "down", "", "steep", "90%", "1:10"])
def test_inclines_without_a_plausible_number(text: str) -> None:
    assert road_grade({"incline": text}) is None


def test_earthworks() -> None:
    assert earthwork({"embankment": "yes"}) == "embankment"
    assert earthwork({"cutting": "both", "embankment": "no"}) == "cutting"
    assert earthwork({"cutting": "no"}) == ""
