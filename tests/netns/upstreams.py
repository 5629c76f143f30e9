"""Stand-ins for what an app calls: HTTP and HTTPS that tell who was asked, an echo of lines, and a
server that speaks first. On all addresses, until it is ended."""

import http.server
import json
import socket
import socketserver
import ssl
import sys
import threading

CERTIFICATE, KEY = sys.argv[1:3]


class Told(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scheme = "http"

    def do_GET(self):
        said = {"scheme": self.scheme, "host": self.headers["host"], "peer": self.client_address[0]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class SecureTold(Told):
    scheme = "https"


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"echo " + line)
        # The client has closed its half; this still arrives.
        self.wfile.write(b"end\n")


class First(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"hello, I speak first\n")
        for line in self.rfile:
            self.wfile.write(b"echo " + line)


class Broken(socketserver.BaseRequestHandler):
    """Resets after a line."""

    def handle(self):
        self.request.recv(100)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.request.close()


def serve(port, handler, kind, secure=False):
    class Server(kind):
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 64

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = "upstream", port

    server = Server(("::", port), handler)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, KEY)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


serve(80, Told, http.server.ThreadingHTTPServer)
serve(8080, Told, http.server.ThreadingHTTPServer)
serve(443, SecureTold, http.server.ThreadingHTTPServer, secure=True)
serve(7000, Lines, socketserver.ThreadingTCPServer)
serve(7001, First, socketserver.ThreadingTCPServer)
serve(7002, Broken, socketserver.ThreadingTCPServer)
print("ready", flush=True)
threading.Event().wait()
