"""What the node counts, and what of it is said."""

import logging
import math
import threading

import numpy as np
import pytest

from bevfusion.geometry.se2 import SE2
from bevfusion.ros.diagnostics import Status
from bevfusion.ros.ledger import Ledger
from bevfusion.ros.mounting import PlanarPose
from bevfusion.ros.parameters import NodeParameters
from bevfusion.structures import PoseEstimate


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(NodeParameters())


def told(ledger: Ledger, *, active: bool = True, dropped: int = 0, tf_available: bool = True) -> Status:
    return ledger.report("following", active=active, search="", dropped=dropped, crashes=0, tf_available=tf_available)


def value(status: Status, key: str) -> str:
    return dict(status.values)[key]


def test_late_clouds_are_counted_and_only_the_last_one_warns(ledger: Ledger) -> None:
    ledger.arrived(5000.0)
    late = told(ledger)
    assert (value(late, "clouds_received"), value(late, "clouds_late")) == ("1", "1")
    assert "5.0 s old" in late.message
    ledger.arrived(10.0)
    assert value(told(ledger), "clouds_late") == "1"
    assert told(ledger).level == "ok"


def test_a_pose_and_what_is_known_of_it(ledger: Ledger) -> None:
    covariance = np.diag([0.04, 0.09, 0.01])
    estimate = PoseEstimate(SE2(1.0, 2.0, 0.0), covariance, math.radians(3.0), 0.75, SE2(0.0, 0.0, 0.0))
    ledger.processed(estimate, PlanarPose(SE2(1.0, 2.0, 0.0), covariance), {"step_ms": 12.5}, "map to odom")
    status = told(ledger)
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
    ledger.processed(estimate, None, {}, "none")  # too doubtful to say: nothing is left of the pose before
    status = told(ledger)
    assert (value(status, "poses"), value(status, "confidence"), value(status, "clouds_processed")) == ("1", "", "2")


def test_refusals_are_logged_once_on_end_and_end_with_a_cloud_that_is_used(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            ledger.refused("empty")
    assert caplog.text.count("a cloud is refused: empty") == 1
    assert told(ledger).level == "error"
    ledger.processed(None, None, {}, "none")
    assert told(ledger).level == "ok"
    assert value(told(ledger), "clouds_refused") == "10"


def test_other_messages_are_logged_once_a_reason(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for reason in ("odom of a trailer", "odom of a trailer", "a fix off the map"):
            ledger.refused_input(reason)
    assert [record.message for record in caplog.records] == ["odom of a trailer", "a fix off the map"]
    assert value(told(ledger), "last_refusal") == "a fix off the map"
    assert value(told(ledger), "clouds_refused") == "0"


def test_drops_count_from_the_last_report(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.arrived(0.0)
    assert "8 of 10 clouds dropped" in told(ledger, dropped=8).message
    for _ in range(10):
        ledger.arrived(0.0)
    assert told(ledger, dropped=9).level == "ok"


def test_silence_counts_while_active(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("bevfusion.ros.ledger.time.monotonic", lambda: now_s[0])
    ledger.starts()
    now_s[0] = 103.5
    assert value(told(ledger), "silence_s") == "3.500"
    assert value(told(ledger, active=False), "silence_s") == "0.000"
    assert ledger.arrived(0.0) == 103.5
    assert value(told(ledger), "silence_s") == "0.000"


def test_tf_that_cannot_be_broadcast_is_said(ledger: Ledger) -> None:
    assert value(told(ledger, tf_available=False), "tf") == "unavailable"
    assert value(told(ledger), "tf") == "none"  # and is no property of the clouds


def test_no_count_is_lost_between_threads(ledger: Ledger) -> None:
    def work() -> None:
        for _ in range(2000):
            ledger.arrived(0.0)
            ledger.refused("empty")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = told(ledger)
    assert (value(status, "clouds_received"), value(status, "clouds_refused")) == ("8000", "8000")
