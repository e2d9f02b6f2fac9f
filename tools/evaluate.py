"""Score a checkpoint on drives: the same as `bevfusion evaluate`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("evaluate"))
