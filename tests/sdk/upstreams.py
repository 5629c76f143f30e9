"""Upstreams that answer from a list: what the simulator does not speak."""

import gzip
import http.server
import json
import threading
import zlib


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers by `server.answer(path, body)`: (status, headers, pieces)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.calls.append(self.path)
        status, headers, pieces = self.server.answer(self.path, json.loads(body or b"null"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if piece:
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def upstream(answer):
    """A running server; close it by its `stop`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.calls, server.answer = [], answer
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop():
        server.shutdown()
        server.server_close()

    server.stop = stop
    return server


def sse(*events, named=False):
    """Events as providers frame them."""
    pieces = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        data = event if isinstance(event, str) else json.dumps(event)
        pieces.append(f"{name}data: {data}\n\n".encode())
    return pieces


def gzipped(pieces):
    """Each piece flushed for itself, as a live stream is."""
    packer = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def ungzipped(data):
    return gzip.decompress(data)
