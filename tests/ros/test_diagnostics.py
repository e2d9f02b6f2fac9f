from dataclasses import replace
from pathlib import Path

import pytest

import bevfusion.ros
from bevfusion.ros.diagnostics import KEYS, Health, diagnose
from bevfusion.ros.parameters import NodeParameters, parse_parameters

WELL = Health(state="following", clouds_received=100, clouds_processed=100, odometry="used", extrinsics="tf")


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "ok", "following"),
        ({"state": "no map"}, "error", "no map"),
        ({"state": "lost"}, "error", "lost"),
        ({"state": "waiting"}, "warn", "waiting"),
        ({"state": "searching", "search": "3/10"}, "warn", "3/10"),
        ({"state": "doubtful"}, "warn", "doubtful"),
        ({"state": "inactive", "silence_s": 100.0}, "ok", "inactive"),
        ({"extrinsics": "failed", "refused_in_a_row": 1}, "error", "no extrinsics"),
        ({"refused_in_a_row": 1, "last_refusal": "empty"}, "warn", "empty"),
        ({"refused_in_a_row": 10, "last_refusal": "empty"}, "error", "empty"),
        ({"clouds_dropped": 60}, "warn", "60 of 100 clouds dropped"),
        ({"clouds_dropped": 40}, "ok", "following"),
        ({"late": True, "delay_ms": 1500.0}, "warn", "1.5 s old"),
        ({"late": True, "delay_ms": 1e8}, "warn", "use_sim_time"),
        ({"silence_s": 2.5}, "warn", "no cloud for 2.5 s"),
        ({"stages_ms": {"step_ms": 300.0}}, "warn", "300 ms"),
        ({"odometry": "missing"}, "warn", "no odometry"),
        ({"odometry": "absent"}, "ok", "following"),
        ({"tf": "unavailable"}, "warn", "tf2_msgs"),
        ({"crashes": 1}, "warn", "bug"),
    ],
)
def test_what_warns_and_what_errs(changes, level, said):
    status = diagnose(replace(WELL, **changes), Health(), NodeParameters())
    assert status.level == level
    assert said in status.message


def test_an_error_is_not_hidden_among_warnings():
    status = diagnose(replace(WELL, state="lost", odometry="missing"), Health(), NodeParameters())
    assert (status.level, status.message) == ("error", "lost: no pose")


def test_only_what_happened_since_the_last_report_counts():
    health = replace(WELL, clouds_received=200, clouds_dropped=90)
    assert diagnose(health, Health(clouds_received=100, clouds_dropped=10), NodeParameters()).level == "warn"
    assert diagnose(health, Health(clouds_received=100, clouds_dropped=85), NodeParameters()).level == "ok"


def test_tf_may_be_unwanted():
    assert diagnose(replace(WELL, tf="unavailable"), Health(), parse_parameters({"publish_tf": False})).level == "ok"


def test_every_key_is_there_and_in_the_document():
    status = diagnose(WELL, Health(), NodeParameters())
    assert [key for key, _ in status.values] == [key.name for key in KEYS]
    document = (Path(bevfusion.ros.__file__).parent / "README.md").read_text()
    for key in KEYS:
        assert f"| `{key.name}` | {key.meaning} | {key.warns} | {key.errs} |" in document
