"""How far about a GNSS fix a vehicle is sought.

Receivers are too sure between houses: what walls reflect is not in the covariance, and errors come and go over many
seconds, so that no mean of fixes helps. Hence five standard deviations where two or three would do in the open.
"""

import math

UNSTATED_M = 20.0  # half the window, where the fix says nothing
LEAST_M, MOST_M = 10.0, 100.0
_STANDARD_DEVIATIONS = 5.0


def fix_window_m(std_m: float | None) -> float:
    """Half the window along east and north about a fix.

    Args:
        std_m: standard deviation of the fix along its worse axis; None, or nothing above zero: not stated.
    """
    if std_m is None or not math.isfinite(std_m) or std_m <= 0.0:
        return UNSTATED_M
    return min(max(_STANDARD_DEVIATIONS * std_m, LEAST_M), MOST_M)
