"""Fetch an OpenStreetMap extract about a place: the same as `bevfusion map`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("map"))
