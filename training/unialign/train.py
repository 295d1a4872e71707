"""`accelerate launch training/unialign/train.py --config world-incremental --output runs/unialign`."""

import sys

from polysense.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "unialign", *sys.argv[1:]]))
