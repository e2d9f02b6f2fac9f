"""Measure speed and memory of the parts: the same as `bevfusion benchmark`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("benchmark"))
