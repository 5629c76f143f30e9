#!/usr/bin/env bash
# The transparent gateway with real redirection: network namespaces of its own, rules as
# `brownout redirect --print` gives them, an app as another user; then the official clients. It needs root and Debian's
# packages nftables and iptables; where it cannot run it says so and succeeds. Everything it makes
# is removed, also after a failure.
#   tests/netns/run.sh target/debug/brownout
set -euo pipefail
cd "$(dirname "$0")/../.."
brownout=$(realpath "${1:-target/debug/brownout}")

skip() {
  printf 'SKIPPED: redirection in network namespaces: %s\n' "$*" >&2
  exit 0
}
[ "$(uname)" = Linux ] || skip "it is a matter of Linux"
[ "$(id -u)" = 0 ] || skip "it needs root"
need=()
command -v nft >/dev/null || need+=(nftables)
command -v iptables >/dev/null || need+=(iptables)
command -v ip >/dev/null || need+=(iproute2)
command -v curl >/dev/null || need+=(curl)
command -v openssl >/dev/null || need+=(openssl)
if [ ${#need[@]} -gt 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null || true
fi
for tool in nft iptables ip6tables ip curl openssl setpriv python3; do
  command -v "$tool" >/dev/null || skip "\`$tool\` is not here"
done
probe="bo-probe-$$"
ip netns add "$probe" 2>/dev/null || skip "namespaces cannot be made here"
possible=$(ip netns exec "$probe" sh -c '
  nft "add table inet p; add chain inet p o { type nat hook output priority 0; }; add rule inet p o tcp dport 1 redirect to :2" &&
  iptables -t nat -A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 2 && echo yes' 2>/dev/null || true)
ip netns del "$probe"
[ "$possible" = yes ] || skip "the kernel has no NAT or no match by owner"
python3 tests/netns/redirected.py "$brownout"
tests/ways/install.sh
exec target/ways-venv/bin/python tests/netns/official.py "$brownout"
