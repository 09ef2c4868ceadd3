"""Train the networks of an options file, from this folder: `python train.py -opt ../options/x.yml`."""

import sys

from gradloom.cli import main

if __name__ == "__main__":
    sys.exit(main())
