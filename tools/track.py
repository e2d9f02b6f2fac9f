"""Poses from a log without truth: the same as `bevfusion track`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("track"))
