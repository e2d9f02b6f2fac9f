"""Find scans on a map: the same as `bevfusion locate`."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main("locate"))
