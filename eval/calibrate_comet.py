"""Calibrate COMET's world: `python eval/calibrate_comet.py [runs/evidence]`; writes `comet` in reports/world.json."""

import logging
import sys
from pathlib import Path

from polysense.recipes import comet_calibration

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/evidence")
    print(comet_calibration.run(Path(__file__).parent / "reports", output))
