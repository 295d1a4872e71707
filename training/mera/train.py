"""`accelerate launch training/mera/train.py --config world --output runs/mera`."""

import sys

from polysense.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", "mera", *sys.argv[1:]]))
