"""Write a network for other runtimes: the same as `bevfusion export`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("export"))
