#!/usr/bin/env bash
# Official clients (Python and Node) through the reverse proxy and the forward gateway, untouched and
# with a fault, against stand-ins for their providers.
#   tests/ways/run.sh [target/release/brownout]
# SDK_PYTHON names another Python (default python3, 3.10 or later). Without node the Node clients are
# skipped, and it says so.
set -euo pipefail
binary=$(realpath "${1:-target/debug/brownout}")
cd "$(dirname "$0")"

venv=../../target/ways-venv
if ! cmp -s requirements.txt "$venv/requirements.txt"; then
  "${SDK_PYTHON:-python3}" -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
  cp requirements.txt "$venv/requirements.txt"
fi
if command -v npm >/dev/null && [ ! -d node_modules ]; then
  npm install --silent --no-audit --no-fund --no-package-lock >/dev/null || echo "skip node clients: npm could not install them"
fi
exec "$venv/bin/python" check.py "$binary"
