#!/usr/bin/env bash
# Follows the first chapter of CONTRIBUTING.md to the letter, in a copy of the repository.
#   tests/contributing/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/contributing/run.py
