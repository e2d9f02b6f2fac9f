"""Measure how far simulated scans are from real ones: the same as `bevfusion gap`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("gap"))
