#!/usr/bin/env bash
# Formatting, lint, types and tests: what CI runs. Needs what scripts/test.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff format --check codes tests scripts train.py setup.py
$bin/ruff check codes tests scripts train.py setup.py
$bin/mypy
$bin/python -m pytest "$@"
