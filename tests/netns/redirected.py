"""Redirected connections, end to end. Two namespaces: one with the app (user APP) and brownout
(user OURS) as its sidecar, one with what the app calls. Run it by tests/netns/run.sh."""

import json
import os
import subprocess
import sys
import time

from scene import (
    APP, INSIDE, OURS, OUTSIDE, PORT, V4, V6, app, apply, arm, brownout, call, check, finish, folder, hits, inside, listens,
    make_certificates, make_networks, remove, sidecar, start,
)

FILE = """
version: 1
name: netns
gateways: { transparent: { listen: 15001, mode: MODE } }
dependencies:
  api: { kind: http, upstream: "https://api.test", upstream_tls: { ca_file: ca.pem } }
  plain: { kind: openai, upstream: "http://plain.test:8080" }
  named: { kind: http, upstream: "http://plain.test:80", hosts: ["*.alias.test"] }
  lines: { kind: tcp, upstream: "tcp://10.99.0.1:7000" }
  first: { kind: tcp, upstream: "tcp://10.99.0.1:7001" }
  hosted: { kind: tcp, upstream: "tcp://plain.test:7000", hosts: ["other.test:7010"] }
faults:
  no-api: { target: api, error: { status: 503 } }
  no-plain: { target: plain, error: { status: 529 } }
  no-named: { target: named, error: { status: 502 } }
  slow-lines: { target: lines, latency: { add: 700ms } }
  slow-hosted: { target: hosted, latency: { add: 700ms } }
  slow-first: { target: first, latency: { add: 700ms } }
"""

def file(mode):
    return FILE.replace("MODE", mode)


def curl(url, *options, ca=None):
    trust = ["--cacert", str(ca)] if ca else []
    code, out, err = app("curl", "-sS", "-m", "10", "-w", "\n%{http_code}", *trust, *options, url)
    body, _, status = out.rpartition("\n")
    return {"code": code, "status": status, "body": body, "error": err}


def told(answer):
    return json.loads(answer["body"]) if answer["status"] == "200" else answer


def talk(host, port, *lines, first=False):
    """A raw client: what it hears, and how long that took."""
    program = """
import socket, sys, time
host, port, first, *lines = sys.argv[1:]
began = time.monotonic()
peer = socket.create_connection((host, int(port)), timeout=10)
heard = b""
if first == "1":
    heard += peer.recv(1000)
for line in lines:
    peer.sendall(line.encode() + b"\\n")
    heard += peer.recv(1000)
peer.shutdown(socket.SHUT_WR)
try:
    while True:
        more = peer.recv(1000)
        if not more:
            break
        heard += more
except ConnectionResetError:
    heard += b"RESET"
print(f"{time.monotonic() - began:.3f}", heard.decode())
"""
    code, out, err = app("/usr/bin/python3", "-c", program, host, port, "1" if first else "0", *lines)
    if code != 0:
        return 0.0, f"failed: {err.strip().splitlines()[-1] if err.strip() else code}"
    took, _, heard = out.partition(" ")
    return float(took), heard.strip()


def everything(log):
    ours, theirs = folder / "bundle.pem", folder / "ca.pem"

    answer = told(curl("http://plain.test:8080/v1"))
    check("HTTP of a dependency passes", answer.get("host") == "plain.test:8080", answer)
    answer = told(curl("http://some.alias.test/"))
    check("HTTP by a name of `hosts`", answer.get("scheme") == "http", answer)
    answer = told(curl(f"http://{V4}:8080/"))
    check("HTTP by address", answer.get("scheme") == "http", answer)
    answer = told(curl("https://api.test/", ca=ours))
    check("HTTPS of a dependency with our certificate", answer.get("host") == "api.test", answer)
    answer = curl("https://api.test/", ca=theirs)
    check("an app without our authority refuses it", answer["code"] == 60, answer)
    text = log.read_text()
    check("and the log says what to do", "does not trust" in text and "SSL_CERT_FILE" in text, text)
    answer = told(curl("https://other.test/", ca=theirs))
    check("HTTPS of a stranger with its own certificate", answer.get("host") == "other.test", answer)
    answer = told(curl("http://other.test/"))
    check("HTTP of a stranger", answer.get("host") == "other.test", answer)
    _, heard = talk(V4, 7000, "one", "two")
    check("bytes both ways, and half-close", heard == "echo one\necho two\nend", heard)
    took, heard = talk(V4, 7001, "one", first=True)
    check("a server that speaks first", heard == "hello, I speak first\necho one", heard)
    check("without much delay", took < 5, took)
    _, heard = talk(V4, 7002, first=False, *["x"])
    check("a reset is passed on", "RESET" in heard or "reset" in heard, heard)
    answer = curl("http://10.99.0.1:9/")
    check("what is not there fails", answer["code"] in (7, 52, 56), answer)

    arm("no-api", "no-plain", "no-named")
    answer = curl("http://plain.test:8080/v1/models")
    check("a fault by Host", answer["status"] == "529", answer)
    answer = curl(f"http://{V4}:8080/v1/models")
    check("a fault by address", answer["status"] == "529", answer)
    answer = curl("http://some.alias.test/")
    check("a fault by a name of `hosts`", answer["status"] == "502", answer)
    answer = curl("https://api.test/", ca=ours)
    check("a fault below TLS", answer["status"] == "503", answer)
    answer = curl("https://api.test/", "--http1.1", ca=ours)
    check("a fault below TLS on HTTP/1.1", answer["status"] == "503", answer)
    check("and it is counted", hits("no-api") >= 2, hits("no-api"))
    answer = told(curl("https://other.test/", ca=theirs))
    check("no fault on a stranger at the same address", answer.get("host") == "other.test", answer)
    answer = curl("http://six.alias.test/")
    check("a fault over IPv6", answer["status"] == "502", answer)
    arm("slow-lines", "slow-first", "slow-hosted")
    took, heard = talk(V4, 7000, "one")
    check("a fault on raw bytes", took >= 0.7 and "echo one" in heard, (took, heard))
    took, heard = talk("other.test", 7010, "one")
    check("a fault on raw bytes by a host of `hosts`", took >= 0.7 and "echo one" in heard, (took, heard))
    took, heard = talk(V4, 7001, "one", first=True)
    check("a fault where the server speaks first", took >= 0.7 and "hello" in heard, (took, heard))
    arm()
    answer = told(curl("https://six.test/", ca=theirs))
    check("a stranger over IPv6", answer.get("host") == "six.test", answer)
    _, heard = talk(V6, 7000, "six")
    check("bytes over IPv6", heard == "echo six\nend", heard)
    check("nothing of our own came back", "own connections are redirected" not in log.read_text(), log.read_text())
    if httpx:
        program = "import httpx,sys; print(httpx.get(sys.argv[1], timeout=10).json()['host'])"
        code, out, err = app("env", f"SSL_CERT_FILE={ours}", httpx, "-c", program, "https://api.test/")
        check("Python's httpx", out.strip() == "api.test", err or out)
    else:
        print("  SKIPPED: PYTHON_WITH_HTTPX names no Python that every user can run", flush=True)


def direct(mode):
    for address in ("127.0.0.1", "[::1]"):
        answer = curl(f"http://{address}:{PORT}/")
        check(f"a direct call to {address} is told so ({mode})", answer["status"] == "421" and "transparent" in answer["body"], answer)


def quic():
    program = "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(3);s.connect(('10.99.0.1',443));s.send(b'x');s.recv(10)"
    _, _, err = app("/usr/bin/python3", "-c", program)
    check("QUIC is refused at once", "Refused" in err or "refused" in err or "PermissionError" in err, err)


def forbidden(log):
    # Rules that leave nothing out: the gateway itself must refuse.
    call(*inside("nft", "add table inet bad; add chain inet bad o { type nat hook output priority -110; };"
                 f" add rule inet bad o ip daddr 169.254.0.0/16 meta skuid {APP} tcp dport 80 redirect to :{PORT}"))
    call("ip", "-n", INSIDE, "route", "add", "169.254.0.0/16", "dev", "up0")
    answer = curl("http://169.254.169.254/latest/meta-data/")
    named = "169.254.169.254 is link-local" in log.read_text()
    check("metadata addresses are refused", named and answer["status"] == "000", answer)
    call(*inside("nft", "delete table inet bad"))
    call("ip", "-n", INSIDE, "route", "del", "169.254.0.0/16", "dev", "up0")


def looped(log):
    """Rules that forget to leave out our own user."""
    apply("nft", "--uid", APP + 5)
    answer = curl("http://other.test/")
    check("a loop ends at once", answer["status"] != "200", answer)
    deadline = time.monotonic() + 5
    while "own connections are redirected" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    check("and is named", "own connections are redirected" in log.read_text(), log.read_text())
    remove("nft")


def main():
    make_networks("api.test plain.test other.test some.alias.test", "six.test six.alias.test")
    make_certificates(["api.test", "other.test", "six.test"])
    certificate, key = folder / "up.pem", folder / "up.key"
    start(["ip", "netns", "exec", OUTSIDE, sys.executable, "tests/netns/upstreams.py", certificate, key],
          lambda: listens(OUTSIDE, 7002), stdout=subprocess.DEVNULL)
    for tool in ("nft", "iptables"):
        print(f"REDIRECT by {tool}", flush=True)
        with sidecar(file("redirect")) as log:
            apply(tool, "--uid", OURS)
            everything(log)
            direct("redirect")
            quic()
            if tool == "nft":
                forbidden(log)
            remove(tool)
            if tool == "nft":
                looped(log)
    print("REDIRECT by nft, for some ports, our own connections by their mark", flush=True)
    with sidecar(file("redirect"), user=APP, mark=77) as log:
        apply("nft", "--mark", 77, "--ports", "443,8080")
        arm("no-api", "no-named")
        answer = curl("https://api.test/", ca=folder / "bundle.pem")
        check("a fault on a port that is redirected", answer["status"] == "503", answer)
        answer = told(curl("http://some.alias.test/"))
        check("none on one that is not", answer.get("scheme") == "http", answer)
        answer = told(curl("http://plain.test:8080/"))
        check("the app may be of our own user", answer.get("scheme") == "http", answer)
        remove("nft")
    for tool in ("nft", "iptables"):
        print(f"TPROXY by {tool}", flush=True)
        with sidecar(file("tproxy"), capable=True) as log:
            apply(tool, "--uid", OURS, "--tproxy")
            everything(log)
            direct("tproxy")
            remove(tool, "--tproxy")


httpx = os.environ.get("PYTHON_WITH_HTTPX")
main()
finish()
