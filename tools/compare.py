"""Set two evaluation runs side by side: the same as `bevfusion compare`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("compare"))
