"""`python -m bevfusion SUBCOMMAND`: the command line where no script is on the path, as in a container."""

from bevfusion.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
