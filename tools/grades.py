"""Print how steep recorded roads are: grades, crests and dips, and crossfall, from the GPS/IMU of KITTI raw drives.

    python tools/grades.py DRIVE...

A grade is the pitch of the vehicle, smoothed over 2 m, without the constant by which it differs from the rise of the
altitude over 5 m (the mounting of the IMU). Crests and dips are the runs in which a grade changes by more than 1.5 %
without turning back. Crossfall is the roll where the yaw turns by less than 4 mrad a metre. The numbers are quoted in
`bevfusion/simulate/relief.py`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from bevfusion.structures import DataError


def _smooth(values: np.ndarray, sigma_m: int) -> np.ndarray:
    reach = np.arange(-3 * sigma_m, 3 * sigma_m + 1)
    kernel = np.exp(-0.5 * (reach / sigma_m) ** 2)
    padded = np.pad(values, 3 * sigma_m, mode="reflect", reflect_type="odd")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def grades(drive: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(grade a metre, lengths of crests and dips in metres, crossfall where the road is straight) of a drive.

    Raises:
        DataError: if the folder holds no GPS/IMU of at least 40 m.
    """
    files = sorted((drive / "oxts" / "data").glob("*.txt"))
    if not files:
        raise DataError(f"{drive}: no oxts/data/*.txt, give folders of KITTI raw drives")
    values = np.array([[float(text) for text in file.read_text().split()[:6]] for file in files])
    lat, lon, altitude_m, roll, pitch, yaw = values.T
    north = np.deg2rad(lat) * 6_378_137.0
    east = np.deg2rad(lon) * 6_378_137.0 * np.cos(np.deg2rad(lat.mean()))
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(east), np.diff(north)))])
    moved = np.concatenate([[True], np.diff(travelled) > 1e-3])
    ticks = np.arange(0.0, travelled[-1], 1.0)
    if len(ticks) < 40:
        raise DataError(f"{drive}: {travelled[-1]:.0f} m of GPS/IMU are too few, 40 m are needed")
    z, nose, side, turn = (
        np.interp(ticks, travelled[moved], column[moved]) for column in (altitude_m, pitch, roll, np.unwrap(yaw))
    )
    rise = np.gradient(_smooth(z, 5))
    grade = -_smooth(nose, 2)
    grade -= (grade - rise).mean()
    bend = np.sign(_smooth(np.gradient(grade), 3))
    turns = np.concatenate([[0], np.flatnonzero(np.diff(bend)), [len(bend) - 1]])
    runs = np.diff(turns)[np.abs(np.diff(grade[turns])) > 0.015]
    straight = np.abs(_smooth(np.gradient(turn), 5)) < 0.004
    return grade, runs, side[straight]


def main() -> None:
    """Print a line a drive and one for all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drive", nargs="+", type=Path)
    rows: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    try:
        rows = [(drive.name, *grades(drive)) for drive in parser.parse_args().drive]
    except DataError as error:
        parser.exit(2, f"error: {error}\n")
    grade, runs, fall = (np.concatenate([row[column] for row in rows]) for column in (1, 2, 3))
    rows.append(("all", grade, runs, fall))
    lines = [
        f"{'drive':28} {'m':>6} {'rms %':>6} {'>2 %':>6} {'>5 %':>6} {'>8 %':>6} {'most':>6}  crests/km, m  crossfall %"
    ]
    for name, grade, runs, fall in rows:
        shares = " ".join(f"{100.0 * np.mean(np.abs(grade) > limit):6.1f}" for limit in (0.02, 0.05, 0.08))
        bends = f"{1000.0 * len(runs) / len(grade):5.1f} {np.median(runs) if len(runs) else np.nan:5.0f}"
        falls = f"{100.0 * fall.mean():5.1f} +- {100.0 * fall.std():.1f}" if len(fall) else ""
        rms, most = 100.0 * np.sqrt(np.mean(grade**2)), 100.0 * np.abs(grade).max()
        lines.append(f"{name:28} {len(grade):6d} {rms:6.2f} {shares} {most:6.1f}  {bends}   {falls}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
