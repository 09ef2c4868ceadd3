"""Reading options imports no torch."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gradloom.config

CODES = Path(__file__).resolve().parents[2] / "codes"
MODULES = [f"gradloom.config.{module.name}" for module in pkgutil.iter_modules(gradloom.config.__path__)]


@pytest.mark.parametrize("module", ["gradloom.cli", "all of gradloom.config"])
def test_torch_is_not_loaded_by(module: str) -> None:
    names = [module] if module == "gradloom.cli" else ["gradloom", "gradloom.errors", "gradloom.gates", *MODULES]
    script = f"import {', '.join(names)}, sys; assert 'torch' not in sys.modules; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=CODES, check=True)


def test_there_are_modules_to_import() -> None:
    assert "gradloom.config.binding" in MODULES
