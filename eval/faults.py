"""The full fault sets and their report in eval/reports/faults: `python eval/faults.py [--share 0.1] [--seed 0]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]  # the harness is part of the tests, which are not installed

from tests.faults.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
