"""The command line, a file for each group of subcommands."""

from bevfusion.cli.entry import main

__all__ = ["main"]
