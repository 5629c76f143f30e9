#!/usr/bin/env bash
# What user code sees: the official clients from PyPI against the simulator, and through the proxy
# with each fault.
#   tests/sdk/run.sh [target/release/brownout] [pytest options]
# SDK_PYTHON names another Python (default python3, 3.10 or later).
set -euo pipefail
binary=$(realpath "${1:-target/debug/brownout}")
[ $# -gt 0 ] && shift
cd "$(dirname "$0")"

venv=../../target/sdk-venv
if ! cmp -s requirements.txt "$venv/requirements.txt"; then
  "${SDK_PYTHON:-python3}" -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
  cp requirements.txt "$venv/requirements.txt"
fi
BROWNOUT="$binary" exec "$venv/bin/python" -m pytest --quiet -p no:cacheprovider "$@"
