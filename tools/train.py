"""Train a network: the same as `bevfusion train`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("train"))
