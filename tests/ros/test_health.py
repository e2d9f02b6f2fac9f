"""What the node counts, and what of it is said."""

import logging
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bevfusion.ros
from bevfusion.geometry.se2 import SE2
from bevfusion.ros.extrinsics import PlanarPose
from bevfusion.ros.health import KEYS, Health, HealthMonitor, HealthReport, diagnose
from bevfusion.ros.parameters import NodeParameters, parse_parameters
from bevfusion.structures import PoseEstimate


@pytest.fixture
def monitor() -> HealthMonitor:
    return HealthMonitor(NodeParameters())


def told(monitor: HealthMonitor, *, active: bool = True, dropped: int = 0, tf_available: bool = True) -> HealthReport:
    return monitor.report("following", active=active, search="", dropped=dropped, crashes=0, tf_available=tf_available)


def value(status: HealthReport, key: str) -> str:
    return dict(status.values)[key]


def test_late_clouds_are_counted_and_only_the_last_one_warns(monitor: HealthMonitor) -> None:
    monitor.cloud_arrived(5000.0)
    late = told(monitor)
    assert (value(late, "clouds_received"), value(late, "clouds_late")) == ("1", "1")
    assert "5.0 s old" in late.message
    monitor.cloud_arrived(10.0)
    assert value(told(monitor), "clouds_late") == "1"
    assert told(monitor).level == "ok"


def test_a_pose_and_what_is_known_of_it(monitor: HealthMonitor) -> None:
    covariance = np.diag([0.04, 0.09, 0.01])
    estimate = PoseEstimate(SE2(1.0, 2.0, 0.0), covariance, math.radians(3.0), 0.75, SE2(0.0, 0.0, 0.0))
    monitor.cloud_processed(estimate, PlanarPose(SE2(1.0, 2.0, 0.0), covariance), {"step_ms": 12.5}, "map to odom")
    status = told(monitor)
    said = {
        key: value(status, key) for key in ("poses", "confidence", "position_std_m", "heading_std_deg", "step_ms", "tf")
    }
    assert said == {
        "poses": "1",
        "confidence": "0.750",
        "position_std_m": "0.300",  # the larger axis
        "heading_std_deg": "3.000",
        "step_ms": "12.500",
        "tf": "map to odom",
    }
    monitor.cloud_processed(estimate, None, {}, "none")  # too doubtful to say: nothing is left of the pose before
    status = told(monitor)
    assert (value(status, "poses"), value(status, "confidence"), value(status, "clouds_processed")) == ("1", "", "2")


def test_refusals_are_logged_once_on_end_and_end_with_a_cloud_that_is_used(
    monitor: HealthMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            monitor.cloud_refused("empty")
    assert caplog.text.count("a cloud is refused: empty") == 1
    assert told(monitor).level == "error"
    monitor.cloud_processed(None, None, {}, "none")
    assert told(monitor).level == "ok"
    assert value(told(monitor), "clouds_refused") == "10"


def test_other_messages_are_logged_once_a_reason(monitor: HealthMonitor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for reason in ("odom of a trailer", "odom of a trailer", "a fix off the map"):
            monitor.input_refused(reason)
    assert [record.message for record in caplog.records] == ["odom of a trailer", "a fix off the map"]
    assert value(told(monitor), "last_refusal") == "a fix off the map"
    assert value(told(monitor), "clouds_refused") == "0"


def test_drops_count_from_the_last_report(monitor: HealthMonitor) -> None:
    for _ in range(10):
        monitor.cloud_arrived(0.0)
    assert "8 of 10 clouds dropped" in told(monitor, dropped=8).message
    for _ in range(10):
        monitor.cloud_arrived(0.0)
    assert told(monitor, dropped=9).level == "ok"


def test_silence_counts_while_active(monitor: HealthMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("bevfusion.ros.health.time.monotonic", lambda: now_s[0])
    monitor.restart_silence()
    now_s[0] = 103.5
    assert value(told(monitor), "silence_s") == "3.500"
    assert value(told(monitor, active=False), "silence_s") == "0.000"
    assert monitor.cloud_arrived(0.0) == 103.5
    assert value(told(monitor), "silence_s") == "0.000"


def test_tf_that_cannot_be_broadcast_is_said(monitor: HealthMonitor) -> None:
    assert value(told(monitor, tf_available=False), "tf") == "unavailable"
    assert value(told(monitor), "tf") == "none"  # and is no property of the clouds


def test_no_count_is_lost_between_threads(monitor: HealthMonitor) -> None:
    def work() -> None:
        for _ in range(2000):
            monitor.cloud_arrived(0.0)
            monitor.cloud_refused("empty")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = told(monitor)
    assert (value(status, "clouds_received"), value(status, "clouds_refused")) == ("8000", "8000")


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
