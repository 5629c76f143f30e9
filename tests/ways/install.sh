#!/usr/bin/env bash
# Installs the official clients, pinned, where tests/ways and tests/netns look for them: target/ways-venv
# and tests/ways/node_modules. SDK_PYTHON names another Python (default python3, 3.10 or later).
set -euo pipefail
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
