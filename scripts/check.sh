#!/usr/bin/env bash
# Formatting, lint, types and tests: what CI runs. Needs what scripts/test.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff format --check codes tests scripts train.py setup.py
$bin/ruff check codes tests scripts train.py setup.py
$bin/mypy
# Several tests at a time, each on one thread, as two threads beside another process slow each other down.
OMP_NUM_THREADS=1 $bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
