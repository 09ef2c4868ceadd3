"""Options files with the keys of the ancestor's recipes compile, with notices only."""

from pathlib import Path

import pytest

import gradloom

FILES = sorted(Path(__file__).parent.glob("*.yml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_compiles(file: Path) -> None:
    assert gradloom.load(file).steps is not None
