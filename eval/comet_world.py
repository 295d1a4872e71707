"""Reproduce COMET on the world: `python eval/comet_world.py [runs/evidence] [--beyond] [--methods a,b] [--seeds 0]`.

Finished cells are kept; those that began with other trained parts (of another machine) count as further seeds.
`--methods` computes those alone, none with an empty list, `--seeds` and `--orders` cells of those; the report is on
all that is there. `--beyond` adds another mediator and a chain of six senses. Calibrate first:
`python eval/calibrate_comet.py`.
"""

import logging
from functools import partial
from pathlib import Path

from polysense.recipes import comet_calibration, comet_variants, comet_world
from polysense.recipes.arguments import chosen_cells, reproduction_parser

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = reproduction_parser(__doc__, orders=comet_variants.EVERY_ORDER)
    parser.add_argument("--beyond", action="store_true", help="add what the paper has not")
    given = parser.parse_args()
    reports = Path(__file__).parent / "reports"
    check = partial(comet_calibration.check_calibrated, reports)
    print(comet_world.run(reports, given.output, check, only=chosen_cells(given), beyond=given.beyond))
