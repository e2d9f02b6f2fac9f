"""What the node says of itself: one status with a fixed table of keys, and what makes it warn or err."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bevfusion.ros.parameters import NodeParameters

Level = Literal["ok", "warn", "error"]
State = Literal["inactive", "no map", "waiting", "searching", "following", "doubtful", "lost"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "error")  # 0, 1, 2 of diagnostic_msgs/DiagnosticStatus
REFUSED_IN_A_ROW = 10  # clouds: an error


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the table."""

    name: str
    meaning: str
    warns: str = ""
    errs: str = ""


KEYS: tuple[Key, ...] = (
    Key(
        "state",
        "inactive, no map, waiting (for a start), searching (the whole map), following, doubtful (a pose is held "
        "back), lost; there are a pose and TF while following only",
        "waiting, searching, doubtful",
        "no map, lost",
    ),
    Key("clouds_received", "messages on ~/points while active"),
    Key("clouds_processed", "of those, that went through the network"),
    Key("clouds_dropped", "replaced by a newer one before they were looked at", "more than half since the last report"),
    Key("clouds_late", "older than late_s on arrival; they are used all the same", "the last one"),
    Key(
        "clouds_refused",
        "empty, broken, of an unknown frame, out of order, or from the future",
        "the last one",
        "10 on end",
    ),
    Key("last_refusal", "why"),
    Key("silence_s", "since the last cloud", "longer than silence_s"),
    Key("delay_ms", "age of the last cloud on arrival, by the node's clock"),
    Key("decode_ms", "message to scan, for the last cloud"),
    Key("transform_ms", "wait for TF and odometry"),
    Key("step_ms", "network and filter", "longer than slow_ms"),
    Key("total_ms", "arrival to pose"),
    Key("poses", "poses published"),
    Key("confidence", "probability of being within 2 m and 4 degrees of the pose"),
    Key("position_std_m", "larger axis of the position's covariance"),
    Key("heading_std_deg", "of the heading"),
    Key("extrinsics", "parameter, tf or failed, for the last cloud", "", "failed"),
    Key("odometry", "used, absent (nobody publishes it), missing (at the stamp of the last cloud), off", "missing"),
    Key("tf", "map to odom, map to base, none, or unavailable (no tf2_msgs)", "unavailable though publish_tf is set"),
    Key("resets", "times that the clock went back"),
    Key("search", "tiles done / all of a search over the map"),
    Key("crashes", "bugs met by the worker; the log has them", "any"),
)
"""Every key of the status, in its order; `bevfusion/ros/README.md` shows the same table."""


@dataclass(slots=True)
class Health:
    """What the core counts and measures."""

    state: State = "no map"
    clouds_received: int = 0
    clouds_processed: int = 0
    clouds_dropped: int = 0
    clouds_late: int = 0
    clouds_refused: int = 0
    last_refusal: str = ""
    silence_s: float = 0.0
    delay_ms: float = 0.0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    poses: int = 0
    confidence: float | None = None
    position_std_m: float | None = None
    heading_std_deg: float | None = None
    extrinsics: str = ""
    odometry: str = "absent"
    tf: str = "none"
    resets: int = 0
    search: str = ""
    crashes: int = 0
    late: bool = False  # the last cloud
    refused_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The same as diagnostic_msgs/DiagnosticStatus."""

    level: Level
    message: str
    values: tuple[tuple[str, str], ...]


def diagnose(health: Health, before: Health, parameters: NodeParameters) -> Status:
    """The status.

    Args:
        health: as it is now.
        before: as it was at the last report.
        parameters: of the node, for the limits.
    """
    findings = list(_findings(health, before, parameters))
    level: Level = max((level for level, _ in findings), key=LEVELS.index, default="ok")
    worst = [text for at, text in findings if at == level]
    return Status(level, "; ".join(worst) or health.state, tuple((key.name, _value(health, key.name)) for key in KEYS))


def _findings(health: Health, before: Health, parameters: NodeParameters) -> list[tuple[Level, str]]:
    received = health.clouds_received - before.clouds_received
    dropped = health.clouds_dropped - before.clouds_dropped
    step_ms = health.stages_ms.get("step_ms", 0.0)
    active = health.state not in ("inactive", "no map")
    replay = ": is a log replayed? then set use_sim_time and play it with its clock" if health.delay_ms > 6e4 else ""
    checks: list[tuple[bool, Level, str]] = [
        (health.state == "no map", "error", "no map: set the parameter map or send ~/map_image"),
        (health.state == "lost", "error", "lost: no pose"),
        (health.state == "waiting", "warn", "waiting for a start: ~/initialpose, ~/fix or ~/relocalize"),
        (health.state == "searching", "warn", f"searching the map ({health.search or 'from the next cloud on'})"),
        (health.state == "doubtful", "warn", "doubtful: no pose"),
        (health.extrinsics == "failed", "error", f"no extrinsics: {health.last_refusal}"),
        (health.refused_in_a_row >= REFUSED_IN_A_ROW, "error", f"clouds are refused: {health.last_refusal}"),
        (0 < health.refused_in_a_row < REFUSED_IN_A_ROW, "warn", f"a cloud is refused: {health.last_refusal}"),
        (received > 1 and 2 * dropped > received, "warn", f"{dropped} of {received} clouds dropped"),
        (health.late, "warn", f"clouds are {1e-3 * health.delay_ms:.1f} s old{replay}"),
        (active and health.silence_s > parameters.silence_s, "warn", f"no cloud for {health.silence_s:.1f} s"),
        (active and step_ms > parameters.slow_ms, "warn", f"a step took {step_ms:.0f} ms"),
        (health.odometry == "missing", "warn", "no odometry at the stamp of the cloud"),
        (health.tf == "unavailable" and parameters.publish_tf, "warn", "no TF: tf2_msgs is not installed"),
        (health.crashes > 0, "warn", f"{health.crashes} clouds met a bug, see the log"),
    ]
    return [(level, text) for holds, level, text in checks if holds]


def _value(health: Health, name: str) -> str:
    value = health.stages_ms.get(name) if name in ("decode_ms", "transform_ms", "step_ms", "total_ms") else None
    if value is None and hasattr(health, name):
        value = getattr(health, name)
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
