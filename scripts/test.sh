#!/usr/bin/env bash
# Installs Gradloom with its test tools into .venv and runs everything that CI runs.
set -euo pipefail
source "$(dirname "$0")/venv.sh" test
bash scripts/check.sh "$@"
