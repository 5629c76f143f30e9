"""Network namespaces for tests: one with the app (user APP) and brownout (user OURS) as its sidecar, one
with what the app calls. Everything that is made is removed when the program ends."""

import atexit
import contextlib
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


def make_networks(names, names6=""):
    for name in (INSIDE, OUTSIDE):
        call("ip", "netns", "add", name)
        hosts = pathlib.Path(f"/etc/netns/{name}")
        hosts.mkdir(parents=True)
        six = f"{V6} {names6}\n" if names6 else ""
        hosts.joinpath("hosts").write_text(f"127.0.0.1 localhost\n{V4} {names}\n{six}")
        hosts.joinpath("resolv.conf").write_text("")
        call("ip", "-n", name, "link", "set", "lo", "up")
    call("ip", "link", "add", "up0", "netns", INSIDE, "type", "veth", "peer", "name", "up0", "netns", OUTSIDE)
    for name, v4, v6 in ((INSIDE, "10.99.0.2", "fd99::2"), (OUTSIDE, V4, V6)):
        call("ip", "-n", name, "addr", "add", f"{v4}/24", "dev", "up0")
        call("ip", "-n", name, "addr", "add", f"{v6}/64", "dev", "up0", "nodad")
        call("ip", "-n", name, "link", "set", "up0", "up")
    call("ip", "-n", INSIDE, "route", "add", "default", "via", V4)


def make_certificates(names):
    """An authority that only brownout is told of, and the upstream's certificate for these names."""
    def openssl(*words):
        call("openssl", *words, cwd=folder, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=upstream authority", "-days", "2")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "up.key", "-out", "up.csr", "-subj", "/CN=upstream")
    names = ",".join(f"DNS:{name}" for name in names)
    folder.joinpath("names").write_text(f"subjectAltName={names}\n")
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
def sidecar(text, user=OURS, mark=None, capable=False):
    state = folder / f"state-{user}"
    state.mkdir(mode=0o700, exist_ok=True)
    os.chown(state, user, user)
    folder.joinpath("brownout.yaml").write_text(text)
    log = folder / "log"
    # Its own folder is the one place where it may write.
    environment = {"PATH": os.environ["PATH"], "HOME": str(state), "BROWNOUT_CA_DIR": str(state / "ca")}
    command = [brownout, "serve", folder / "brownout.yaml", "--admin", "127.0.0.1:8474"]
    if mark:
        command += ["--socket-mark", mark]
    with log.open("w") as out:
        process = start(
            as_user(user, *command, capable=capable or mark is not None),
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


if len(sys.argv) < 2:
    raise SystemExit(f"usage: {sys.argv[0]} BROWNOUT")
folder = pathlib.Path(tempfile.mkdtemp(prefix="bo-netns-"))
folder.chmod(0o755)
atexit.register(clean)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(1))
# Where both users can run it.
brownout = str(folder / "brownout")
shutil.copy(sys.argv[1], brownout)
os.chmod(brownout, 0o755)


def finish():
    """Says what came of it."""
    if failures:
        raise SystemExit(f"{len(failures)} of the checks failed: " + "; ".join(failures))
    print("all checks hold")
