"""Every recipe that is shipped would run."""

from pathlib import Path

import pytest
import torch

import gradloom
from gradloom.engine.preflight.look import look_ahead
from looking import lines

OPTIONS = Path(__file__).resolve().parents[3] / "options"


@pytest.mark.parametrize("file", sorted(OPTIONS.rglob("*.yml")), ids=lambda file: str(file.relative_to(OPTIONS)))
def test_a_recipe_has_no_faults_and_nothing_is_left_unknown(file: Path) -> None:
    report = look_ahead(gradloom.load(file), torch.device("cpu"))
    assert lines(report.faults) == lines(report.notices) == []
    assert report.memory
