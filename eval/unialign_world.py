"""Reproduce UniAlign on the world: `python eval/unialign_world.py [runs/evidence]`; finished cells are kept."""

import logging
import sys
from functools import partial
from pathlib import Path

from polysense.recipes import calibration, unialign_world

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/evidence")
    reports = Path(__file__).parent / "reports"
    print(unialign_world.run(reports, output, partial(calibration.check_frozen, reports)))
