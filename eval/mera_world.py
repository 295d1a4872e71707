"""Reproduce MERA on the world: `python eval/mera_world.py [runs/evidence] [--beyond]`; finished cells are kept.

`--beyond` adds one encoder for all senses, a chain of six senses and other merge methods. Calibrate first:
`python eval/calibrate_mera.py`.
"""

import logging
import sys
from functools import partial
from pathlib import Path

from polysense.recipes import mera_calibration, mera_world

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = [each for each in sys.argv[1:] if each != "--beyond"]
    output = Path(given[0] if given else "runs/evidence")
    reports = Path(__file__).parent / "reports"
    check = partial(mera_calibration.check_calibrated, reports)
    print(mera_world.run(reports, output, check, beyond="--beyond" in sys.argv))
