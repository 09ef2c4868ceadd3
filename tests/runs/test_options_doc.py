"""The generated page of options is what the code says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_options_is_up_to_date() -> None:
    written = re.search(r"torch (\d+\.\d+)", (ROOT / "docs" / "options.md").read_text(encoding="utf-8"))
    assert written
    if not torch.__version__.startswith(f"{written[1]}."):
        pytest.skip(f"the page tells of the optimizers of torch {written[1]}; this is {torch.__version__}")
    command = [sys.executable, "scripts/options_doc.py", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
