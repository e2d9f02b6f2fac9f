"""Single panels of the report's pictures, drawn on axes of matplotlib."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bevfusion.drawing import ESTIMATE, TRUTH

ROSE_SECTORS = 36
NEAR_DEG = 10.0


def heading_rose(axis: Any, heading_deg: Float[np.ndarray, " n"]) -> None:
    """Signed heading errors on a circle (polar axes), straight up for none; areas show shares, so a few are seen."""
    width_deg = 360.0 / ROSE_SECTORS
    sector = np.round(heading_deg / width_deg).astype(int) % ROSE_SECTORS
    percent = 100.0 * np.bincount(sector, minlength=ROSE_SECTORS) / max(1, len(heading_deg))
    angles_rad = np.radians(width_deg) * np.arange(ROSE_SECTORS)
    axis.bar(angles_rad, np.sqrt(percent), width=np.radians(width_deg), color=ESTIMATE, edgecolor="white")
    axis.set_theta_zero_location("N")
    marks = [mark for mark in (1, 10, 50, 100) if mark <= max(1.0, 4.0 * percent.max())]
    axis.set_yticks(np.sqrt(marks), [f"{mark} %" for mark in marks], fontsize=8)
    axis.set_thetagrids(range(0, 360, 45), [f"{a:+d}°" if a else "0°" for a in (0, 45, 90, 135, 180, -135, -90, -45)])
    axis.set_title(f"heading error, sectors of {width_deg:g}°")


def near_headings(axis: Any, heading_deg: Float[np.ndarray, " n"]) -> None:
    """The errors around zero, where the rose has a single bar."""
    near = heading_deg[np.abs(heading_deg) <= NEAR_DEG]
    bins = np.linspace(-NEAR_DEG, NEAR_DEG, 41)
    axis.hist(near, bins=bins, weights=np.full(len(near), 100.0 / max(1, len(heading_deg))), color=ESTIMATE)
    axis.axvline(0.0, color="0.4", linewidth=0.8)
    beyond = 100.0 * (1.0 - len(near) / max(1, len(heading_deg)))
    axis.set_title(f"within ±{NEAR_DEG:g}° ({beyond:.1f} % lie beyond)")
    axis.set_xlabel("heading error (deg), positive: turned too far left")
    axis.set_ylabel("answers (%)")
    axis.grid(alpha=0.3)


def reliability(axis: Any, credible_mass: Float[np.ndarray, " n"]) -> None:
    """How many truths credible regions of every size hold, against how many they should."""
    mass = np.sort(credible_mass)
    percent = 100.0 * np.arange(len(mass) + 1) / max(1, len(mass))
    axis.plot([0, 100], [0, 100], ":", color="0.3", label="honest")
    axis.step([0.0, *(100.0 * mass), 100.0], [*percent, percent[-1]], where="post", color=ESTIMATE, label="measured")
    for level in (68.0, 95.0):
        axis.axvline(level, color="0.7", linewidth=0.8)
    axis.set_xlim(0.0, 100.0)
    axis.set_ylim(0.0, 101.0)
    axis.set_xticks([0, 25, 50, 68, 95])
    axis.set_xlabel("size of the credible region (%)")
    axis.set_ylabel("truths inside (%)")
    axis.set_title("above the dotted line: too modest; below: too sure", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")


def runtimes(axis: Any, runtime_ms: Float[np.ndarray, " n"]) -> None:
    """A histogram; one very slow call (the first, often) does not squeeze the rest."""
    low, p50, p95, high = np.percentile(runtime_ms, (0, 50, 95, 100))
    edge = min(high, 3.0 * p95)
    axis.hist(np.minimum(runtime_ms, edge), bins=np.linspace(0.9 * low, 1.02 * edge + 1e-9, 41), color=TRUTH)
    for value, name in ((p50, "median"), (p95, "95th percentile")):
        axis.axvline(value, color=ESTIMATE, linestyle="-" if name == "median" else "--", label=f"{name} {value:.1f} ms")
    axis.set_xlabel("time a frame (ms)" + (f", up to {high:.0f} ms in the last bar" if high > edge else ""))
    axis.set_ylabel("answers")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")


def marginal(
    axis: Any,
    at: Float[np.ndarray, " n"],
    prob: Float[np.ndarray, " n"],
    marks: tuple[tuple[float, str, str], ...],
    label: str,
) -> None:
    """Probability along one axis of the volume, with (value, colour, name) of what is to be marked."""
    axis.step(at, 100.0 * prob, where="mid", color="black", linewidth=1.2)
    for value, colour, name in marks:
        axis.axvline(value, color=colour, linewidth=1.6, label=name)
    axis.set_ylim(bottom=0.0)
    axis.set_xlabel(label)
    axis.set_ylabel("probability (%)")
    axis.grid(alpha=0.3)


def cumulative(axis: Any, sizes: Float[np.ndarray, " n"], label: str, colour: str | None = None) -> None:
    """The share of values that are no larger than so much: from 0 %, and at 100 % up to the right border."""
    percent = 100.0 * np.arange(1, len(sizes) + 1) / len(sizes)
    axis.step([0.0, *np.sort(sizes), 1e6], [0.0, *percent, 100.0], where="post", color=colour, label=label)
    axis.set_ylim(0.0, 101.0)
    axis.grid(alpha=0.3)


def turned(axis: Any, turns_deg: Mapping[str, Float[np.ndarray, " n"]]) -> None:
    """How many answers turn by no more than so much, a curve for each of the names."""
    far_deg = max(1.0, *(float(np.percentile(values, 95)) for values in turns_deg.values()))
    for name, values in turns_deg.items():
        cumulative(axis, values, name)
    axis.set_xlim(0.0, far_deg)
    axis.set_xlabel("the heading found turns by (deg)")
    axis.set_ylabel("answers within (%)")
    axis.legend(loc="lower right")
