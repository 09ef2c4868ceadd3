"""Write what a network makes of a film, from this folder: `python process_video.py -opt ../options/x.yml`."""

import sys

from gradloom.cli import main

if __name__ == "__main__":
    sys.exit(main(["process_video", *sys.argv[1:]]))
