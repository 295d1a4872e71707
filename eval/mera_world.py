"""Reproduce MERA on the world: `python eval/mera_world.py [runs/evidence] [--methods a,b] [--seeds 0]`.

Finished cells are kept; those that began with other trained parts (of another machine) count as further seeds.
`--methods` computes those alone, none with an empty list, `--seeds` and `--orders` cells of those; the report is on
all that is there. `--beyond merging,unialign,six` adds other merge methods, one encoder for all senses, and a chain of
six senses. Calibrate first: `python eval/calibrate_mera.py`.
"""

import logging
from functools import partial
from pathlib import Path

from polysense.recipes import mera_calibration, mera_world
from polysense.recipes.arguments import chosen_cells, names, reproduction_parser

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = reproduction_parser(__doc__, orders=mera_world.ORDERS)
    parser.add_argument("--beyond", type=names, default=(), metavar="A,B", help="add these")
    given = parser.parse_args()
    reports = Path(__file__).parent / "reports"
    check = partial(mera_calibration.check_calibrated, reports)
    print(mera_world.run(reports, given.output, check, only=chosen_cells(given), beyond=given.beyond))
