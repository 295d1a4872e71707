"""Calibrate MERA's world: `python eval/calibrate_mera.py [runs/evidence]`; writes `mera` into reports/world.json."""

import logging
import sys
from pathlib import Path

from polysense.recipes import mera_calibration

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/evidence")
    print(mera_calibration.run(Path(__file__).parent / "reports", output))
