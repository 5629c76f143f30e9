"""Redirected connections, end to end. Two namespaces: one with the app (user APP) and brownout
(user OURS) as its sidecar, one with what the app calls. Run it by tests/netns/run.sh."""

import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

OURS, APP = 31337, 31338
PORT = 15001
PATIENCE = 30
ID = os.getpid()
INSIDE, OUTSIDE = f"bo-app-{ID}", f"bo-net-{ID}"
V4, V6 = "10.99.0.1", "fd99::1"

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
faults:
  no-api: { target: api, error: { status: 503 } }
  no-plain: { target: plain, error: { status: 529 } }
  no-named: { target: named, error: { status: 502 } }
  slow-lines: { target: lines, latency: { add: 700ms } }
  slow-first: { target: first, latency: { add: 700ms } }
"""

failures = []
running = []


def call(*command, **options):
    options.setdefault("check", True)
    return subprocess.run([str(word) for word in command], timeout=PATIENCE, **options)


def inside(*command):
    return ["ip", "netns", "exec", INSIDE, *map(str, command)]


def as_user(uid, *command, capable=False):
    caps = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin"] if capable else []
    return inside("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *caps, *command)


def app(*command):
    """What a command of the app says, and how it ends."""
    done = subprocess.run(as_user(APP, *command), capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr


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


def check(what, holds, seen=None):
    print(f"  {'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        failures.append(what)
        print(f"       {seen}", flush=True)


def clean():
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
            process.wait(5)
    for name in (INSIDE, OUTSIDE):
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir("/etc/netns")
    shutil.rmtree(folder, ignore_errors=True)


def start(command, until, **options):
    """Starts a process and waits for its first line, or for what it listens on."""
    process = subprocess.Popen(command, **options)
    running.append(process)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{command[0:8]} ended with {process.returncode}")
        if until():
            return process
        time.sleep(0.05)
    raise SystemExit(f"{command} does not come up")


def listens(namespace, port):
    seen = call("ip", "netns", "exec", namespace, "ss", "-ltnH", f"sport = :{port}", capture_output=True, text=True)
    return str(port) in seen.stdout


def stop(process):
    process.terminate()
    process.wait(PATIENCE)
    running.remove(process)


def make_networks():
    for name in (INSIDE, OUTSIDE):
        call("ip", "netns", "add", name)
        hosts = pathlib.Path(f"/etc/netns/{name}")
        hosts.mkdir(parents=True)
        names = "api.test plain.test other.test some.alias.test"
        hosts.joinpath("hosts").write_text(
            f"127.0.0.1 localhost\n{V4} {names}\n{V6} six.test six.alias.test\n"
        )
        hosts.joinpath("resolv.conf").write_text("")
        call("ip", "-n", name, "link", "set", "lo", "up")
    call("ip", "link", "add", "up0", "netns", INSIDE, "type", "veth", "peer", "name", "up0", "netns", OUTSIDE)
    for name, v4, v6 in ((INSIDE, "10.99.0.2", "fd99::2"), (OUTSIDE, V4, V6)):
        call("ip", "-n", name, "addr", "add", f"{v4}/24", "dev", "up0")
        call("ip", "-n", name, "addr", "add", f"{v6}/64", "dev", "up0", "nodad")
        call("ip", "-n", name, "link", "set", "up0", "up")
    call("ip", "-n", INSIDE, "route", "add", "default", "via", V4)


def make_certificates():
    """An authority that only brownout is told of, and the upstream's certificate."""
    def openssl(*words):
        call("openssl", *words, cwd=folder, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=upstream authority", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "up.key", "-out", "up.csr", "-subj", "/CN=api.test")
    folder.joinpath("names").write_text("subjectAltName=DNS:api.test,DNS:other.test,DNS:six.test\n")
    openssl("x509", "-req", "-in", "up.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "up.pem",
            "-days", "2", "-extfile", "names", "-CAcreateserial")


def rules(tool, *options):
    printed = call(brownout, "redirect", "--print", tool, "--port", PORT, *options,
                   capture_output=True, text=True).stdout
    file = folder / "rules"
    file.write_text(printed)
    return file


def apply(tool, *options):
    file = rules(tool, *options)
    if tool == "nft":
        call(*inside("nft", "-f", file))
        for line in file.read_text().splitlines():
            if line.startswith("#   ip "):
                call(*inside(*line.removeprefix("#   ").split()))
    else:
        call(*inside("sh", file))


def remove(tool, *options):
    call(*inside("sh", rules(tool, *options, "--remove")))
    left = call(*inside("sh", "-c", "nft list ruleset; ip rule; ip -6 rule"), capture_output=True, text=True)
    words = left.stdout.lower()
    check("--remove takes all of it away", "brownout" not in words and "fwmark" not in words, left.stdout)


@contextlib.contextmanager
def sidecar(mode, user=OURS, mark=None):
    state = folder / f"state-{user}"
    state.mkdir(mode=0o700, exist_ok=True)
    os.chown(state, user, user)
    text = FILE.replace("MODE", mode)
    folder.joinpath("brownout.yaml").write_text(text)
    log = folder / "log"
    # Its own folder is the one place where it may write.
    environment = {"PATH": os.environ["PATH"], "HOME": str(state), "BROWNOUT_CA_DIR": str(state / "ca")}
    command = [brownout, "serve", folder / "brownout.yaml", "--admin", "127.0.0.1:8474"]
    if mark:
        command += ["--socket-mark", mark]
    with log.open("w") as out:
        process = start(
            as_user(user, *command, capable=mode == "tproxy" or mark is not None),
            lambda: listens(INSIDE, 8474),
            env=environment, stdout=out, stderr=out,
        )
    # As a sidecar's volume would give it to the app.
    shutil.copy(state / "ca" / "bundle.pem", folder / "bundle.pem")
    folder.joinpath("bundle.pem").chmod(0o644)
    try:
        yield log
    finally:
        stop(process)


def arm(*names):
    call(*inside(brownout, "stop"), stdout=subprocess.DEVNULL)
    for name in names:
        call(*inside(brownout, "arm", name), stdout=subprocess.DEVNULL)


def hits(fault):
    said = call(*inside(brownout, "status"), capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.split()[:1] == [fault])
    return int(line.split("hit ")[1].split()[0])


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
    arm("slow-lines", "slow-first")
    took, heard = talk(V4, 7000, "one")
    check("a fault on raw bytes", took >= 0.7 and "echo one" in heard, (took, heard))
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
    make_networks()
    make_certificates()
    certificate, key = folder / "up.pem", folder / "up.key"
    start(["ip", "netns", "exec", OUTSIDE, sys.executable, "tests/netns/upstreams.py", certificate, key],
          lambda: listens(OUTSIDE, 7002), stdout=subprocess.DEVNULL)
    for tool in ("nft", "iptables"):
        print(f"REDIRECT by {tool}", flush=True)
        with sidecar("redirect") as log:
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
    with sidecar("redirect", user=APP, mark=77) as log:
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
        with sidecar("tproxy") as log:
            apply(tool, "--uid", OURS, "--tproxy")
            everything(log)
            direct("tproxy")
            remove(tool, "--tproxy")


if len(sys.argv) != 2:
    raise SystemExit("usage: redirected.py BROWNOUT")
folder = pathlib.Path(tempfile.mkdtemp(prefix="bo-netns-"))
folder.chmod(0o755)
atexit.register(clean)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(1))
# Where both users can run it.
brownout = str(folder / "brownout")
shutil.copy(sys.argv[1], brownout)
os.chmod(brownout, 0o755)
httpx = os.environ.get("PYTHON_WITH_HTTPX")
main()
if failures:
    raise SystemExit(f"{len(failures)} of the checks failed: " + "; ".join(failures))
print("all checks hold")
