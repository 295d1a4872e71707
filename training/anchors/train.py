"""`accelerate launch training/anchors/train.py --config clip --output runs/anchor`."""

import sys

from polysense.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "anchors", *sys.argv[1:]]))
