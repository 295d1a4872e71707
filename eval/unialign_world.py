"""Reproduce UniAlign on the world: `python eval/unialign_world.py [runs/evidence] [--methods a,b] [--seeds 0]`.

Finished cells are kept; those that began with another anchor (of another machine) count as further seeds. `--methods`
computes those alone, none with an empty list, `--seeds` cells of those seeds; the report is on all that is there.
Calibrate first: `python eval/calibrate.py`.
"""

import logging
from functools import partial
from pathlib import Path

from polysense.recipes import calibration, unialign_world
from polysense.recipes.arguments import chosen_cells, reproduction_parser

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = reproduction_parser(__doc__).parse_args()
    reports = Path(__file__).parent / "reports"
    check = partial(calibration.check_frozen, reports)
    print(unialign_world.run(reports, given.output, check, only=chosen_cells(given)))
