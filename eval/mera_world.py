"""Reproduce MERA on the world: `python eval/mera_world.py [runs/evidence] [--methods a,b] [--seeds 0]`.

Finished cells are kept; those that began with other trained parts (of another machine) count as further seeds.
`--methods` computes those alone, none with an empty list, `--seeds` cells of those seeds; the report is on all that is
there. `--beyond merging,unialign,six` adds other merge methods, one encoder for all senses, and a chain of six
senses. Calibrate first: `python eval/calibrate_mera.py`.
"""

import argparse
import logging
from functools import partial
from pathlib import Path

from polysense.recipes import mera_calibration, mera_world
from polysense.recipes.cells import Chosen

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--beyond", type=lambda text: text.split(","), default=())
    parser.add_argument("--methods", type=lambda text: [name for name in text.split(",") if name])
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    given = parser.parse_args()
    chosen = Chosen(methods=given.methods, seeds=given.seeds)
    reports = Path(__file__).parent / "reports"
    check = partial(mera_calibration.check_calibrated, reports)
    print(mera_world.run(reports, given.output, check, only=chosen, beyond=given.beyond))
