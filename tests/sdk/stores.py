"""Real servers on loopback, on free ports, in folders of their own: PostgreSQL and Redis. A test that
needs one is skipped, in words, where it is not installed."""

import contextlib
import glob
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

import pytest

from conftest import free_port, wait_for

PATIENCE = 30


def pg_bin(name):
    """A program of the server's own, which Debian keeps out of the path."""
    for folder in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True):
        if os.path.exists(f"{folder}/{name}"):
            return f"{folder}/{name}"
    return shutil.which(name)


def unprivileged():
    """PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def postgres(*, tls=False, password=None):
    initdb, server = pg_bin("initdb"), pg_bin("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    folder = tempfile.mkdtemp(prefix="brownout-pg-")
    options = unprivileged()
    if options:
        shutil.chown(folder, "postgres", "postgres")
    data, port = f"{folder}/data", free_port()
    command = [initdb, "-D", data, "-U", "app", "--no-sync", "-A", "trust"]
    if password:
        secret = f"{folder}/password"
        with open(secret, "w") as file:
            file.write(password)
        if options:
            shutil.chown(secret, "postgres", "postgres")
        command[-1] = "scram-sha-256"
        command += [f"--pwfile={secret}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(command, check=True, **quiet, **options)
    settings = [f"-cport={port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={folder}"]
    settings += ["-cfsync=off", "-cmax_connections=50"]
    if tls:
        certificate(folder, options)
        settings += ["-cssl=on", f"-cssl_cert_file={folder}/cert.pem", f"-cssl_key_file={folder}/key.pem"]
    process = subprocess.Popen([server, "-D", data, *settings], **quiet, **options)
    try:
        wait_for(process, port)
        wait_ready(port, password)
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
            shutil.chown(f"{folder}/{name}", "postgres", "postgres")


def wait_ready(port, password):
    psycopg = pytest.importorskip("psycopg")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=app dbname=postgres password={password}").close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)


@contextlib.contextmanager
def redis_server():
    server = shutil.which("redis-server")
    if not server:
        pytest.skip("Redis is not installed (apt install redis-server)")
    folder, port = tempfile.mkdtemp(prefix="brownout-redis-"), free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


class Recorder:
    """A forwarder that remembers the bytes of each connection, both ways."""

    def __init__(self, target):
        import threading

        self.target = target
        self.seen = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        import threading

        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", self.target))
            record = (bytearray(), bytearray())
            self.seen.append(record)
            for source, sink, kept in ((client, upstream, record[0]), (upstream, client, record[1])):
                thread = threading.Thread(target=self.copy, args=(source, sink, kept), daemon=True)
                thread.start()
                self.threads.append(thread)

    def copy(self, source, sink, kept):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                kept.extend(piece)
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()
        for thread in self.threads:
            thread.join(PATIENCE)
