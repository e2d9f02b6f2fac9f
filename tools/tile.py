"""Draw a whole map to disk: the same as `bevfusion tile`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("tile"))
