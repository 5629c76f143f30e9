#!/usr/bin/env bash
# Official clients (Python and Node) through the reverse proxy and the forward gateway, untouched and
# with a fault, against stand-ins for their providers and real stores.
#   tests/ways/run.sh [target/release/brownout]
# SDK_PYTHON names another Python (default python3, 3.10 or later). Without node the Node clients are
# skipped, and it says so.
set -euo pipefail
binary=$(realpath "${1:-target/debug/brownout}")
cd "$(dirname "$0")"
./install.sh
exec ../../target/ways-venv/bin/python check.py "$binary"
