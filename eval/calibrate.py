"""Calibrate and freeze the embedded world: `python eval/calibrate.py [runs/evidence]`; writes reports/world.json."""

import logging
import sys
from pathlib import Path

from polysense.recipes import calibration

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/evidence")
    print(calibration.run(Path(__file__).parent / "reports", output))
