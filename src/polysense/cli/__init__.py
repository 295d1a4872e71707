"""The command line: `polysense --help`."""

from polysense.cli.main import main

__all__ = ["main"]
