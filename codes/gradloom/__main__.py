"""Run the command line as a module: `python -m gradloom -opt x.yml`."""

from gradloom.cli import console

if __name__ == "__main__":
    console()
