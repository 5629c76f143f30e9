"""Real servers on loopback: PostgreSQL and Redis. A test that needs one is skipped, in words, where it is
not installed. And a forwarder that remembers what passes."""

import contextlib
import socket

import pytest
import servers
from servers import pg_bin  # noqa: F401: for the tests

PATIENCE = 30


def skipping(start):
    """The same, for tests."""

    @contextlib.contextmanager
    def started(**options):
        try:
            server = start(**options)
            port = server.__enter__()
        except servers.Missing as missing:
            pytest.skip(str(missing))
        with contextlib.ExitStack() as stack:
            stack.push(server)
            yield port

    return started


postgres, pgvector = skipping(servers.postgres), skipping(servers.pgvector)
redis_server, chroma = skipping(servers.redis_server), skipping(servers.chroma)


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
