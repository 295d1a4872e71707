"""`python -m polysense`: the command line."""

import sys

from polysense.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
