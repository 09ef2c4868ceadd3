"""Write what networks make of datasets: `python test.py -opt options/x.yml`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "codes"))

from gradloom.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
