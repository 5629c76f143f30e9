#!/usr/bin/env bash
# Opens a report from file:// in headless Chromium with scripts off: the verdict and the chart must
# be there, and the picture must not be blank.
#   tests/report/run.sh brownout-report/report.html [picture.png]
set -euo pipefail
report=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
picture=${2:-$work/report.png}
browser=(chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run
  --disable-background-networking --disable-component-update --disable-sync
  --hide-scrollbars --user-data-dir="$work/profile")
# The profile's own setting turns scripts off; the blink switch would stop headless mode itself.
mkdir -p "$work/profile/Default"
echo '{"profile":{"default_content_setting_values":{"javascript":2}}}' >"$work/profile/Default/Preferences"

timeout 60 "${browser[@]}" --dump-dom "file://$report" >"$work/dom.html" 2>/dev/null
timeout 60 "${browser[@]}" --window-size=1260,1000 --screenshot="$picture" "file://$report" >/dev/null 2>&1

python3 - "$work/dom.html" "$picture" "$report" <<'PY'
import pathlib, re, struct, sys, zlib
dom, picture, report = (pathlib.Path(name) for name in sys.argv[1:])
text = dom.read_text()
assert re.search(r"\b(PASS|FAIL|INCONCLUSIVE|ABORTED)\b", text), "no verdict in the page"
assert text.count("<svg") >= 1 and "<path" in text, "no chart in the page"
assert not re.search(r"""(?:src|href)=["']https?://""", report.read_text()), "the page names a network address"
assert report.stat().st_size < 2 * 1024 * 1024, "the report is larger than 2 MB"
data, at, pixels = picture.read_bytes(), 8, b""
while at < len(data):
    length, kind = struct.unpack(">I4s", data[at : at + 8])
    if kind == b"IDAT":
        pixels += data[at + 8 : at + 8 + length]
    at += 12 + length
assert len(set(zlib.decompress(pixels))) > 20, "the picture is blank"
print(f"report: 5 passed, 0 failed ({report.stat().st_size // 1024} KiB)")
PY
