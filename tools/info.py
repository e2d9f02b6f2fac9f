"""Say what a drive is made of: the same as `bevfusion info`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("info"))
