"""Write a simulated drive: the same as `bevfusion simulate`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("simulate"))
