#!/usr/bin/env bash
# Runs the documentation's examples: every YAML block that is an experiment file passes `check`,
# and every shell block under `<!-- run -->` ends with 0.
#   tests/docs/run.sh target/release/brownout
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/../.."
exec python3 tests/docs/run.py "$binary" README.md CONTRIBUTING.md docs/*.md
