"""scripts/venv.sh makes .venv, whatever it finds there; in the interpreter's place stands a script that makes less."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
    *"import pip"*) test -e "$(dirname "$0")/pip" ;;
    *"-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/bin/pip ;;
    *"pip install"*) exit {code} ;;
esac
"""


def runs(folder: Path, code: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Source the script from elsewhere; return how it ended and what the interpreters were asked."""
    (folder / "scripts").mkdir(exist_ok=True)
    (folder / "scripts" / "venv.sh").write_text((ROOT / "scripts" / "venv.sh").read_text())
    if not (folder / "setup.py").exists():
        (folder / "setup.py").touch()
    log, python = folder / "log", folder / "python"
    log.write_text("")
    python.write_text(PYTHON.format(log=log, code=code))
    python.chmod(0o755)
    command = ["bash", "-euc", 'source "$0" demo; echo sourced', str(folder / "scripts" / "venv.sh")]
    ran = subprocess.run(
        command, cwd="/", env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)}, capture_output=True, text=True
    )
    return ran, [line for line in log.read_text().splitlines() if line.startswith("-m")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a 'folder' of mine"
    folder.mkdir()
    return folder


def half_made(venv: Path) -> None:
    """An environment without pip, as is left where the package that brings it is missing."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (venv / "bin" / "python").chmod(0o755)


def of_one_that_is_gone(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to("/nowhere/python")


@pytest.mark.parametrize("left", [None, half_made, of_one_that_is_gone])
def test_an_environment_that_is_not_there_or_not_finished_is_made(folder: Path, left) -> None:
    if left:
        left(folder / ".venv")
    ran, asked = runs(folder)
    assert (ran.returncode, ran.stdout) == (0, "sourced\n"), ran.stderr
    assert asked == ["-m venv --clear .venv", "-m pip install --quiet --disable-pip-version-check -e .[demo]"]


def test_one_that_is_there_is_taken_as_it_is(folder: Path) -> None:
    runs(folder)
    ran, asked = runs(folder)
    assert (ran.stdout, asked) == ("sourced\n", [])


def test_an_installation_that_fails_is_told_and_tried_again(folder: Path) -> None:
    ran, _ = runs(folder, code=1)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "cannot install what Gradloom needs; see above" in ran.stderr
    (folder / ".venv" / "bin" / "python").unlink()
    ran, asked = runs(folder)
    assert ran.stdout == "sourced\n" and asked[-1].startswith("-m pip install")
