import json
import logging

from bevfusion.summary import InputSummary


def summary() -> InputSummary:
    made = InputSummary("my.bag")
    made.add("used", "/points", "100 clouds", count=100)
    made.add("assumed", "intensity", "0 to 3000 scaled by its 99 % quantile")
    made.add("lost", "/points", "3 clouds are broken", count=3, total=100)
    return made


def test_a_note_is_kept_once():
    made = summary()
    made.add("used", "/points", "100 clouds", count=100)
    assert len(made.notes) == 3


def test_notes_are_found_by_kind():
    assert [note.subject for note in summary().of_kind("assumed", "lost")] == ["intensity", "/points"]


def test_json_leaves_out_what_is_not_known():
    written = json.loads(json.dumps(summary().as_dict()))
    assert written["source"] == "my.bag"
    assert written["notes"][1] == {
        "kind": "assumed",
        "subject": "intensity",
        "text": "0 to 3000 scaled by its 99 % quantile",
    }
    assert written["notes"][2]["total"] == 100


def test_what_is_lost_is_a_warning_and_what_is_used_is_not(caplog):
    with caplog.at_level(logging.DEBUG):
        summary().log(logging.getLogger("reader"))
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.DEBUG, logging.INFO, logging.WARNING]
    assert caplog.records[2].getMessage() == "my.bag: /points: 3 clouds are broken"
