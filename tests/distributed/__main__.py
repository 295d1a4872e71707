"""The claims about several processes: `python -m tests.distributed [NAME...]`.

A process that forks must not have computed with torch, so these run outside pytest; `test_processes.py` collects the
outcomes, printed as one JSON object of case name to "passed" or the reason why not.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import traceback
from pathlib import Path

import torch

from tests.distributed import cases, comet_cases, mera_cases
from tests.distributed.harness import CASES

MODULES = (cases, comet_cases, mera_cases)  # importing them fills CASES


def main() -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    outcomes = {}
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                CASES[name](Path(folder))
                outcomes[name] = "passed"
            except Exception:
                outcomes[name] = traceback.format_exc()
    sys.stdout.write(json.dumps(outcomes, indent=1) + "\n")


if __name__ == "__main__":
    main()
