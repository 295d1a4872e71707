"""`accelerate launch training/comet/train.py --config world --output runs/comet`."""

import sys

from polysense.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "comet", *sys.argv[1:]]))
