"""Write what networks make of datasets, from this folder: `python test.py -opt ../options/x.yml`."""

import sys

from gradloom.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
