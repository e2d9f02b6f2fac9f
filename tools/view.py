"""Set two evaluation runs side by side: the same as `bevfusion view`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("view"))
