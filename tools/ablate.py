"""Train with every attention mechanism and compare: the same as `bevfusion ablate`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("ablate"))
