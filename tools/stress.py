"""Make a drive harder and see how the answers fare: the same as `bevfusion stress`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("stress"))
